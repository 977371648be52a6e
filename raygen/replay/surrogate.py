"""The learning curve of any configuration, predicted from recorded ones."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from raygen.metrics import METRICS
from raygen.replay.recording import (
    Array,
    DistanceScale,
    Params,
    Recorded,
    Recording,
    persistence,
)
from raygen.space import Branches, Group

# How far two choices are apart, where a whole range is 1, and how many neighbours count. With 1 and
# 5 the nearest neighbours share the choices and not the learning rate: the leave-one-out rank
# correlation of the predicted best value is 0.24 on the recorded GANs and 0.33 on the VAEs
# (benchmarks/search_quality.py), with these it is 0.49 and 0.58.
CHOICE = 0.15
NEIGHBOURS = 3
ALIKE = 5  # configurations whose noise a trial may have


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
        self.scale = DistanceScale.of(values, self.minimise)
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
            reported = np.isfinite(fatal.values)
            healthy, clean = clean[reported], _held(np.where(reported, clean, math.nan))
        rows = _Rows(clean + self._deviation(clean, luck), errors, seconds)
        return self._said(milestones, rows, fatal, healthy)

    def _said(
        self, milestones: Sequence[float], rows: "_Rows", fatal: Recorded | None, healthy: Array
    ) -> Forecast:
        """What a trial says by these rows; `healthy` are its noise-free values, on the scale."""
        steps = [self._step(kimg, rows, fatal) for kimg in milestones]
        if fatal is not None and fatal.broke:
            then = self._clock(fatal.end, rows.seconds)
            broken = Step(fatal.end, then, math.nan, None, fatal.diverged, True, False)
            steps.insert(sum(step.diverged is None for step in steps), broken)
        steps[-1] = steps[-1]._replace(last=True)
        measured = self.scale.back(healthy)
        pick = np.min if self.minimise else np.max
        return Forecast(tuple(steps), float(pick(measured)) if len(measured) else math.nan)

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
        offsets = np.zeros(len(clean))
        for index, z in enumerate(fate):
            apart = [abs(noise.curve[index] - clean[index]) for noise in self.noise]
            alike = np.argsort(apart, kind="stable")[:ALIKE]
            pool = np.concatenate([self.noise[i].rows[:, index] for i in alike])
            offsets[index] = np.quantile(pool, (1 + math.erf(z / math.sqrt(2))) / 2)
        return offsets

    def _nearest(self, params: Params, count: int | None = None) -> tuple[Array, Array]:
        """The indices and weights of the neighbours, nearest first."""
        branch = self._branch(params)
        here = np.array([other == branch for other in self.branches])
        candidates = np.flatnonzero(here if here.any() else ~here)
        apart = self.points[candidates] - self._point(params)
        apart = np.where(self.categorical, CHOICE * (apart != 0), apart)
        present, asked = ~np.isnan(self.points[candidates]), ~np.isnan(self._point(params))
        # A parameter that only one of the two has tells them apart as two choices do.
        apart = np.where(present & asked, apart, CHOICE * (present != asked))
        distance = np.sqrt(np.square(apart).sum(axis=1))
        order = np.argsort(distance, kind="stable")[: count or self.neighbours]
        if distance[order[0]] == 0 and count is None:
            return candidates[order[:1]], np.ones(1)
        weights = 1 / np.maximum(distance[order], 1e-9)
        return candidates[order], weights / weights.sum()

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
    finite = np.isfinite(rows)
    share = (finite * weights[:, None]).sum(axis=0)
    total = (np.where(finite, rows, 0.0) * weights[:, None]).sum(axis=0)
    return np.where(share > 0, total / np.where(share > 0, share, 1.0), math.nan)


def _held(row: Array) -> Array:
    """The row with its last known number in place of all that is not known after it."""
    last = np.maximum.accumulate(np.where(np.isfinite(row), np.arange(len(row)), -1))
    return np.where(last >= 0, row[last], math.nan)


def _carried_on(curve: Recorded, grid: Array) -> Array:
    """The seconds at each milestone; where it had ended, at the speed it had had."""
    reached = np.isfinite(curve.seconds)
    if not reached.any():
        return np.full(len(grid), math.nan)
    rate = curve.seconds[reached][-1] / min(curve.end, grid[reached][-1])
    return np.where(reached, curve.seconds, rate * grid)
