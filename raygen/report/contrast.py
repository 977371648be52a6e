"""One configuration against another, like with like: over seeds, or one seed of each."""

import math
import statistics
from typing import NamedTuple

from raygen.posterior import Scatter, difference, gap
from raygen.report.labels import number
from raygen.results import Results
from raygen.words import counted


class Contrast(NamedTuple):
    """Two values that compare: means over `seeds` trainings each, or (0) those of the search.

    `low` to `high` is the 95% interval of their difference; nan if unknown.
    """

    value: float
    other: float
    seeds: int
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def within_chance(self) -> bool:
        """Whether the interval of the difference is known and includes 0."""
        return not math.isnan(self.low) and not self.certain

    @property
    def basis(self) -> str:
        """What the difference is based on, in words."""
        if not self.seeds:
            return "one seed each, so it may be chance"
        text = f"{counted(self.seeds, 'seed')} each"
        if math.isnan(self.low):
            return f"{text}, so it may be chance"
        includes = "" if self.certain else ", which includes 0"
        span = f"{number(self.low)} to {number(self.high)}"
        return f"{text}; 95% interval of the difference {span}{includes}"


def contrast(study: Results, trial: int, other: int) -> Contrast | None:
    """Compare two trials of a study; None where one of them has no value."""
    repeats, others = seed_values(study, trial), seed_values(study, other)
    if repeats and others:
        seeds = min(len(repeats), len(others))
        interval = _interval(study, trial, other)
        return Contrast(_mean(repeats), _mean(others), seeds, *interval)
    singles = study.trials.set_index("trial")["value"].astype(float)
    value, against = float(singles.get(trial, math.nan)), float(singles.get(other, math.nan))
    if math.isnan(value) or math.isnan(against):
        return None
    return Contrast(value, against, 0, math.nan, math.nan)


def _interval(study: Results, trial: int, other: int) -> tuple[float, float]:
    """95% interval of the difference of two finalists' means, by the model of the race."""
    numbers = sorted(set(study.replicates["of"].astype(int)))
    return difference({number: seed_values(study, number) for number in numbers}, trial, other)


def unpaired(one: list[float], other: list[float]) -> tuple[float, float]:
    """95% interval of the difference of two means, without equal variances (Welch 1947)."""
    if min(len(one), len(other)) < 2:
        return math.nan, math.nan
    scatter = (_own_scatter(one), _own_scatter(other))
    apart = gap(one, other, scatter)
    if not apart.error:
        return apart.interval
    # Rounded down: better too wide an interval than too narrow a one.
    return apart._replace(freedom=max(1, int(apart.freedom))).interval


def _own_scatter(values: list[float]) -> Scatter:
    return Scatter(statistics.variance(values), len(values) - 1)


def seed_values(study: Results, trial: int) -> list[float]:
    """Values of a trial's completed replicates."""
    table = study.replicates
    done = table[(table["of"] == trial) & (table["state"] == "completed") & table["value"].notna()]
    return done["value"].astype(float).tolist()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
