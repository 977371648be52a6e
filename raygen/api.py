"""raygen in Python: search, read a study back, and draw from its best model.

    import raygen

    study = raygen.tune("search_spaces/quickstart.yaml", set={"budget.trials": 4})
    study = raygen.load("runs/quickstart")
    study.best, study.config, study.trials
    images = study.generator()(16, seed=1)
    study.report("page.html")

Importing raygen loads none of this, nor torch, Ray or pandas.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raygen.callbacks import Callback as Callback
from raygen.callbacks import Event as Event
from raygen.errors import InputError, RaygenError
from raygen.results import (
    Model,
    Results,
    best_model,
    best_trial,
    finalists,
    load_results,
    train_config,
)
from raygen.study_folder import TrialFolder

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure
    from torch import Tensor

    from raygen.training.loop import Progress

Settings = Mapping[str, Any]


class LoadedStudy:
    """A study read from its folder, running or ended; `reload` reads it again."""

    def __init__(self, folder: str | Path) -> None:
        """Read it.

        Raises:
            InputError: the folder holds no readable study.
        """
        self.folder = Path(folder)
        self.results: Results = load_results(self.folder)

    def reload(self) -> "LoadedStudy":
        """Read it again, while it runs."""
        return LoadedStudy(self.folder)

    @property
    def info(self) -> dict[str, Any]:
        """What the study records of itself: its settings, data, state and how it was started."""
        return self.results.info

    @property
    def trials(self) -> "pd.DataFrame":
        """One row per trial: its state, its best value, and its settings."""
        return self.results.trials

    @property
    def history(self) -> "pd.DataFrame":
        """One row per trial and milestone: every metric with its standard error."""
        return self.results.history

    @property
    def rungs(self) -> "pd.DataFrame":
        """One row per decision of the scheduler."""
        return self.results.rungs

    @property
    def replicates(self) -> "pd.DataFrame":
        """One row per training of a finalist with another seed."""
        return self.results.replicates

    @property
    def finalists(self) -> "pd.DataFrame":
        """One row per finalist: its mean over seeds, and what is known of its being the best."""
        return finalists(self.results)

    @property
    def best(self) -> int:
        """The number of the trial with the best settings.

        Raises:
            InputError: no trial has a value yet.
        """
        return best_trial(self.results)

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the best trial, nested as in a search space."""
        return self.results.configs[self.best]

    @property
    def training(self) -> dict[str, Any]:
        """The training of the best trial with its data and budget: what `raygen.train` takes."""
        return train_config(self.results, self.best)

    @property
    def model(self) -> Model:
        """Which checkpoint to use: its run, trial, seed, value and kimg.

        Raises:
            InputError: no trial with a value has a checkpoint left.
        """
        model = best_model(self.results)
        if model is None:
            raise InputError(f"{self.folder}: no trial with a value has a checkpoint left")
        return model

    @property
    def figures(self) -> "dict[str, Figure]":
        """Every chart of the page, by its name, as a Plotly figure."""
        from raygen.report.charts import CHARTS

        return {chart.name: chart.draw(self.results) for chart in CHARTS}

    def report(self, path: str | Path | None = None) -> Path:
        """Write the page and return its path; by default reports/NAME.html."""
        from raygen.report.page import write_report

        return write_report(self.folder, Path(path) if path is not None else None)

    def generator(self, device: str | None = None) -> "Generator":
        """Return the best model, ready to draw; by default on a GPU if there is one."""
        return Generator(self.folder, device)

    def __repr__(self) -> str:
        state, trials = self.info.get("state"), len(self.trials)
        return f"LoadedStudy({str(self.folder)!r}: {state}, {trials} trials)"

    def _repr_html_(self) -> str:
        """The ten best trials, as a notebook shows them."""
        from raygen.results import ranked

        return ranked(self.results).head(10).to_html(index=False)


class Generator:
    """A trained generator or decoder: called with a number of images, or with latents."""

    def __init__(self, source: str | Path, device: str | None = None) -> None:
        """Open a study (its best model), a folder of a training or a checkpoint.

        Raises:
            InputError: nothing there to draw from, or it is not readable.
        """
        import torch

        from raygen.apply.source import open_source
        from raygen.compute import best_device

        where = torch.device(device) if device is not None else best_device()
        opened = open_source(Path(source), where)
        self.learner, self.content = opened.learner, opened.content
        self.classes: list[str] = list(opened.content["data"]["classes"])
        self.latent_dim = self.learner.latent_dim

    def __call__(
        self,
        drawn: "int | Tensor",
        *,
        seed: int = 0,
        label: int | str | None = None,
        temperature: float = 1.0,
    ) -> "Tensor":
        """Draw images: uint8 (n, c, h, w), on the device of the model.

        Of a number as `raygen generate` draws them with that seed, or of latents (n, latent_dim).
        `label` is a class, by number or name, where the model has classes; without one they take
        turns. `temperature` (above 0, at most 1.5) scales the standard deviation of the latents; of
        a VAE, that of each layer's prior.

        Raises:
            InputError: the model has no such class, or the temperature is out of range.
        """
        import torch

        from raygen.apply.explore import scaled
        from raygen.apply.generate import check_temperature, sample_chunks

        check_temperature("temperature", temperature)
        if isinstance(drawn, int) and label is None:
            chunks = sample_chunks(self.learner, drawn, seed, temperature=temperature)
            return torch.cat([images for images, _ in chunks])
        if isinstance(drawn, int):
            from raygen.metrics.model import draw_latents

            latents, _ = draw_latents(self.learner, seed, 0, drawn)
        else:
            latents = drawn.to(self.learner.device)
        turns = torch.arange(len(latents), device=latents.device) % len(self.classes)
        labels = turns if label is None else torch.full_like(turns, self._number(label))
        return self.learner.sample(scaled(latents, temperature), labels)

    def _number(self, label: int | str) -> int:
        number = self.classes.index(label) if label in self.classes else label
        if not isinstance(number, int) or not 0 <= number < len(self.classes):
            raise InputError(f"label {label!r}: the model has {', '.join(self.classes)}")
        return number


def load(study: str | Path) -> LoadedStudy:
    """Read a study back: a folder, or what `raygen tune --storage s3://…` keeps at a URI.

    Raises:
        InputError: no readable study there.
        ClusterError: the storage cannot be reached.
    """
    from raygen.storage import fetch, is_uri

    return LoadedStudy(fetch(str(study), weights=True) if is_uri(str(study)) else study)


def tune(
    space: str | Path | Settings,
    *,
    set: Settings | None = None,
    name: str | None = None,
    storage: str | Path = "runs",
    resume: str = "auto",
    warm_start: Sequence[str | Path] = (),
    address: str | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> LoadedStudy:
    """Search, or go on with a search, and return the study.

    As `raygen tune`: `space` is a YAML file, or its content as a mapping (which needs a `name`);
    `set` holds settings by dotted name. In a process that is connected to Ray the search runs
    there, else on `address`, on RAY_ADDRESS, or on a Ray of its own. `callbacks` hear of
    it beside those of the file, each in a thread of its own. A signal ends the search in
    order, as on the command line. The page is `study.report()`.

    Raises:
        InputError: a setting, the data or the study is not what it must be; nothing was started.
        RaygenError: the search failed; everything reported is saved.
    """
    from raygen.cluster import use_token

    use_token()
    from raygen.config_file import load_space
    from raygen.interrupts import Interrupts
    from raygen.progress import StudyProgress
    from raygen.search.location import place_study, resume_command
    from raygen.try_out import try_out
    from raygen.tuning.run import run_study

    with _settings_file(space, name) as file:
        study = load_space(file, _overrides(set))
        try_out(study)
        folder, bucket = place_study(str(storage), name, file.stem, resume, None)
        facts = {
            "command": "raygen.tune",
            "resume_command": resume_command(folder.space, folder.root.name, str(storage)),
            "space_file": file.name if isinstance(space, Mapping) else str(space),
        }
        with (
            Interrupts() as interrupts,
            StudyProgress(study, "quiet" if quiet else "normal") as progress,
        ):
            outcome = run_study(
                study, folder, facts, address, progress, [Path(each) for each in warm_start],
                None, bucket, interrupts, callbacks,
            )  # fmt: skip
    if outcome.state == "failed":
        raise RaygenError(f"{folder.root}: {outcome.reason}")
    return LoadedStudy(folder.root)


def train(
    config: str | Path | Settings,
    *,
    set: Settings | None = None,
    out: str | Path = "runs/train",
    resume: bool = False,
) -> "Iterator[Progress]":
    """Train one configuration in this process, and yield what was measured at each milestone.

    As `raygen train`: `config` is a YAML file, or its content, such as a study's `training`;
    checkpoints and pictures are written to `out`.

    Raises:
        InputError: a setting or the data is not what it must be.
    """
    from raygen.compute import best_device
    from raygen.config_file import load_train_job
    from raygen.training import single

    with _settings_file(config, "config") as file:
        job = load_train_job(file, _overrides(set))
    yield from single.train(job, TrialFolder(Path(out)), best_device(), resume)


def evaluate(
    source: str | Path,
    metrics: str | Sequence[str] | None = None,
    *,
    samples: int | None = None,
    seeds: Sequence[int] | None = None,
    data: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure a study's model, a checkpoint, a folder of images or an .npz, as `raygen evaluate`.

    Returns value, standard error, the values of each seed and the protocol, by metric.

    Raises:
        InputError: as `raygen evaluate`.
    """
    from raygen.apply.evaluate import evaluate as measure
    from raygen.compute import best_device

    names = [metrics] if isinstance(metrics, str) else metrics
    (result,) = measure([Path(source)], names, samples, seeds, data, best_device())
    return {value.metric: value._asdict() for value in result.values}


def _overrides(settings: Settings | None) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]


@contextmanager
def _settings_file(given: str | Path | Settings, name: str | None) -> Iterator[Path]:
    """The file of settings, beside which their code is; a mapping is written to one for a while."""
    from raygen.document import dump
    from raygen.plugins import look_in

    if not isinstance(given, Mapping):
        look_in(Path(given).parent)
        yield Path(given)
        return
    if name is None:
        raise InputError("a space that is a mapping needs a name")
    look_in(Path.cwd())
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / f"{name}.yaml"
        file.write_text(dump(json.loads(json.dumps(given))), encoding="utf-8")
        yield file
