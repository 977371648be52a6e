"""Which of a few candidates is the best, from a few noisy values of each.

Values scatter around their candidate's mean with one variance for all of them, because three seeds
say little about a variance of their own. With the usual flat prior a mean is then Student's t
around the sample mean, with the pooled deviation and (values - candidates) degrees of freedom
(Gelman et al., Bayesian Data Analysis, 3rd edition, section 3.2).
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

DRAWS = 20_000
LEVEL = 0.95  # of the intervals


class Posterior(NamedTuple):
    """What the values say of each candidate, by its number; nan where they say nothing."""

    mean: dict[int, float]
    sd: dict[int, float]  # scatter of its own values, nan for a single one
    low: dict[int, float]  # 95% interval of the mean
    high: dict[int, float]
    best: dict[int, float]  # probability that its mean is the best of all; 0 without a value


def posterior(values: Mapping[int, Sequence[float]], minimise: bool, seed: int = 0) -> Posterior:
    """Judge candidates by their values (finite, independent; any number of each).

    While no candidate has two values the scatter is unknown: no intervals, no probabilities.
    """
    names = list(values)
    groups = {name: np.asarray(values[name], dtype=float) for name in names if len(values[name])}
    mean = {name: float(group.mean()) for name, group in groups.items()}
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups.values())
    freedom = sum(map(len, groups.values())) - len(groups)
    pooled = math.sqrt(squares / freedom) if freedom else math.nan
    error = {name: pooled / math.sqrt(len(group)) for name, group in groups.items()}
    half = {name: t_quantile(freedom) * error[name] if freedom else math.nan for name in groups}
    best = _best(list(mean.values()), list(error.values()), freedom, minimise, seed)
    sd = {name: float(group.std(ddof=1)) for name, group in groups.items() if len(group) > 1}
    nothing = dict.fromkeys(names, math.nan)
    return Posterior(
        nothing | mean,
        nothing | sd,
        nothing | {name: mean[name] - half[name] for name in groups},
        nothing | {name: mean[name] + half[name] for name in groups},
        dict.fromkeys(names, 0.0) | dict(zip(groups, best, strict=True)),
    )


@cache
def t_quantile(freedom: int) -> float:
    """The t with P(-t < T < t) = 0.95 for Student's t with `freedom` >= 1 degrees of freedom.

    With T = sqrt(freedom) tan(a) the angle a has a density proportional to cos(a)^(freedom - 1).
    """
    angle = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angle) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(LEVEL, mass / mass[-1], angle)))


def _best(
    mean: list[float], error: list[float], freedom: int, minimise: bool, seed: int
) -> list[float]:
    """Share of joint draws from the posterior in which each mean is the best; ties are shared."""
    if len(mean) < 2:
        return [1.0] * len(mean)
    if not freedom:
        return [math.nan] * len(mean)
    rng = np.random.default_rng(seed)
    # The variance is unknown, but the same for all: one draw of it serves all candidates.
    wide = np.sqrt(freedom / rng.chisquare(freedom, size=(DRAWS, 1)))
    noise = rng.standard_normal((DRAWS, len(mean))) * np.array(error) * wide
    drawn = (np.array(mean) if minimise else -np.array(mean)) + noise
    first = drawn == drawn.min(axis=1, keepdims=True)
    return (first / first.sum(axis=1, keepdims=True)).mean(axis=0).tolist()
