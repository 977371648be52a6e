"""What a search finds for its compute: raygen, plain Ray Tune with Optuna, and random search.

    uv run python benchmarks/search_quality.py            # 20 minutes on two cores
    uv run python benchmarks/search_quality.py --quick    # under 5 minutes

Every method searches the recorded learning curves of benchmarks/curves.csv.gz (real GANs and VAEs,
see record_curves.py) with four simulated workers, until it has spent as many images as 40 full
trainings. raygen is its own controller, sampler and scheduler; the others are Ray's own
AsyncHyperBandScheduler and OptunaSearch, called as Ray Tune calls them. A method's value is the
noise-free objective of the configuration that it recommends: raygen the best of the fully trained,
by their best milestone; Ray the best last value of all trials, the default of get_best_result.
Repetition n has the same seed, and so the same luck of training, with every method.

The last line is one JSON object: final (median value), compute_to_target (full trainings from which
on the median stays as good as that of random is at the end; null if never) and diverged_share (of
the compute) by method, for the GANs; `families` has both.
"""

import argparse
import csv
import gzip
import hashlib
import json
import logging
import math
import multiprocessing
import os
import platform
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes share two cores

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

import raygen.search.sampler
from raygen.config import Study
from raygen.config_file import load_space
from raygen.metrics import METRICS
from raygen.replay import (
    WORKERS,
    DistanceScale,
    Params,
    Raygen,
    Recorded,
    Recording,
    Run,
    Step,
    Surrogate,
    merged,
    paired,
    seed_noise,
    simulate,
    variant,
)
from raygen.space import sample

ASHA: Any = AsyncHyperBandScheduler  # its types say whole numbers; it takes kimg as well
HERE = Path(__file__).parent
CURVES = HERE / "curves.csv.gz"
FAMILIES = ("gan", "vae")
COMPUTE = 40  # full trainings
CHECKPOINTS = (0.1, 0.25, 0.5, 1.0)
REPEATS, QUICK_REPEATS = 50, 16
TARGET = "random"
BASELINE = "ray_optuna"


class Way(NamedTuple):
    """A method to compare: raygen with some settings, or plain Ray if `ray` is set."""

    name: str
    scheduler: dict[str, Any] = {}
    sampler: dict[str, Any] = {}
    told: TrialState = TrialState.COMPLETE  # what raygen's sampler hears of a stopped trial
    ray: str = ""  # the sampler
    grace: int = 9  # the first rung is at this part of the budget
    scope: str = "last"  # of plain Ray's get_best_result


def ways() -> list[Way]:
    """Every method; the first four are the ones that a quick run compares."""
    return [
        Way("raygen"),
        Way("ray_optuna", ray="tpe"),
        Way("random", {"name": "none"}, ray="random"),
        Way("tpe_full", {"name": "none"}, ray="tpe"),
        Way("ray_optuna, grace 1/27", ray="tpe", grace=27),
        Way("ray_optuna, scope all", ray="tpe", scope="all"),
        Way("ray, random + asha", ray="random"),
        Way("told pruned", told=TrialState.PRUNED),
        Way("grace 1/27", grace=27),
        Way("grace 1/3", grace=3),
        Way("eta 2", {"reduction_factor": 2.0}),
        Way("eta 4", {"reduction_factor": 4.0}),
        Way("eta 2, grace 1/27", {"reduction_factor": 2.0}, grace=27),
        Way("eta 4, grace 1/27", {"reduction_factor": 4.0}, grace=27),
        Way("noise 0", {"noise": 0.0}),
        Way("noise 1", {"noise": 1.0}),
        Way("noise 2", {"noise": 2.0}),
        Way("startup 5", sampler={"startup_trials": 5}),
        Way("startup 20", sampler={"startup_trials": 20}),
        Way("median", {"name": "median"}),
        Way("no stopping", {"name": "none"}),
        Way("random sampler", sampler={"name": "random"}),
        Way("quasi_random sampler", sampler={"name": "quasi_random"}),
    ]


class PlainRay:
    """Ray Tune's scheduler and Optuna search, called as tune_controller.py calls them.

    Ray 2.60: a trial that ASHA stops is told as complete with its last value (lines 1427 and 1589),
    one whose value is nan is never stopped, and telling it raises inside of OptunaSearch, so that
    it stays running for ever.
    """

    def __init__(self, study: Study, way: Way, milestones: tuple[float, ...], seed: int) -> None:
        spec = study.spec
        self.study = study
        self.mode = METRICS[spec.objective].direction[:3]
        self.scheduler: Any = None
        self.milestones = milestones
        if not way.scheduler:
            grace = spec.budget.kimg / way.grace
            self.scheduler = ASHA(
                "kimg", "value", self.mode, spec.budget.kimg, grace, reduction_factor=3
            )
            # As raygen does, it hears of a trial at its rungs and at the milestones of the table.
            rungs = [grace * 3**k for k in range(4) if grace * 3**k < spec.budget.kimg * (1 - 1e-9)]
            self.milestones = merged((*rungs, spec.budget.kimg), milestones)
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        sampler = kinds[way.ray](seed=seed)
        self.search = OptunaSearch(self._space, "value", self.mode, sampler=sampler)
        self.drawn: dict[str, Any] = {}
        self.trials: dict[int, _RayTrial] = {}
        self.scope = way.scope
        self.values: dict[int, float] = {}

    def suggest(self) -> tuple[int, Params]:
        trial = _RayTrial(str(len(self.trials)))
        self.trials[len(self.trials)] = trial
        self.search.suggest(trial.trial_id)
        if self.scheduler:
            self.scheduler.on_trial_add(None, trial)
        return len(self.trials) - 1, self.drawn

    def reported(self, number: int, step: Step) -> bool:
        if step.broke:
            return False  # nobody looks before the next report
        trial = self.trials[number]
        trial.reports += 1
        result = {"kimg": step.kimg, "value": step.value, "training_iteration": trial.reports}
        before = self.values.get(number, math.nan) if self.scope == "all" else math.nan
        pick = np.fmin if self.mode == "min" else np.fmax
        self.values[number] = float(pick(before, step.value))
        stop = step.last
        if self.scheduler:
            stop = self.scheduler.on_trial_result(None, trial, result) == "STOP" or stop
        if stop:
            if self.scheduler:
                self.scheduler.on_trial_complete(None, trial, result)
            self.search.on_trial_complete(trial.trial_id, result)
        else:
            self.search.on_trial_result(trial.trial_id, result)
        return stop

    def chosen(self) -> int | None:
        """As ResultGrid.get_best_result: the best last value, nan and infinity left out."""
        found = {n: value for n, value in self.values.items() if math.isfinite(value)}
        pick = min if self.mode == "min" else max
        return pick(found, key=lambda number: found[number]) if found else None

    def _space(self, trial: Any) -> dict[str, Any]:
        draw = sample(self.study.space, trial)
        self.drawn = draw.parameters
        return draw.config


class _RayTrial:
    """What Ray's scheduler needs to know of a trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id, self.reports = trial_id, 0


def read_curves(family: str, path: Path = CURVES) -> Recording:
    """Read one family of the recorded curves; its first seeds are the table, all are the noise."""
    study = load_space(HERE / f"curves_{family}.yaml")
    milestones = study.spec.milestones
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["family"] == family]
    runs: dict[tuple[int, int], list[dict[str, str]]] = {}
    for row in rows:
        runs.setdefault((int(row["config"]), int(row["seed"])), []).append(row)
    configs: dict[int, list[Recorded]] = {}
    for (config, _), steps in sorted(runs.items()):
        configs.setdefault(config, []).append(_recorded(study, milestones, steps))
    first = tuple(curves[0] for curves in configs.values())
    groups = []
    for curves in configs.values():
        complete = [curve.values for curve in curves if not curve.diverged]
        if len(complete) > 1:
            groups.append(np.array(complete))
    minimise = METRICS[study.spec.objective].direction == "minimize"
    scale = DistanceScale.of(np.concatenate([curve.values for curve in first]), minimise)
    return Recording(study, milestones, first, seed_noise(groups, scale))


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


_surrogates: dict[str, tuple[Recording, Surrogate]] = {}  # of a worker process


def start_worker(path: Path) -> None:
    """Read the table once per process."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    for family in FAMILIES:
        recording = read_curves(family, path)
        _surrogates[family] = recording, Surrogate(recording)


def replay(job: tuple[str, Way, int]) -> tuple[str, str, int, Run]:
    """Run one method once."""
    family, way, seed = job
    recording, surrogate = _surrogates[family]
    budget = recording.study.spec.budget.kimg
    if way.ray:
        method = PlainRay(recording.study, way, recording.milestones, seed)
    else:
        raygen.search.sampler.STOPPED = way.told
        grace = {"grace_kimg": round(budget / way.grace, 6)}
        study = variant(
            recording.study, seed, {"name": "asha", **grace, **way.scheduler}, way.sampler
        )
        method = Raygen(study, recording.milestones)
    return family, way.name, seed, simulate(method, surrogate, COMPUTE * budget, seed)


def figures(runs: dict[str, list[Run]], budget: float, minimise: bool) -> dict[str, Any]:
    """One family: the target, and a record per method."""
    finals = {name: [run.at(math.inf) for run in each] for name, each in runs.items()}
    target = float(np.nanmedian(finals[TARGET]))
    methods = {}
    for name, each in runs.items():
        at = {}
        for part in CHECKPOINTS:
            values = [run.at(part * COMPUTE * budget) for run in each]
            low, middle, high = np.nanquantile(values, [0.25, 0.5, 0.75])
            at[f"{part:g}"] = {"median": middle, "low": low, "high": high}
        methods[name] = {
            "value_at": at,
            "difference": paired(finals[name], finals[BASELINE])._asdict(),
            "compute_to_target": compute_to_target(each, target, budget, minimise),
            "diverged_share": float(np.mean([run.diverged / run.spent[-1] for run in each])),
            "trials": float(np.median([run.trials for run in each])),
            "completed": float(np.median([run.completed for run in each])),
        }
    return {"target": target, "methods": methods}


def compute_to_target(
    runs: list[Run], target: float, budget: float, minimise: bool
) -> float | None:
    """Full trainings from which on the median of the runs stays at the target or better.

    Not the first time that a run touches it: what is recommended early on is often lucky, and
    then replaced by something worse that looks better.
    """
    grid = [part / 4 for part in range(1, 4 * COMPUTE)] + [math.inf]
    worst = math.inf if minimise else -math.inf
    values = [[run.at(at * budget) for run in runs] for at in grid]
    middles = np.median(np.nan_to_num(values, nan=worst), axis=1)
    good = middles <= target if minimise else middles >= target
    if not good[-1]:
        return None
    late = np.flatnonzero(~good)
    return min(grid[late[-1] + 1 if len(late) else 0], float(COMPUTE))


def fidelity(recording: Recording) -> dict[str, float]:
    """How well the table foretells a configuration that was left out of it.

    The rank correlation of the predicted and the recorded best value, and the share of the
    configurations of which it knows whether they diverge.
    """
    curves = recording.curves
    predicted, best, right = [], [], 0
    pick = np.nanmin if Surrogate(recording).minimise else np.nanmax
    for index, left_out in enumerate(curves):
        rest = recording._replace(curves=curves[:index] + curves[index + 1 :])
        found = Surrogate(rest).forecast(left_out.params, recording.milestones)
        right += bool(left_out.diverged) == (found.steps[-1].diverged is not None)
        if np.isfinite(left_out.values).any() and math.isfinite(found.truth):
            predicted.append(found.truth)
            best.append(pick(left_out.values))
    return {
        "rank_correlation": pd.Series(predicted).rank().corr(pd.Series(best).rank()),
        "divergence_known": right / len(curves),
        "diverged": sum(bool(curve.diverged) for curve in curves) / len(curves),
    }


def show(family: str, metric: str, found: dict[str, Any]) -> None:
    """Print one family as a table."""
    parts = "".join(f"{f'{part:.0%}':>9}" for part in CHECKPOINTS)
    heads = f"{'quartiles':>17}{'to target':>11}{'vs ray_optuna [95%]':>25}{'diverged':>10}"
    print(
        f"\n{family}: {metric}, target {found['target']:.4g}, after x of {COMPUTE} full trainings"
    )
    known = found["surrogate"]
    print(
        f"a configuration that is left out of the table: rank correlation "
        f"{known['rank_correlation']:.2f} of its best value, divergence known in "
        f"{known['divergence_known']:.0%} ({known['diverged']:.0%} diverged)"
    )
    print(f"{'':<24}{parts}{heads}{'trials':>8}{'full':>6}")
    for name, each in found["methods"].items():
        values = "".join(f"{at['median']:>9.4g}" for at in each["value_at"].values())
        last = each["value_at"]["1"]
        spread = f"{last['low']:.4g}-{last['high']:.4g}"
        reach = "never" if each["compute_to_target"] is None else f"{each['compute_to_target']:.1f}"
        mean, low, high = (100 * each["difference"][key] for key in ("mean", "low", "high"))
        print(
            f"{name:<24}{values}{spread:>17}{reach:>11}"
            f"{f'{mean:+.2f}% [{low:+.2f}, {high:+.2f}]':>25}{each['diverged_share']:>10.1%}"
            f"{each['trials']:>8.0f}{each['completed']:>6.0f}"
        )


def main() -> None:
    arguments = _parse()
    began = time.monotonic()
    chosen = ways()[:4] if arguments.quick else ways()
    repeats = QUICK_REPEATS if arguments.quick else REPEATS
    jobs = [(f, way, seed) for seed in range(repeats) for f in FAMILIES for way in chosen]
    runs: dict[str, dict[str, dict[int, Run]]] = {f: {w.name: {} for w in chosen} for f in FAMILIES}
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, start_worker, (arguments.curves,)) as pool:
        for number, (family, name, seed, run) in enumerate(pool.imap_unordered(replay, jobs), 1):
            runs[family][name][seed] = run
            if number % 50 == 0:
                print(f"{number}/{len(jobs)} {time.monotonic() - began:.0f} s", file=sys.stderr)
    families = {}
    for family in FAMILIES:
        spec = load_space(HERE / f"curves_{family}.yaml").spec
        minimise = METRICS[spec.objective].direction == "minimize"
        ordered = {n: [each[seed] for seed in range(repeats)] for n, each in runs[family].items()}
        families[family] = figures(ordered, spec.budget.kimg, minimise)
        families[family]["surrogate"] = fidelity(read_curves(family, arguments.curves))
        show(family, spec.objective, families[family])
    gan = families["gan"]["methods"]
    headline = {
        "final": {name: each["value_at"]["1"]["median"] for name, each in gan.items()},
        "compute_to_target": {name: each["compute_to_target"] for name, each in gan.items()},
        "diverged_share": {name: each["diverged_share"] for name, each in gan.items()},
    }
    report = {**headline, "families": families, **facts(arguments.curves, repeats, began)}
    report = _rounded(report)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))


def facts(curves: Path, repeats: int, began: float) -> dict[str, Any]:
    """When, where and on what this was measured."""
    return {
        "settings": {
            "repeats": repeats,
            "compute": COMPUTE,
            "workers": WORKERS,
            "clock": "seconds",
        },
        "curves_sha256": hashlib.sha256(curves.read_bytes()).hexdigest(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, {platform.system()}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("raygen", "ray", "optuna", "numpy")},
        },
        "seconds": round(time.monotonic() - began),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inside) for key, inside in value.items()}
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="4 methods, fewer repetitions")
    parser.add_argument("--out", type=Path, help="also write the figures to this file")
    parser.add_argument("--curves", type=Path, default=CURVES, help="another recording")
    return parser.parse_args()


if __name__ == "__main__":
    main()
