"""The state of a running search: a function of the records so far."""

import math
from collections import Counter
from typing import NamedTuple

from raygen.best import better
from raygen.config import Study
from raygen.failure import is_one_image
from raygen.journal.records import (
    Close,
    Decide,
    End,
    Record,
    Report,
    Retry,
    Round,
    Start,
    Suggest,
)
from raygen.journal.trials import Trials, TrialState
from raygen.metrics import METRICS
from raygen.notices import Alive, Machines, Notice, Phase


class Running(NamedTuple):
    """A trial in training."""

    trial: int
    since: float  # the clock at its start
    kimg: float = 0.0
    speed: float = math.nan  # images a second
    value: float | None = None  # of its last evaluation
    rung: int = 0  # how many it has reached
    of: int | None = None  # the finalist that it repeats


class Board:
    """Everything that a terminal shows of a search; `now` is the clock in seconds."""

    def __init__(self, study: Study, now: float) -> None:
        self.study, self.spec = study, study.spec
        self.metric = study.spec.objective
        self.minimise = METRICS[self.metric].direction == "minimize"
        self.began, self.now = now, now
        self.phase = ""
        self.machines = ""
        self.trials = Trials(study.spec.objectives, self.minimise)
        self.running: dict[int, Running] = {}
        self.states: Counter[str] = Counter()  # of the trials of the search that have ended
        self.reasons: Counter[str] = Counter()
        self.means: dict[int, float] = {}  # of the finalists over their new seeds
        self.trend: list[float] = []  # each value that was the best so far
        self.earlier = 0  # trials that ended in earlier sessions
        self.in_finals = False  # whether finalists are trained again
        self.repeated = 0  # trainings of finalists that have ended
        self.most_at_once = 1

    @property
    def ended(self) -> int:
        """Trials of the search that have ended; an interrupted one continues with the study.

        Where one of a population ended a copy of another goes on, and both count as one.
        """
        ended = sum(count for state, count in self.states.items() if state != "interrupted")
        return max(0, ended - self.trials.copies)

    def hear(self, record: Record | Notice, now: float) -> bool:
        """Take in a record of the journal or a notice; return whether it brought a new best."""
        self.now = now
        match record:
            case Phase():
                self.phase = record.text
            case Machines():
                self.machines = record.text
            case Suggest():
                self.trials.apply(record)
            case Start():
                of = self.trials.apply(record).of
                self.running[record.trial] = Running(record.trial, now, record.kimg, of=of)
                self.most_at_once = max(self.most_at_once, len(self.running))
                self.in_finals = self.in_finals or of is not None
            case Alive() if record.trial in self.running:
                kimg = max(self.running[record.trial].kimg, record.images / 1000)
                self.running[record.trial] = self.running[record.trial]._replace(kimg=kimg)
            case Report():
                return self._reported(record)
            case Round():
                self.means |= {n: mean for n, mean in record.means.items() if mean is not None}
            case Retry():
                self.trials.apply(record)
                self.running.pop(record.trial, None)
            case Decide():
                if self.trials.apply(record).held:
                    self.running.pop(record.trial, None)
            case End():
                self._ended(record)
            case Close():
                self.phase = ""
            case _:
                pass
        return False

    def recall(self, records: list[Record], now: float) -> None:
        """Take in what an earlier session wrote."""
        for record in records:
            self.hear(record, now)
        self.running.clear()
        self.earlier = self.ended

    def best(self) -> tuple[int, float] | None:
        """Return the trial that leads, and its value; None before the first value.

        As in the report: by the mean over new seeds once there is one, else among the completed
        trials that did not draw one image, else among those measured with the most samples.
        """
        pick = min if self.minimise else max
        if self.means:
            trial = pick(self.means, key=self.means.__getitem__)
            return trial, self.means[trial]
        scored = [trial for trial in self.trials.searched if trial.values is not None]
        varied = [trial for trial in scored if not self.drew_one_image(trial)] or scored
        completed = [trial for trial in varied if trial.state == "completed"]
        rivals = self._comparable(completed or varied)
        if not rivals:
            return None
        number = pick(rivals, key=rivals.__getitem__)
        return number, rivals[number]

    def drew_one_image(self, trial: TrialState) -> bool:
        """Whether the samples of a trial at its best were one image."""
        return is_one_image(trial.variation, self.spec.family)

    @property
    def provisional(self) -> str:
        """What to say after the best while nothing has completed the full budget."""
        done = any(trial.state == "completed" for trial in self.trials.searched)
        return "" if done or self.means else " (none has completed)"

    def left(self) -> float | None:
        """Seconds that the rest of the trials and the finalists will take at this pace."""
        ended, missing = self.ended - self.earlier, self.spec.budget.trials - self.ended
        if ended < 1:
            return None
        search = max(0, missing) * (self.now - self.began) / ended if not self.in_finals else 0.0
        return search + self._finals_left()

    def _finals_left(self) -> float:
        """Seconds for the finalists' new seeds, each at the mean cost of a completed training."""
        chosen = self.spec.finalists
        if self.spec.trade_off or not chosen.count:
            return 0.0
        whole = [trial.seconds for trial in self.trials.searched if trial.state == "completed"]
        if not whole:
            return 0.0
        count = min(chosen.count, self.spec.budget.trials)
        missing = max(0, count * chosen.seeds - self.repeated)
        return missing * sum(whole) / len(whole) / max(1, self.most_at_once)

    def budget_left(self) -> float | None:
        """Seconds of wall time that the budget still allows to this session; None without one."""
        hours = self.spec.budget.hours
        return None if hours is None else max(0.0, hours * 3600 - (self.now - self.began))

    def _reported(self, record: Report) -> bool:
        rivals = [trial for trial in self.trials.searched if trial.number != record.trial]
        before = self.running.get(record.trial, Running(record.trial, self.now))
        trial = self.trials.apply(record)
        value, rungs = record.metrics.get(self.metric), self.spec.rungs
        self.running[record.trial] = before._replace(
            kimg=record.kimg,
            speed=record.images_per_second or math.nan,
            value=value,
            rung=sum(record.kimg >= kimg * (1 - 1e-9) for kimg in rungs),
            of=trial.of,
        )
        if trial.of is not None or trial.values is None or trial.best_kimg != record.kimg:
            return False
        if is_one_image(record.variation, self.spec.family):
            return False
        comparable = self._comparable([trial, *rivals])
        if trial.number not in comparable:  # others were measured with more samples
            return False
        value = comparable.pop(trial.number)
        leads = all(better(self.minimise, value, rival) for rival in comparable.values())
        if leads:
            self.trend.append(value)
        return leads

    def _ended(self, record: End) -> None:
        self.running.pop(record.trial, None)
        if self.trials.apply(record).of is not None:
            self.repeated += 1
            return
        self.states[record.state] += 1
        if record.state == "diverged":
            self.reasons[record.reason.partition(":")[0]] += 1

    def _samples(self, trial: TrialState) -> int:
        """How many samples a trial was last measured with."""
        if not trial.kimg:
            return 0
        return self.spec.evaluation.samples_at(trial.kimg, self.spec.rungs)

    def _comparable(self, trials: list[TrialState]) -> dict[int, float]:
        """The values of those of some trials that were measured with the most samples."""
        scored = [trial for trial in trials if trial.values is not None]
        most = max(map(self._samples, scored), default=0)
        return {t.number: t.values[0] for t in scored if t.values and self._samples(t) == most}
