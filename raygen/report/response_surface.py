"""A Gaussian process on the trials of a study: what a configuration between them would give.

It predicts the value projected to the full budget (see `tables.projected`) of completed and stopped
trials. How far it can be trusted is measured, not assumed: `r2` is over trials that were left out,
and a chart without a surrogate that predicts them is not drawn.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import cholesky, solve_triangular

from raygen.report.labels import percent
from raygen.report.memo import once_per_study
from raygen.report.tables import (
    AxisScale,
    SearchedSetting,
    projected,
    value_scale,
    varying,
)
from raygen.results import Results
from raygen.results.changes import start_to_best

NEEDED = 20  # trials
MOST = 300  # trials that it learns from: the cost grows with the third power
TRUSTED = 0.5  # share of the variance of left-out trials that it must explain
NEAR = 0.2  # of what was measured (of the axis, if that can be negative): how far off it may be
LENGTHS = (0.3, 0.6, 1.2)
NOISES = (0.01, 0.1, 0.5, 1.0)  # variance of the noise over that of the process
SWEEPS = 2
RELEVANCES = (0.0, 0.25, 1.0, 4.0)


class ResponseSurface(NamedTuple):
    """A fitted process; positions are those of `encode`."""

    parameters: list[SearchedSetting]
    points: np.ndarray  # (n, d) positions of the trials
    relevance: np.ndarray  # (d,) weight of each setting in a distance
    length: float
    weights: np.ndarray  # (n,)
    mean: float
    sd: float
    log: bool  # fitted to logarithms: halving a distance is a step, wherever it begins
    r2: float  # leave one out, 1 at best; below 0 it is worse than the mean
    trials: int
    near: bool = True  # at the starting point and the best trial, to what was measured there

    @property
    def trusted(self) -> bool:
        return self.r2 >= TRUSTED and self.near

    @property
    def explained(self) -> str:
        """Its leave-one-out R², as text."""
        return f"{max(0.0, self.r2):.2f}"

    @property
    def doubt(self) -> str:
        """Why it is not trusted."""
        if self.r2 < TRUSTED:
            return (
                f"the surrogate's leave-one-out R² over {self.trials} trials is {self.explained}, "
                f"below {TRUSTED:g}"
            )
        off = f"the surrogate is off by more than {percent(NEAR)}"
        return f"{off} at the starting point or at the best trial"

    def predict(self, positions: np.ndarray) -> np.ndarray:
        """Positions (m, d) -> values of the objective (m,)."""
        kernel = _kernel(_distances(positions, self.points, self.parameters), self.relevance,
                         self.length)  # fmt: skip
        warped = self.mean + self.sd * (kernel @ self.weights)
        return np.exp(warped) if self.log else warped


def encode(parameters: list[SearchedSetting], rows: pd.DataFrame) -> np.ndarray:
    """Settings -> positions in their ranges (n, d), 0 to 1; nan where a branch has none."""
    return np.column_stack([rows[p.name].map(p.unit).to_numpy(dtype=float) for p in parameters])


@once_per_study
def fit_surface(study: Results) -> ResponseSurface | None:
    """Fit to the trials of a study; None with too few, or without a setting that varied."""
    chosen, scale = varying(study), value_scale(study)
    order = projected(study)
    states = study.trials.set_index("trial")["state"]
    order = order[order["trial"].map(states).isin(["completed", "stopped"])]
    if len(order) < NEEDED or not chosen or scale is None:
        return None
    if len(order) > MOST:  # the best half, and an even sample of the others
        even = np.linspace(MOST // 2, len(order) - 1, MOST - MOST // 2).round().astype(int)
        order = order.iloc[np.unique([*range(MOST // 2), *even])]
    trials = study.trials.set_index("trial").loc[order["trial"]]
    values = np.array([_clip(value, scale) for value in order["value"].astype(float)])
    log = bool(values.min() > 0)
    values = np.log(values) if log else values
    mean, sd = float(values.mean()), float(values.std()) or 1.0
    target = (values - mean) / sd
    points = encode(chosen, trials)
    distances = _distances(points, points, chosen)
    best = _Choice(-math.inf, np.full(len(chosen), 0.25), 0.6, 0.1)
    for _ in range(SWEEPS):
        for length in LENGTHS:
            for noise in NOISES:
                best = _likelier(best, _judge(distances, target, best.relevance, length, noise))
        for at in range(len(chosen)):  # which settings matter, one at a time
            for relevance in RELEVANCES:
                other = best.relevance.copy()
                other[at] = relevance
                tried = _judge(distances, target, other, best.length, best.noise)
                best = _likelier(best, tried)
    kernel = _kernel(distances, best.relevance, best.length)
    weights = np.linalg.solve(kernel + best.noise * np.eye(len(target)), target)
    left_out = _left_out(kernel, target, best.noise)
    r2 = 1 - float(np.mean((left_out - target) ** 2)) / float(np.mean(target**2) or 1.0)
    model = ResponseSurface(
        chosen, points, best.relevance, best.length, weights, mean, sd, log, r2, len(target)
    )
    return model._replace(near=_near(study, model, scale))


def example(study: Results, trial: int) -> pd.DataFrame:
    """The settings of one trial as a frame of one row."""
    return study.trials[study.trials["trial"] == trial].reset_index(drop=True)


def ends(study: Results) -> tuple[int, int] | None:
    """The best starting point and the best trial, if both are there and are not the same."""
    return start_to_best(study)


def _near(study: Results, model: ResponseSurface, scale: AxisScale) -> bool:
    """Whether both ends of the way that charts take are predicted as they were measured."""
    pair, measured = ends(study), projected(study).set_index("trial")["value"].astype(float)
    for trial in pair or ():
        if trial not in measured.index:
            continue
        value = _clip(float(measured[trial]), scale)
        size = abs(value) if model.log else scale.high - scale.low
        predicted = float(model.predict(encode(model.parameters, example(study, trial)))[0])
        if abs(predicted - value) > NEAR * size:
            return False
    return True


class _Choice(NamedTuple):
    likelihood: float
    relevance: np.ndarray
    length: float
    noise: float


def _judge(
    distances: np.ndarray, target: np.ndarray, relevance: np.ndarray, length: float, noise: float
) -> _Choice:
    """Log marginal likelihood of these hyperparameters (Rasmussen and Williams 2006, eq. 2.30)."""
    kernel = _kernel(distances, relevance, length) + noise * np.eye(len(target))
    # In units of a variance that is fitted in closed form, so that 1 + noise need not be right.
    root = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
    solved = solve_triangular(root, target, lower=True, check_finite=False)
    n = len(target)
    variance = float(solved @ solved) / n
    value = -0.5 * n * math.log(variance) - float(np.log(np.diag(root)).sum())
    return _Choice(value, relevance, length, noise)


def _likelier(one: _Choice, other: _Choice) -> _Choice:
    return other if other.likelihood > one.likelihood else one


def _left_out(kernel: np.ndarray, target: np.ndarray, noise: float) -> np.ndarray:
    """What each target is predicted to be without it (Rasmussen and Williams 2006, eq. 5.12)."""
    inverse = np.linalg.inv(kernel + noise * np.eye(len(target)))
    return target - (inverse @ target) / np.diag(inverse)


def _distances(one: np.ndarray, other: np.ndarray, parameters: list[SearchedSetting]) -> np.ndarray:
    """Squared distance in each setting: (n, d), (m, d) -> (d, n, m).

    Of a choice: 0 or 1. Absent on one side only: 1; on both: 0.
    """
    parts = []
    for at, parameter in enumerate(parameters):
        a, b = one[:, at][:, None], other[:, at][None, :]
        gap = np.abs(a - b)
        square = (gap > 1e-9).astype(float) if parameter.kind == "choice" else gap**2
        missing = np.isnan(a).astype(int) + np.isnan(b).astype(int)
        parts.append(np.where(missing == 0, np.nan_to_num(square), missing % 2))
    return np.array(parts)


def _kernel(distances: np.ndarray, relevance: np.ndarray, length: float) -> np.ndarray:
    return np.exp(-0.5 * np.tensordot(relevance, distances, axes=1) / length**2)


def _clip(value: float, scale: AxisScale) -> float:
    """Values off the scale would be all that it learns."""
    return min(max(value, scale.low), scale.high)
