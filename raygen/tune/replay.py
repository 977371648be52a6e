"""Search again on recorded learning curves: which scheduler and sampler would have served best?

A table of curves stands in for training (a surrogate benchmark: Eggensperger et al. 2015), and a
simulated clock for the machines, so that a search takes seconds. What searches is the real
Controller with its sampler and its scheduler; it cannot tell the difference.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd

from raygen import results
from raygen.config import Study, load_study
from raygen.errors import InputError
from raygen.metrics import METRICS
from raygen.space import Branches, Group
from raygen.train.health import JUDGED
from raygen.tune.controller import Controller
from raygen.tune.sampler import Sampler

Array = np.ndarray
Params = Mapping[str, Any]
Clock = Literal["seconds", "kimg"]

# How far two choices are apart, where a whole range is 1, and how many neighbours count. With 1 and
# 5 the nearest neighbours share the choices and not the learning rate: the leave-one-out rank
# correlation of the predicted best value is 0.24 on the recorded GANs and 0.33 on the VAEs
# (benchmarks/search_quality.py), with these it is 0.49 and 0.58.
CHOICE = 0.15
NEIGHBOURS = 3
ALIKE = 5  # configurations whose noise a trial may have
LEAST_CURVES = 10
UNLIMITED = 1_000_000  # trials: what ends a replay is its compute
WORKERS = 4
DIFFERENCE = ("difference", "difference_low", "difference_high")


class Recorded(NamedTuple):
    """One configuration that was trained, with its value at each milestone of the recording.

    `values` are nan from where it ended. `end` is the kimg it trained, `diverged` why it ended
    early ("" if it did not), and `broke` whether that was a value that is not finite, in contrast
    to a collapse, which is a judgement.
    """

    params: Params
    values: Array
    seconds: Array
    sd: Array  # standard error of each value, nan where it is not known
    end: float
    diverged: str = ""
    broke: bool = False


class Noise(NamedTuple):
    """What seeds did to one configuration, on the scale of `Scale`."""

    curve: Array  # (milestones,): the median over the seeds
    rows: Array  # (seeds, milestones): how far each was from it


class Recording(NamedTuple):
    """The curves of one search space, and what is known of their noise."""

    study: Study
    milestones: tuple[float, ...]
    curves: tuple[Recorded, ...]
    noise: tuple[Noise, ...] = ()


class Step(NamedTuple):
    """What a simulated trial says at a milestone, or where it broke."""

    kimg: float
    seconds: float  # since it started
    value: float  # of the objective; nan after a break
    sd: float | None
    diverged: str | None  # why a search that looks for it would end the trial here
    broke: bool  # it broke here, between two milestones: there is no value
    last: bool


class Forecast(NamedTuple):
    """A simulated trial: all it will say, and the noise-free value at its best milestone."""

    steps: tuple[Step, ...]
    truth: float


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


class Scale(NamedTuple):
    """Values are averaged, and noise is added, as logarithms of their distance from an ideal.

    The ideal is beyond the best recorded value, by half of what separates that from the median. So
    a distance of 1e9 is just very bad, what is worse is noisier, and no luck goes beyond the ideal.
    """

    ideal: float
    sign: float  # 1 where the objective is minimised, else -1

    @classmethod
    def of(cls, values: Array, minimise: bool) -> "Scale":
        """Return the scale for these values."""
        known = values[np.isfinite(values)]
        best, middle = float(known.min() if minimise else known.max()), float(np.median(known))
        beyond = abs(middle - best) / 2 or abs(best) / 10 or 1.0
        return cls(best - beyond if minimise else best + beyond, 1.0 if minimise else -1.0)

    def forward(self, values: Array) -> Array:
        return np.log(self.sign * (values - self.ideal))

    def back(self, values: Array) -> Array:
        # At e^700 floats end, and wild values are made wilder by noise.
        return self.ideal + self.sign * np.exp(np.minimum(values, 700.0))


class _Rows(NamedTuple):
    """What a forecast is read from, by milestone of the recording."""

    values: Array  # on the scale
    errors: Array  # relative
    seconds: Array


class Surrogate:
    """The curve of any configuration: the mean of its nearest neighbours', weighted by 1/distance.

    Distances are Euclidean in the unit cube of the parameters, logarithmic where the space is; two
    choices are 0 or CHOICE apart. Only configurations that took the same branches are neighbours,
    as long as there are any. Where most of the weight diverged, a configuration diverges as the
    nearest of those did, and else as none of them. One that was recorded gets its own curve.
    """

    def __init__(self, recording: Recording, neighbours: int = NEIGHBOURS) -> None:
        self.curves, self.noise = recording.curves, recording.noise
        self.persistence = persistence(recording.noise)
        self.neighbours = neighbours
        spec = recording.study.spec
        self.minimise = METRICS[spec.objective].direction == "minimize"
        self.parameters = recording.study.parameters
        self.branching = list(_branching(recording.study.space))
        self.categorical = np.array([p.choices is not None for p in self.parameters])
        self.points = np.array([self._point(curve.params) for curve in self.curves])
        self.branches = [self._branch(curve.params) for curve in self.curves]
        self.grid = np.array(recording.milestones)
        values = np.array([curve.values for curve in self.curves])
        self.scale = Scale.of(values, self.minimise)
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = np.array([curve.sd for curve in self.curves]) / np.abs(values)
        self.values = np.array([_held(row) for row in self.scale.forward(values)])
        self.errors = np.array([_held(row) for row in errors])
        seconds = np.array([_carried_on(curve, self.grid) for curve in self.curves])
        self.seconds = np.where(np.isfinite(seconds), seconds, np.nanmean(seconds, axis=0))

    def forecast(
        self,
        params: Params,
        milestones: Sequence[float],
        luck: np.random.Generator | None = None,
    ) -> Forecast:
        """Return what a trial says at these milestones; `luck` stands for its seed.

        Its noise at a milestone is drawn from what seeds did to the repeated configurations that
        were about as good there: some are a hundred times as noisy as others. A lucky trial stays
        lucky as far as theirs did. Without luck there is no noise.

        Whoever does not stop a diverged trial goes on hearing of it: nan if it broke, its last
        value if it collapsed.
        """
        near, weights = self._nearest(params)
        fatal = self._fatal(near, weights)
        agreeing = [bool(self.curves[i].diverged) == (fatal is not None) for i in near]
        near, weights = near[agreeing], weights[agreeing]
        clean = _mean(self.values[near], weights)
        errors, seconds = _mean(self.errors[near], weights), _mean(self.seconds[near], weights)
        healthy = clean
        if fatal is not None:
            told = np.isfinite(fatal.values)
            healthy, clean = clean[told], _held(np.where(told, clean, math.nan))
        rows = _Rows(clean + self._deviation(clean, luck), errors, seconds)
        steps = [self._step(kimg, rows, fatal) for kimg in milestones]
        if fatal is not None and fatal.broke:
            then = self._clock(fatal.end, seconds)
            broken = Step(fatal.end, then, math.nan, None, fatal.diverged, True, False)
            steps.insert(sum(step.diverged is None for step in steps), broken)
        steps[-1] = steps[-1]._replace(last=True)
        known = self.scale.back(healthy)
        pick = np.min if self.minimise else np.max
        return Forecast(tuple(steps), float(pick(known)) if len(known) else math.nan)

    def _step(self, kimg: float, rows: "_Rows", fatal: Recorded | None) -> Step:
        value = float(self.scale.back(np.array(self._between(kimg, rows.values))))
        error = self._between(kimg, rows.errors) * abs(value)
        sd = error if math.isfinite(error) else None
        seconds = self._clock(kimg, rows.seconds)
        if fatal is None or kimg < fatal.end * (1 - 1e-9):
            return Step(kimg, seconds, value, sd, None, False, False)
        if fatal.broke:
            value, sd = math.nan, None
        return Step(kimg, seconds, value, sd, fatal.diverged, False, False)

    def _deviation(self, clean: Array, luck: np.random.Generator | None) -> Array:
        if luck is None or not self.noise or not np.isfinite(clean).all():
            return np.zeros(len(clean))
        fate = luck.standard_normal(len(clean))
        for index in range(1, len(fate)):
            fresh = math.sqrt(1 - self.persistence**2) * fate[index]
            fate[index] = self.persistence * fate[index - 1] + fresh
        found = np.zeros(len(clean))
        for index, z in enumerate(fate):
            apart = [abs(noise.curve[index] - clean[index]) for noise in self.noise]
            alike = np.argsort(apart, kind="stable")[:ALIKE]
            pool = np.concatenate([self.noise[i].rows[:, index] for i in alike])
            found[index] = np.quantile(pool, (1 + math.erf(z / math.sqrt(2))) / 2)
        return found

    def _nearest(self, params: Params) -> tuple[Array, Array]:
        """The indices and weights of the neighbours, nearest first."""
        branch = self._branch(params)
        here = np.array([other == branch for other in self.branches])
        there = np.flatnonzero(here if here.any() else ~here)
        apart = self.points[there] - self._point(params)
        apart = np.where(self.categorical, CHOICE * (apart != 0), apart)
        known, asked = ~np.isnan(self.points[there]), ~np.isnan(self._point(params))
        # A parameter that only one of the two has tells them apart as two choices do.
        apart = np.where(known & asked, apart, CHOICE * (known != asked))
        distance = np.sqrt(np.square(apart).sum(axis=1))
        order = np.argsort(distance, kind="stable")[: self.neighbours]
        if distance[order[0]] == 0:
            return there[order[:1]], np.ones(1)
        weights = 1 / distance[order]
        return there[order], weights / weights.sum()

    def _fatal(self, near: Array, weights: Array) -> Recorded | None:
        """The neighbour as which a configuration diverges, if it does."""
        lost = [bool(self.curves[i].diverged) for i in near]
        return self.curves[near[lost][0]] if weights[lost].sum() > 0.5 else None

    def _point(self, params: Params) -> Array:
        """Where parameters lie in the unit cube; nan where the branch has no such parameter."""
        point = np.full(len(self.parameters), math.nan)
        for index, parameter in enumerate(self.parameters):
            if parameter.name not in params:
                continue
            value = params[parameter.name]
            if parameter.choices is not None:
                point[index] = parameter.choices.index(value)
                continue
            ends = float(parameter.low or 0), float(parameter.high or 0)
            low, high, at = (math.log(x) if parameter.log else x for x in (*ends, value))
            point[index] = (at - low) / (high - low) if high > low else 0.0
        return point

    def _branch(self, params: Params) -> tuple[Any, ...]:
        return tuple(params.get(name) for name in self.branching)

    def _between(self, kimg: float, row: Array) -> float:
        """A row at any kimg: linear in log kimg between milestones, constant outside."""
        return float(np.interp(math.log(kimg), np.log(self.grid), row))

    def _clock(self, kimg: float, seconds: Array) -> float:
        return float(np.interp(kimg, [0.0, *self.grid], [0.0, *seconds]))


class Memory:
    """A journal in memory, stamped with nothing: a replay has no wall time."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def append(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Remember a record and return it."""
        self.records.append({"kind": kind, "time": 0.0, **fields})
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
        self.controller.started(job["number"], node="simulated", device="cpu")
        return job["number"], self.controller.trials[job["number"]].params

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
        found = self.best[True] or self.best[False]
        return self.pick(found, key=lambda number: found[number]) if found else None


class _Simulation:
    """Workers that each train one trial at a time, by a simulated clock."""

    def __init__(
        self, method: Method, surrogate: Surrogate, seed: int, workers: int, clock: Clock
    ) -> None:
        self.method, self.surrogate, self.seed = method, surrogate, seed
        self.workers, self.clock = workers, clock
        self.milestones = method.milestones
        self.queue: list[tuple[float, int, int]] = []  # when, which event, trial
        self.forecasts: dict[int, Forecast] = {}
        self.rest: dict[int, Iterator[Step]] = {}
        self.coming: dict[int, Step] = {}  # the next step of each trial that runs
        self.began: dict[int, float] = {}
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
            luck = np.random.default_rng([self.seed, number])
            forecast = self.surrogate.forecast(params, self.milestones, luck)
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
        if step.diverged is not None:
            self.lost.add(number)
        stop = self.method.reported(number, step)
        self.completed += step.last and number not in self.lost
        if not stop and not step.last:
            self._train(number)

    def _train(self, number: int) -> None:
        self.coming[number] = step = next(self.rest[number])
        lasts = step.seconds if self.clock == "seconds" else step.kimg
        self.events += 1
        heapq.heappush(self.queue, (self.began[number] + lasts, self.events, number))


def simulate(
    method: Method,
    surrogate: Surrogate,
    compute: float,
    seed: int,
    workers: int = WORKERS,
    clock: Clock = "seconds",
) -> Run:
    """Search until `compute` kimg are spent, or the method starts no more trials.

    Simulated time is the seconds that were recorded, or the images. The luck of trial n follows
    from the seed and n alone, so that two methods that are compared have the same.
    """
    floor = _Simulation(method, surrogate, seed, workers, clock)
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


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def paired(values: Sequence[float], baseline: Sequence[float], draws: int = 4000) -> Interval:
    """Relative difference of paired values, (a - b) / |b|: its mean over the pairs.

    The interval is a percentile bootstrap over pairs (Efron and Tibshirani 1993, section 13.3).
    Pairs of which one is not finite are left out.
    """
    a, b = np.array(values, float), np.array(baseline, float)
    known = np.isfinite(a) & np.isfinite(b)
    difference = (a[known] - b[known]) / np.abs(b[known])
    if not len(difference):
        return Interval(math.nan, math.nan, math.nan)
    random = np.random.default_rng(0)
    picks = random.integers(len(difference), size=(draws, len(difference)))
    low, high = np.quantile(difference[picks].mean(axis=1), [0.025, 0.975])
    return Interval(float(difference.mean()), float(low), float(high))


def variant(
    study: Study,
    seed: int,
    scheduler: Mapping[str, Any] | None = None,
    sampler: Mapping[str, Any] | None = None,
) -> Study:
    """The same search with another seed and other settings, ended by nothing but compute."""
    spec = study.spec
    budget = type(spec.budget)(trials=UNLIMITED, kimg=spec.budget.kimg)
    changes = {
        "seed": seed,
        "budget": budget,
        "trade_off": (),  # one objective: what its curves are recorded of
        "finalists": spec.finalists.model_copy(update={"count": 0}),
        "scheduler": spec.scheduler.model_copy(update=dict(scheduler or {})),
        "sampler": spec.sampler.model_copy(update=dict(sampler or {})),
    }
    return study._replace(spec=spec.model_copy(update=changes))


def merged(rungs: Sequence[float], milestones: Sequence[float]) -> tuple[float, ...]:
    """Both in order, each once: 4/9 of a budget is one milestone, however it was rounded."""
    other = [m for m in milestones if not any(math.isclose(m, r, rel_tol=1e-4) for r in rungs)]
    return tuple(sorted([*rungs, *(m for m in other if m < rungs[-1])]))


def seed_noise(groups: Sequence[Array], scale: Scale) -> tuple[Noise, ...]:
    """What seeds do to a curve, from complete curves (seeds, milestones) of a configuration each.

    Deviations are from the median, so that one seed that went wrong does not make the others look
    lucky, and are widened by what a median of few values takes from the spread.
    """
    found = []
    for group in groups:
        if len(group) > 1:
            known = scale.forward(group)
            middle = np.median(known, axis=0)
            unbiased = math.sqrt(len(group) / (len(group) - 1))
            found.append(Noise(middle, (known - middle) * unbiased))
    return tuple(found)


def persistence(noise: Sequence[Noise]) -> float:
    """How far a seed that is lucky at a milestone is so at the next: a rank correlation, 0 to 1."""
    ranks = [np.argsort(np.argsort(each.rows, axis=0), axis=0) for each in noise]
    centred = [each - each.mean(axis=0) for each in ranks]
    both = sum(float((each[:, 1:] * each[:, :-1]).sum()) for each in centred)
    size = sum(float(np.square(each[:, 1:]).sum()) for each in centred)
    return min(max(both / size, 0.0), 0.99) if size else 0.0


def record_study(folder: Path) -> Recording:
    """Read the curves of a finished study: those of its completed and its diverged trials.

    The noise is what other seeds did to its finalists, if they were trained again: one shift of the
    whole curve. Otherwise there is none, and every replay has the luck that was recorded.

    Raises:
        InputError: the folder holds no study, or too few complete curves.
    """
    found = results.load_study(folder)
    records = results.read_records(found.folder.journal)
    params = {r["trial"]: r["params"] for r in records if r["kind"] == "suggest"}
    milestones = tuple(float(kimg) for kimg in found.info["milestones"])
    ended = found.trials[found.trials["state"].isin(["completed", "diverged"])]
    curves = [_recorded(found, trial, params[trial], milestones) for trial in ended["trial"]]
    kept = [curve for curve in curves if curve.diverged or np.isfinite(curve.values).all()]
    complete = sum(not curve.diverged for curve in kept)
    if complete < LEAST_CURVES:
        raise InputError(
            f"{folder}: only {complete} trials have complete curves, and a replay needs "
            f"{LEAST_CURVES}: a search with --set scheduler.name=none records them"
        )
    again = found.replicates[found.replicates["state"] == "completed"]
    values = [group["value"].dropna().to_numpy(float) for _, group in again.groupby("of")]
    groups = [np.repeat(each[:, None], len(milestones), axis=1) for each in values]
    scale = Scale.of(np.concatenate([curve.values for curve in kept]), found.minimise)
    study = load_study(found.folder.space)
    return Recording(study, milestones, tuple(kept), seed_noise(groups, scale))


def compare(
    study_folder: Path, repeats: int, notify: Callable[[str], None] = lambda text: None
) -> pd.DataFrame:
    """Replay a finished study with other schedulers and samplers, on as much compute as it had.

    One row per variant, the study's own settings first. `value` is the median over the repeats of
    the noise-free objective of the recommended configuration, `low` and `high` its quartiles;
    `difference` the mean relative difference to the study's own settings and `difference_low` to
    `difference_high` its 95 % interval (where the objective is minimised, below 0 is better);
    `trials` and `completed` are medians, `diverged_share` the mean share of compute. `notify` hears
    the name of each variant before it is replayed.

    Raises:
        InputError: as record_study.
    """
    recording = record_study(study_folder)
    surrogate = Surrogate(recording)
    spec = recording.study.spec
    compute = spec.budget.kimg * len(recording.curves)
    rows, baseline = [], []
    for name, scheduler, sampler in variants(recording):
        notify(name)
        runs = []
        for repeat in range(repeats):
            study = variant(recording.study, spec.seed + repeat, scheduler, sampler)
            method = Raygen(study, recording.milestones)
            runs.append(simulate(method, surrogate, compute, spec.seed + repeat))
        values = [run.at(math.inf) for run in runs]
        baseline = baseline or values
        low, value, high = np.nanquantile(values, [0.25, 0.5, 0.75])
        rows.append(
            {
                "variant": name,
                "value": value,
                "low": low,
                "high": high,
                **dict(zip(DIFFERENCE, paired(values, baseline), strict=True)),
                "trials": float(np.median([run.trials for run in runs])),
                "completed": float(np.median([run.completed for run in runs])),
                "diverged_share": float(np.mean([run.diverged / run.spent[-1] for run in runs])),
            }
        )
    return pd.DataFrame(rows)


def variants(recording: Recording) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What `compare` compares: a name, and what changes in the scheduler and in the sampler.

    A first rung cannot lie before the first recorded milestone.
    """
    budget, first = recording.study.spec.budget.kimg, recording.milestones[0]
    own = recording.study.spec
    yield f"as searched: {own.scheduler.name}, {own.sampler.name}", {}, {}
    for part in (27, 9, 3):
        grace = round(budget / part, 6)
        for eta in (2.0, 3.0, 4.0) if part == 9 else (3.0,):
            if grace >= first * (1 - 1e-4):
                asha = {"name": "asha", "grace_kimg": grace, "reduction_factor": eta}
                yield f"asha, grace 1/{part}, eta {eta:g}", asha, {}
    yield "median", {"name": "median"}, {}
    yield "none", {"name": "none"}, {}
    for sampler in ("tpe", "random", "quasi_random"):
        yield f"sampler {sampler}", {}, {"name": sampler}


def _recorded(
    found: results.Study, trial: int, params: Params, milestones: Sequence[float]
) -> Recorded:
    """A trial of a study as a curve."""
    state, reason = (
        str(found.trials.loc[found.trials["trial"] == trial, column].iloc[0])
        for column in ("state", "reason")
    )
    history = found.history[found.history["trial"] == trial]
    kimg = history["kimg"].to_numpy(float)
    columns = (found.metric, "seconds", found.metric + results.ERROR)
    values, seconds, sd = (np.full(len(milestones), math.nan) for _ in columns)
    for index, milestone in enumerate(milestones):
        at = np.flatnonzero(np.isclose(kimg, milestone, rtol=1e-4))
        for array, column in zip((values, seconds, sd), columns, strict=True):
            if len(at) and column in history:
                array[index] = float(history[column].iloc[at[-1]])
    if state == "completed":
        return Recorded(params, values, seconds, sd, milestones[-1])
    # What broke did so on the way to the next evaluation.
    broke = not reason.startswith(JUDGED)
    told = int(np.isfinite(values).sum())
    end = milestones[min(told, len(milestones) - 1)] if broke else float(kimg[-1])
    return Recorded(params, values, seconds, sd, end, reason, broke)


def _branching(group: Group) -> Iterator[str]:
    """The names of the parameters that choose a branch."""
    for node in group.children.values():
        if isinstance(node, Group):
            yield from _branching(node)
        if isinstance(node, Branches):
            yield node.choice.name
            for inside in node.groups.values():
                yield from _branching(inside)


def _mean(rows: Array, weights: Array) -> Array:
    """The weighted mean of the rows, column by column, over those that are known there."""
    known = np.isfinite(rows)
    share = (known * weights[:, None]).sum(axis=0)
    total = (np.where(known, rows, 0.0) * weights[:, None]).sum(axis=0)
    return np.where(share > 0, total / np.where(share > 0, share, 1.0), math.nan)


def _held(row: Array) -> Array:
    """The row with its last known number in place of all that is not known after it."""
    known = np.maximum.accumulate(np.where(np.isfinite(row), np.arange(len(row)), -1))
    return np.where(known >= 0, row[known], math.nan)


def _carried_on(curve: Recorded, grid: Array) -> Array:
    """The seconds at each milestone; where it had ended, at the speed it had had."""
    known = np.isfinite(curve.seconds)
    if not known.any():
        return np.full(len(grid), math.nan)
    rate = curve.seconds[known][-1] / min(curve.end, grid[known][-1])
    return np.where(known, curve.seconds, rate * grid)
