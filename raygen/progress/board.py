"""How a running search stands: a function of the records it has heard."""

import math
from collections import Counter
from typing import Any, NamedTuple

from raygen.config import Study
from raygen.failure import is_one_image
from raygen.metrics import METRICS

Record = dict[str, Any]


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
        self.running: dict[int, Running] = {}
        self.values: dict[int, float] = {}  # the best of each trial, of its latest evaluations
        self.samples: dict[int, int] = {}  # how many those were measured with
        self.completed: set[int] = set()
        self.failed: set[int] = set()  # those whose samples at their best were one image
        self.states: Counter[str] = Counter()  # of the trials of the search that have ended
        self.reasons: Counter[str] = Counter()
        self.configs: dict[int, dict[str, Any]] = {}
        self.repeats: dict[int, int] = {}  # the finalist that a trial repeats
        self.means: dict[int, float] = {}  # of the finalists over their new seeds
        self.trend: list[float] = []  # each value that was the best so far
        self.earlier = 0  # trials that ended in earlier sessions

    @property
    def ended(self) -> int:
        """Trials of the search that have ended; an interrupted one goes on with the study."""
        return sum(count for state, count in self.states.items() if state != "interrupted")

    def hear(self, record: Record, now: float) -> bool:
        """Take in a record of the journal, or a phase; return whether it brought a new best."""
        self.now = now
        number = record.get("trial", -1)
        match record["kind"]:
            case "phase":
                self.phase = record["text"]
            case "machines":
                self.machines = record["text"]
            case "suggest":
                self.configs[number] = record["config"]
                if record.get("of") is not None:
                    self.repeats[number] = record["of"]
            case "start":
                of = self.repeats.get(number)
                self.running[number] = Running(number, now, record.get("kimg", 0.0), of=of)
            case "alive" if number in self.running:
                kimg = max(self.running[number].kimg, record["images"] / 1000)
                self.running[number] = self.running[number]._replace(kimg=kimg)
            case "report":
                return self._reported(record)
            case "race":
                self.means |= {int(trial): mean for trial, mean in record["means"].items()}
            case "retry":
                self.running.pop(number, None)
            case "end":
                self._ended(number, record)
            case "close":
                self.phase = ""
        return False

    def recall(self, records: list[Record], now: float) -> None:
        """Take in what an earlier session wrote."""
        for record in records:
            self.hear(record, now)
        self.running.clear()
        self.earlier = self.ended

    def best(self) -> tuple[int, float] | None:
        """Return the trial that leads, and its value; None before the first value.

        As in the report: by the mean over other seeds once there is one, else among the completed
        trials that did not draw one image, else among those measured with the most samples.
        """
        pick = min if self.minimise else max
        if self.means:
            trial = pick(self.means, key=self.means.__getitem__)
            return trial, self.means[trial]
        varied = set(self.values) - self.failed or set(self.values)
        rivals = self._comparable(self.completed & varied or varied)
        if not rivals:
            return None
        trial = pick(rivals, key=self.values.__getitem__)
        return trial, self.values[trial]

    def left(self) -> float | None:
        """Seconds that the rest of the trials will take at the pace of this session."""
        ended, missing = self.ended - self.earlier, self.spec.budget.trials - self.ended
        if ended < 1 or missing <= 0:
            return None
        return missing * (self.now - self.began) / ended

    def budget_left(self) -> float | None:
        """Seconds of wall time that the budget still allows to this session; None without one."""
        hours = self.spec.budget.hours
        return None if hours is None else max(0.0, hours * 3600 - (self.now - self.began))

    def _reported(self, record: Record) -> bool:
        number, value = record["trial"], record["metrics"][self.metric]
        kimg, rungs = record["kimg"], self.spec.rungs
        rung = sum(kimg >= each * (1 - 1e-9) for each in rungs)
        known = self.running.get(number, Running(number, self.now, of=self.repeats.get(number)))
        speed = record["images_per_second"]
        self.running[number] = known._replace(kimg=kimg, speed=speed, value=value, rung=rung)
        if value is None or number in self.repeats:
            return False
        samples = self.spec.evaluation.samples_at(kimg, rungs)
        if self.samples.setdefault(number, samples) != samples:
            self.values.pop(number, None)
            self.samples[number] = samples
        comparable = self._comparable({*self.values, number})
        rivals = [self.values[n] for n in comparable if n in self.values]
        failed = is_one_image(record.get("variation"), self.spec.family)
        news = (
            not failed
            and samples >= max(self.samples.values())
            and all(value < rival if self.minimise else value > rival for rival in rivals)
        )
        mine = self.values.get(number, value)
        if value == mine or (value < mine) == self.minimise:
            self.failed = self.failed - {number} | ({number} if failed else set())
        self.values[number] = min(mine, value) if self.minimise else max(mine, value)
        if news:
            self.trend.append(value)
        return news

    def _ended(self, number: int, record: Record) -> None:
        self.running.pop(number, None)
        if number in self.repeats:
            return
        self.states[record["state"]] += 1
        if record["state"] == "completed":
            self.completed.add(number)
        if record["state"] == "diverged":
            self.reasons[record["reason"].partition(":")[0]] += 1

    def _comparable(self, trials: set[int]) -> set[int]:
        """Those of some trials that were measured with the most samples."""
        most = max((self.samples.get(number, 0) for number in trials), default=0)
        return {number for number in trials if self.samples.get(number, 0) == most}
