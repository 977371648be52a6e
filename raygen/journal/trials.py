"""What a journal says of each trial: the one reading of its records that all others rest on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from raygen.best import Best
from raygen.journal.records import (
    Checkpoint,
    Collect,
    Decide,
    End,
    Final,
    OfTrial,
    Report,
    Retry,
    Start,
    Suggest,
)


@dataclass
class TrialState:
    """A trial of the search, or a replicate of a finalist, as its records tell it so far."""

    number: int
    config: dict[str, Any]  # nested, as it was sampled
    params: dict[str, Any]  # by the names of the search space
    seed: int
    by: str | None  # who suggested it
    of: int | None  # the finalist that it repeats with another seed
    best: Best
    parent: int | None = None  # whose weights it began with, as they were at `from_kimg`
    from_kimg: float = 0.0
    replaces: int | None = None
    now: list[float] | None = None  # the objectives at its last report
    state: str = "waiting"  # for a place to run; then running, then how it ended
    reason: str = ""
    node: str = ""
    kimg: float = 0.0  # at its last report
    seconds: float = 0.0  # of training and evaluation by then
    best_kimg: float | None = None
    sd: float | None = None  # standard error of the first objective at the best milestone
    variation: float | None = None  # of its samples then, as a share of that of real images
    diverged: str | None = None  # what the last report says
    decision: Decide | None = None  # the last one
    attempt: int = 0
    losses: int = 0  # times it was lost since it last reported
    workers: int = 1  # of this attempt
    accelerator: str = ""  # the kind of GPU of its workers
    worked: dict[str, float] = field(default_factory=dict)  # their seconds, by kind of GPU
    files: dict[str, int] = field(default_factory=dict)  # bytes of its checkpoints, by role

    @property
    def unfinished(self) -> bool:
        """Whether it is to go on, or may be."""
        return self.state in ("waiting", "running", "paused", "interrupted")

    @property
    def held(self) -> bool:
        """Whether its rung holds it: it goes on only if it is promoted."""
        return self.decision is not None and self.decision.decision == "pause"

    @property
    def values(self) -> list[float] | None:
        """The objectives at its best milestone; None before its first finite value."""
        return self.best.values


class Trials:
    """All trials and replicates of a study, by number."""

    def __init__(self, objectives: Sequence[str], minimise: bool, workers: int = 1) -> None:
        """`objectives`: their metrics, of which the first decides, minimised or not.

        `workers`: of each trial, where its attempts do not say.
        """
        self.objectives, self.minimise, self.workers = list(objectives), minimise, workers
        self.by_number: dict[int, TrialState] = {}
        # Kept as they come, since they are asked for at every turn of searches of any length: the
        # trials of the search, without the replicates of finalists, and those with checkpoints.
        self.searched: list[TrialState] = []
        self.with_files: dict[int, TrialState] = {}

    def __getitem__(self, number: int) -> TrialState:
        return self.by_number[number]

    def __iter__(self) -> Iterator[TrialState]:
        return iter(self.by_number.values())

    def __len__(self) -> int:
        return len(self.by_number)

    @property
    def copies(self) -> int:
        """Trials of a population that began as copies of others."""
        return sum(trial.parent is not None for trial in self)

    @property
    def replicates(self) -> list[TrialState]:
        return [trial for trial in self if trial.of is not None]

    def apply(self, record: OfTrial) -> TrialState:
        """Take in the next record of a trial; return what it says of the trial with it."""
        if isinstance(record, Suggest):
            best = Best(self.minimise)
            self.by_number[record.trial] = TrialState(
                record.trial, record.config, record.params, record.seed, record.by, record.of, best,
                record.parent, record.from_kimg, record.replaces, kimg=record.from_kimg,
            )  # fmt: skip
            if record.of is None:
                self.searched.append(self.by_number[record.trial])
        trial = self.by_number[record.trial]
        match record:
            case Start():
                trial.state, trial.reason = "running", ""
                trial.node, trial.attempt = record.node, record.attempt
                trial.workers = record.workers or self.workers
                trial.accelerator = record.accelerator
            case Report():
                self._reported(trial, record)
            case Checkpoint():
                trial.files[record.role] = record.bytes
                self.with_files[trial.number] = trial
            case Collect():
                trial.files.pop(record.role, None)
                if not trial.files:
                    self.with_files.pop(trial.number, None)
            case Decide():
                trial.decision = record
                if trial.held:
                    trial.state = "paused"
                elif record.decision == "promote":
                    trial.state = "waiting"
            case Retry():
                trial.state, trial.losses = "waiting", trial.losses + (not record.moved)
            case End():
                trial.state, trial.reason = record.state, record.reason
            case Suggest() | Final():
                pass
        return trial

    def _reported(self, trial: TrialState, record: Report) -> None:
        worked = max(0.0, record.seconds - trial.seconds) * trial.workers
        trial.worked[trial.accelerator] = trial.worked.get(trial.accelerator, 0.0) + worked
        trial.kimg, trial.seconds = record.kimg, record.seconds
        trial.diverged, trial.losses = record.diverged, 0
        trial.now = record.values(self.objectives)
        trial.best.measured_by(record.protocols.get(self.objectives[0]))
        if trial.best.values is None:
            trial.best_kimg = trial.sd = trial.variation = None
        if trial.best.improved_by(record.values(self.objectives)):
            trial.best_kimg, trial.variation = record.kimg, record.variation
            trial.sd = record.sd.get(self.objectives[0])


def kimg_of(trials: Iterable[TrialState]) -> float:
    """The kimg that trials have reported; each its part. As exact as milestones: 3 x 0.1 is 0.3."""
    return round(sum(trial.kimg - trial.from_kimg for trial in trials), 6)


def worked_by(trials: Iterable[TrialState]) -> dict[str, float]:
    """Seconds of the workers of trials up to their last reports, by the kind of their GPU."""
    total: dict[str, float] = {}
    for trial in trials:
        for kind, seconds in trial.worked.items():
            total[kind] = total.get(kind, 0.0) + seconds
    return total
