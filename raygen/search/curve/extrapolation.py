"""What a trial that was stopped would have reached: each level is regressed on the one before.

All values are minimised. Levels are the budgets at which curves are compared, the last of them the
full one.
"""

import math
from typing import NamedTuple

import numpy as np

Array = np.ndarray
# Before two trials have reached a level nothing is known of its spread: this much, in log units.
UNKNOWN_VARIANCE = 0.25
RESIDUALS_BEFORE = 0.2  # a sum of squares, as if of two residuals that were seen before
STEEPEST = 1.5


class Step(NamedTuple):
    """From a level to the next: y = shift + slope x, with a residual variance."""

    shift: float
    slope: float
    variance: float


def log_distance(values: Array, best: Array) -> Array:
    """Values as logarithms of their distance from an ideal, for they span decades.

    The ideal is beyond the lowest of `best`, by half of what separates that from the median: so the
    best are told apart without one of them being infinitely good.
    """
    lowest, middle = float(best.min()), float(np.median(best))
    beyond = (middle - lowest) / 2 or abs(lowest) / 10 or 1.0
    return np.log(np.maximum(values - (lowest - beyond), np.finfo(float).tiny))


def chain(levels: Array) -> list[Step]:
    """Regress each level on the one before, over the trials that reached both.

    `levels` (trials, levels) holds the best value so far at each, nan where a trial did not get.
    The slope is shrunk to 1. That only good trials go on does no harm: what they were selected by
    is the regressor (Little and Rubin 2019, section 6.2).
    """
    steps = []
    for before, after in zip(levels.T[:-1], levels.T[1:], strict=True):
        both = np.isfinite(before) & np.isfinite(after)
        x, y, count = before[both], after[both], int(both.sum())
        if not count:
            steps.append(Step(0.0, 1.0, UNKNOWN_VARIANCE))
            continue
        pull = 2 * max(float(x.var()), 1e-6)
        apart = x - x.mean()
        slope = (apart @ (y - y.mean()) + pull) / (apart @ apart + pull)
        slope = min(max(float(slope), 0.0), STEEPEST)
        shift = float(y.mean() - slope * x.mean())
        residuals = y - shift - slope * x
        variance = (float(residuals @ residuals) + RESIDUALS_BEFORE) / (count + 2)
        steps.append(Step(shift, slope, variance))
    return steps


def at_full_budget(levels: Array, errors: Array) -> tuple[Array, Array]:
    """Carry each trial's last level on to the full budget: value and variance there, (trials,).

    `errors` (trials, levels) are variances of the values themselves. Without a value it is nan.
    """
    steps = chain(levels)
    values, variances = np.full(len(levels), math.nan), np.full(len(levels), math.nan)
    for level in range(levels.shape[1]):
        if level:
            step = steps[level - 1]
            values = step.shift + step.slope * values
            variances = step.slope**2 * variances + step.variance
        reached = np.isfinite(levels[:, level])
        values = np.where(reached, levels[:, level], values)
        variances = np.where(reached, errors[:, level], variances)
    return values, variances
