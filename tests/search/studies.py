"""Small studies for the tests of the search, and a journal in memory."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from raygen.config import Study
from raygen.config_file import load_space
from raygen.journal.records import Record, Suggest, as_json, stamped
from raygen.search.assignment import Assignment
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler

SPACE = """
family: gan
data: {source: shapes}
objective: fd_classifier
evaluation: {samples: 500}
budget: {trials: 30, kimg: 9}
scheduler: {name: asha, grace_kimg: 1, reduction_factor: 3}
finalists: {count: 0}
sampler: {startup_trials: 5}
seed: 3
space:
  loss:
    one_of:
      hinge: {}
      wasserstein: {penalty: gradient_penalty, penalty_weight: {float: [1, 30], log: true}}
  optimizer: {generator_lr: {float: [1e-4, 1e-2], log: true}}
  batch_size: {choice: [32, 64]}
"""


def make_study(folder: Path, *settings: str, text: str = SPACE) -> Study:
    """Return a study, some settings overridden as by --set."""
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path, settings)


class Memory(list[Record]):
    """A journal in memory, which can refuse to write after some records, as a killed process."""

    def __init__(self, records: Sequence[Record] = (), last: int | None = None) -> None:
        super().__init__(records)
        self.last = last

    def append(self, record: Record) -> Record:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.last is not None and len(self) >= self.last:
            raise KeyboardInterrupt
        written = stamped(record, float(len(self)))
        super().append(written)
        return written

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The records as a journal holds them."""
        return [as_json(record) for record in self]


# The least that a study must record of itself.
FACTS = {"objective": {"metric": "fd_classifier", "direction": "minimize"}}


def suggested(number: int) -> Suggest:
    """A trial without settings."""
    return Suggest(trial=number, config={}, params={}, seed=number)


def make_controller(study: Study, journal: Memory) -> Controller:
    """Return a controller that knows what the journal says."""
    controller = Controller(study, journal, Sampler(study, "test", None), lambda record: None)
    controller.replay(list(journal))
    controller.recover()
    return controller


def event(kimg: float, value: float | None, last: float, **more: Any) -> dict[str, Any]:
    """What a trial tells of a milestone; `last` is its budget in kimg."""
    metrics = {"fd_classifier": value, **more.pop("metrics", {})}
    return {
        "kimg": kimg, "seconds": kimg, "evaluation_seconds": 0.1, "images_per_second": 1000.0,
        "metrics": metrics, "sd": {}, "protocols": {name: {"metric": name} for name in metrics},
        "losses": {}, "diverged": None, "last": kimg >= last, "best": True,
        "checkpoints": {"last": 100, "best": 50}, **more,
    }  # fmt: skip


Curve = Callable[[dict[str, Any], int, float], float]


def run(controller: Controller, curve: Curve, at_once: int = 1) -> None:
    """Run a search to its end: `at_once` trials advance in turn, one milestone at a time."""
    milestones = controller.spec.milestones
    jobs: list[Assignment] = []
    while not controller.done:
        while len(jobs) < at_once and (job := controller.suggest()) is not None:
            controller.started(job.number, node="n", pid=1, device="cpu", kimg=job.reported)
            jobs.append(job)
        if not jobs:
            break
        job = jobs.pop(0)
        ahead = [kimg for kimg in milestones if kimg > job.reported]
        value = curve(job.config, job.seed, ahead[0])
        told = event(ahead[0], value, controller.spec.budget.kimg)
        if not controller.reported(job.number, told):
            jobs.append(job._replace(reported=ahead[0]))


def written(path: Path) -> list[dict[str, Any]]:
    """What is in a journal, whatever its records say; a line that is torn is left out."""
    records = []
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError):
            records.append(json.loads(line))
    return records
