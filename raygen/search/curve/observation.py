"""What the model is conditioned on: trials as rows, and what each is worth at the full budget."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from raygen.search.curve.extrapolation import at_full_budget, log_distance

Array = np.ndarray

CEILING = 1.5  # values above this many spreads over the median are all just bad
WORST, WORST_VARIANCE = 0.95, 0.1  # what a trial counts for that diverged: a quantile
EARLIER_VARIANCE = 0.05  # of a value from an earlier study, in squared spreads
AUGMENTATION = 0.05  # of Tchebycheff's scalarisation (Knowles 2006)

RUNNING, ENDED, INFEASIBLE, EARLIER_STUDY = range(4)


class Rows(NamedTuple):
    """Trials as the model sees them, in the order of their numbers; arrays of n trials."""

    numbers: Array  # (n,)
    points: Array  # (n, d)
    features: Array  # (n, d)
    levels: Array  # (n, objectives, levels): the best so far, minimised; nan where it did not get
    errors: Array  # (n, levels): standard error of the first objective
    spent: Array  # (n,): steps trained
    states: Array  # (n,): RUNNING, ENDED, INFEASIBLE, or of an EARLIER_STUDY
    suggested: Array  # (n,): whether this sampler suggested it, or it was enqueued
    design: Array  # (n,): whether it is a design point

    @property
    def valued(self) -> Array:
        """Which have a value at some level: (n,)."""
        return np.asarray(np.isfinite(self.levels).any(axis=-1).any(axis=-1))


class Observed(NamedTuple):
    """What the model is conditioned on: values at the full budget, scaled, to be minimised."""

    places: Array  # (n,): of the trials among the rows
    y: Array  # (n,)
    variances: Array  # (n,)


def observe(rows: Rows, random: np.random.Generator) -> Observed | None:
    """The values of all trials at the full budget; None while there is too little to model."""
    sound = np.flatnonzero(rows.valued & (rows.states != INFEASIBLE))
    if not len(sound):
        return None
    levels, errors = rows.levels[sound], rows.errors[sound]
    parts = [
        _scaled_objective(levels[:, k], errors if k == 0 else np.zeros(errors.shape))
        for k in range(levels.shape[1])
    ]
    y, variances = _spreads(*(parts[0] if len(parts) == 1 else _scalarised(parts, random)))
    variances = variances + EARLIER_VARIANCE * (rows.states[sound] == EARLIER_STUDY)
    bad = np.flatnonzero(rows.states == INFEASIBLE)
    worst = np.full(len(bad), np.quantile(y, WORST))
    y = np.minimum(np.concatenate([y, worst]), CEILING)
    variances = np.concatenate([variances, np.full(len(worst), WORST_VARIANCE)])
    if len(np.unique(y)) < 2:
        return None
    return Observed(np.concatenate([sound, bad]), y, variances)


def advantage(features: Array, levels: Array, places: Array, given: Array) -> float:
    """From 0 to 1: how far the best of the trials at the priors is above the median.

    Of trials with features (n, d) and values at levels (n, levels); priors are at places (p, d) and
    say what is `given` (p, d).
    """
    at_prior = np.zeros(len(features), bool)
    for place, columns in zip(places, given, strict=True):
        same = np.arange(len(at_prior))
        for column in np.flatnonzero(columns):  # few are left after the first
            same = same[np.abs(features[same, column] - place[column]) < 1e-9]
        at_prior[same] = True
    if not at_prior.any() or at_prior.all():
        return 1.0
    values, _ = at_full_budget(levels, np.zeros(levels.shape))
    beaten = float((values[~at_prior] > np.nanmin(values[at_prior])).mean())
    return max(0.0, 2 * beaten - 1)


def _scaled_objective(levels: Array, errors: Array) -> tuple[Array, Array]:
    """An objective of each trial at the full budget and its variance, in log distances."""
    best = np.where(np.isfinite(levels), levels, math.inf).min(axis=1)
    scaled = log_distance(levels, best)
    relative = np.square(errors / np.exp(scaled))  # the slope of a logarithm
    return at_full_budget(scaled, np.minimum(np.nan_to_num(relative), 1.0))


def _scalarised(
    parts: Sequence[tuple[Array, Array]], random: np.random.Generator
) -> tuple[Array, Array]:
    """Objectives as one, by augmented Tchebycheff with weights drawn anew (Knowles 2006)."""
    weights = random.dirichlet(np.ones(len(parts)))
    scaled, spread = [], []
    for values, variances in parts:
        y, v = _spreads(values, variances)
        y = np.minimum(y, CEILING)
        width = float(y.max() - y.min()) or 1.0
        scaled.append((y - y.min()) / width)
        spread.append(v / width**2)
    weighted = weights[:, None] * np.array(scaled)
    value = weighted.max(axis=0) + AUGMENTATION * weighted.sum(axis=0)
    return value, (np.square(weights)[:, None] * np.array(spread)).sum(axis=0)


def _spreads(y: Array, variances: Array) -> tuple[Array, Array]:
    """Centred at the median, in units of the spread of the lower half."""
    apart = y - np.median(y)
    spread = math.sqrt(2 * float(np.square(np.minimum(apart, 0.0)).mean())) or 1.0
    return apart / spread, variances / spread**2
