"""Which of a few candidates is the best, from a few noisy values of each.

Candidates scatter differently, but three seeds say little about a variance. So the variance of each
is that of its own values and, as if by PRIOR more values, the pooled one of all candidates: the
moderated t statistics of Smyth 2004 ("Linear models and empirical Bayes methods", section 4). With
the usual flat prior a mean is then Student's t around the sample mean (Gelman et al., Bayesian Data
Analysis, 3rd edition, section 3.2). On the recorded GANs and VAEs such intervals hold the next seed
as often as they say (benchmarks/seed_intervals.py).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

DRAWS = 20_000
LEVEL = 0.95  # of the intervals
PRIOR = 1.0  # values for which the pooled variance counts in that of a candidate


class Posterior(NamedTuple):
    """What the values say of each candidate, by its number; nan where they say nothing."""

    mean: dict[int, float]
    sd: dict[int, float]  # scatter of its own values, nan for a single one
    low: dict[int, float]  # 95% interval of the mean
    high: dict[int, float]
    best: dict[int, float]  # probability that its mean is the best of all; 0 without a value


class Scatter(NamedTuple):
    """Variance of a candidate's values, and how many degrees of freedom know it."""

    variance: float
    freedom: float


def scatters(values: Mapping[int, Sequence[float]]) -> dict[int, Scatter]:
    """How the values of each candidate scatter; empty while no candidate has two values."""
    groups = {name: np.asarray(group, dtype=float) for name, group in values.items() if len(group)}
    squares = {name: float(((g - g.mean()) ** 2).sum()) for name, g in groups.items()}
    freedom = {name: len(group) - 1 for name, group in groups.items()}
    known = sum(freedom.values())
    if not known:
        return {}
    pooled = sum(squares.values()) / known
    return {
        name: Scatter(
            (PRIOR * pooled + squares[name]) / (PRIOR + freedom[name]), PRIOR + freedom[name]
        )
        for name in groups
    }


def posterior(values: Mapping[int, Sequence[float]], minimise: bool, seed: int = 0) -> Posterior:
    """Judge candidates by their values (finite, independent; any number of each).

    While no candidate has two values the scatter is unknown: no intervals, no probabilities.
    """
    names = list(values)
    groups = {name: np.asarray(values[name], dtype=float) for name in names if len(values[name])}
    mean = {name: float(group.mean()) for name, group in groups.items()}
    scatter = scatters(values)
    error, half = {}, {}
    for name, group in groups.items():
        variance, freedom = scatter.get(name, (math.nan, math.nan))
        error[name] = math.sqrt(variance / len(group))
        half[name] = t_quantile(freedom) * error[name] if scatter else math.nan
    freedoms = [each.freedom for each in scatter.values()]
    best = _best(list(mean.values()), list(error.values()), freedoms, minimise, seed)
    sd = {name: float(group.std(ddof=1)) for name, group in groups.items() if len(group) > 1}
    nothing = dict.fromkeys(names, math.nan)
    return Posterior(
        nothing | mean,
        nothing | sd,
        nothing | {name: mean[name] - half[name] for name in groups},
        nothing | {name: mean[name] + half[name] for name in groups},
        dict.fromkeys(names, 0.0) | dict(zip(groups, best, strict=True)),
    )


class Gap(NamedTuple):
    """How far two means are apart, the error of that, and its degrees of freedom."""

    size: float
    error: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the gap."""
        half = t_quantile(self.freedom) * self.error if self.error else 0.0
        return self.size - half, self.size + half


def gap(one: Sequence[float], other: Sequence[float], scatter: tuple[Scatter, Scatter]) -> Gap:
    """Difference of two means (one - other) by Welch 1947 and Satterthwaite 1946."""
    pairs = zip(scatter, (one, other), strict=True)
    parts = [each.variance / len(values) for each, values in pairs]
    size, total = float(np.mean(one)) - float(np.mean(other)), sum(parts)
    if total == 0:
        return Gap(size, 0.0, math.inf)
    shares = zip(parts, scatter, strict=True)
    freedom = total**2 / sum(part**2 / each.freedom for part, each in shares)
    return Gap(size, math.sqrt(total), freedom)


def difference(values: Mapping[int, Sequence[float]], one: int, other: int) -> tuple[float, float]:
    """95% interval of the difference of two candidates' means (one - other); nan if unknown."""
    scatter = scatters(values)
    if not scatter or one not in scatter or other not in scatter:
        return math.nan, math.nan
    return gap(values[one], values[other], (scatter[one], scatter[other])).interval


def t_quantile(freedom: float) -> float:
    """The t with P(-t < T < t) = 0.95 for Student's t with `freedom` degrees of freedom."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def holm(values: Mapping[int, Sequence[float]], best: int) -> dict[int, float]:
    """Return p of each other candidate having the mean of `best`, two-sided, after Holm 1979.

    By the same t as `difference`; nan where the scatter is unknown.
    """
    scatter, plain = scatters(values), {}
    for name in values:
        if name == best or not len(values[name]):
            continue
        if not scatter:
            plain[name] = math.nan
            continue
        apart = gap(values[best], values[name], (scatter[best], scatter[name]))
        if apart.error:
            t = abs(apart.size) / apart.error
            plain[name] = 2 * float(stdtr(apart.freedom, -t))
        else:
            plain[name] = float(apart.size == 0)
    adjusted, before = {}, 0.0
    for place, (name, p) in enumerate(sorted(plain.items(), key=lambda item: item[1])):
        before = adjusted[name] = max(before, min(1.0, (len(plain) - place) * p))
    return adjusted


def _best(
    mean: list[float], error: list[float], freedoms: list[float], minimise: bool, seed: int
) -> list[float]:
    """Share of joint draws from the posterior in which each mean is the best; ties are shared."""
    if len(mean) < 2:
        return [1.0] * len(mean)
    if not freedoms:
        return [math.nan] * len(mean)
    rng = np.random.default_rng(seed)
    noise = rng.standard_t(freedoms, (DRAWS, len(mean))) * np.array(error)
    drawn = (np.array(mean) if minimise else -np.array(mean)) + noise
    first = drawn == drawn.min(axis=1, keepdims=True)
    return (first / first.sum(axis=1, keepdims=True)).mean(axis=0).tolist()
