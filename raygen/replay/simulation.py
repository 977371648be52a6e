"""A search on a simulated clock, by raygen itself or by any other method."""

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from raygen.config import Study
from raygen.journal.records import Record, stamped
from raygen.metrics import METRICS
from raygen.replay.recording import Array, Params
from raygen.replay.surrogate import Forecast, Step
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler

Clock = Literal["seconds", "kimg"]
WORKERS = 4


class Method(Protocol):
    """What searches: asked for trials and told of their steps."""

    milestones: tuple[float, ...]  # kimg at which it hears of a trial; the last is the full budget

    def suggest(self) -> tuple[int, Params] | None:
        """Return the number and the parameters of the next trial, or None to start none."""
        ...

    def reported(self, number: int, step: Step) -> bool:
        """Hear of a step; return whether the trial must stop."""
        ...

    def chosen(self) -> int | None:
        """Return the trial that it would recommend now."""
        ...


class Benchmark(Protocol):
    """What is searched: it tells the curve of any configuration."""

    def forecast(
        self,
        params: Params,
        milestones: Sequence[float],
        luck: np.random.Generator | None = None,
    ) -> Forecast: ...


class Run(NamedTuple):
    """How a simulated search went; compute is in kimg."""

    spent: Array  # compute after each event
    truth: Array  # noise-free value of what was recommended then; nan while there is nothing
    clock: float  # simulated time at the end
    diverged: float  # compute that went into trials that diverged
    trials: int
    completed: int  # trained to the full budget without diverging
    busiest: int  # most trials at once

    def at(self, compute: float) -> float:
        """Return the value of what was recommended when so much had been spent."""
        index = int(np.searchsorted(self.spent, compute * (1 + 1e-9), side="right")) - 1
        return float(self.truth[index]) if index >= 0 else math.nan


class Memory:
    """A journal in memory, without times: a replay has no wall time."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, record: Record) -> Record:
        """Remember a record and return it."""
        self.records.append(stamped(record, 0.0))
        return self.records[-1]


class Raygen:
    """A search by raygen's own controller, sampler and scheduler."""

    def __init__(self, study: Study, milestones: Sequence[float]) -> None:
        """Hear of trials at these milestones and at the rungs of the study."""
        spec = study.spec
        self.objective = spec.objective
        self.pick = min if METRICS[spec.objective].direction == "minimize" else max
        self.milestones = merged(spec.rungs, milestones)
        self.journal = Memory()
        sampler = Sampler(study, "replay", None)
        self.controller = Controller(study, self.journal, sampler, lambda record: None)
        self.best: dict[bool, dict[int, float]] = {True: {}, False: {}}  # by whether completed

    def suggest(self) -> tuple[int, Params] | None:
        job = self.controller.suggest()
        if job is None:
            return None
        self.controller.started(job.number, node="simulated", device="cpu")
        return job.number, self.controller.trials[job.number].params

    def reported(self, number: int, step: Step) -> bool:
        if step.broke:  # as the runner tells it: there is nothing to evaluate
            self.controller.end(number, "diverged", step.diverged or "")
            return True
        best = self.pick(step.value, self.best[False].pop(number, step.value))
        self.best[step.last][number] = best
        event = {
            "event": "progress",
            "kimg": step.kimg,
            "seconds": step.seconds,
            "evaluation_seconds": 0.0,
            "images_per_second": 0.0,
            "metrics": {self.objective: step.value},
            "sd": {} if step.sd is None else {self.objective: step.sd},
            "protocols": {},
            "losses": {},
            "diverged": None if step.last else step.diverged,  # as fit does
            "checkpoints": {},
            "last": step.last,
        }
        return self.controller.reported(number, event)

    def chosen(self) -> int | None:
        """As `results.ranked`: the best at full budget, and before there is one, the best."""
        values = self.best[True] or self.best[False]
        return self.pick(values, key=lambda number: values[number]) if values else None


def merged(rungs: Sequence[float], milestones: Sequence[float]) -> tuple[float, ...]:
    """Both in order, each once: 4/9 of a budget is one milestone, however it was rounded."""
    other = [m for m in milestones if not any(math.isclose(m, r, rel_tol=1e-4) for r in rungs)]
    return tuple(sorted([*rungs, *(m for m in other if m < rungs[-1])]))


class _Simulation:
    """Workers that each train one trial at a time, by a simulated clock."""

    def __init__(
        self, method: Method, benchmark: Benchmark, seed: int, workers: int, clock: Clock
    ) -> None:
        self.method, self.benchmark, self.seed = method, benchmark, seed
        self.workers, self.clock = workers, clock
        self.milestones = method.milestones
        self.queue: list[tuple[float, int, int]] = []  # when, which event, trial
        self.forecasts: dict[int, Forecast] = {}
        self.rest: dict[int, Iterator[Step]] = {}
        self.coming: dict[int, Step] = {}  # the next step of each trial that runs
        self.began: dict[int, float] = {}
        self.lasted: dict[int, float] = {}  # by the simulated clock, without pauses
        self.kimg: dict[int, float] = {}
        self.lost: set[int] = set()
        self.now, self.total, self.events, self.busiest, self.completed = 0.0, 0.0, 0, 0, 0

    def fill(self) -> None:
        """Give every idle worker a trial."""
        while len(self.queue) < self.workers:
            job = self.method.suggest()
            if job is None:
                break
            number, params = job
            if number in self.rest:  # promoted: it goes on from its checkpoint
                self.began[number] = self.now - self.lasted[number]
                self._train(number)
                continue
            luck = np.random.default_rng([self.seed, number])
            forecast = self.benchmark.forecast(params, self.milestones, luck)
            self.forecasts[number], self.rest[number] = forecast, iter(forecast.steps)
            self.began[number], self.kimg[number] = self.now, 0.0
            self._train(number)
        self.busiest = max(self.busiest, len(self.queue))

    def advance(self) -> None:
        """Go to the next step of any trial."""
        self.now, _, number = heapq.heappop(self.queue)
        step = self.coming.pop(number)
        self.total += step.kimg - self.kimg[number]
        self.kimg[number] = step.kimg
        self.lasted[number] = self._lasts(step)
        if step.diverged is not None:
            self.lost.add(number)
        stop = self.method.reported(number, step)
        self.completed += step.last and number not in self.lost
        if not stop and not step.last:
            self._train(number)

    def _train(self, number: int) -> None:
        self.coming[number] = step = next(self.rest[number])
        self.events += 1
        heapq.heappush(self.queue, (self.began[number] + self._lasts(step), self.events, number))

    def _lasts(self, step: Step) -> float:
        return step.seconds if self.clock == "seconds" else step.kimg


def simulate(
    method: Method,
    benchmark: Benchmark,
    compute: float,
    seed: int,
    workers: int = WORKERS,
    clock: Clock = "seconds",
) -> Run:
    """Search until `compute` kimg are spent, or the method starts no more trials.

    Simulated time is the seconds that were recorded, or the images. The luck of trial n follows
    from the seed and n alone, so that two methods that are compared have the same.
    """
    floor = _Simulation(method, benchmark, seed, workers, clock)
    spent, truth = [], []
    floor.fill()
    while floor.queue:
        floor.advance()
        chosen = method.chosen()
        spent.append(floor.total)
        truth.append(math.nan if chosen is None else floor.forecasts[chosen].truth)
        if floor.total >= compute * (1 - 1e-9):
            break
        floor.fill()
    wasted = sum(floor.kimg[number] for number in floor.lost)
    counts = len(floor.forecasts), floor.completed, floor.busiest
    return Run(np.array(spent), np.array(truth), floor.now, wasted, *counts)
