"""A study replayed with other schedulers and samplers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from raygen.config import Study
from raygen.progress_bar import ticking
from raygen.replay.recording import Recording, record_study
from raygen.replay.simulation import WORKERS, Raygen, simulate
from raygen.replay.surrogate import Surrogate

UNLIMITED = 1_000_000  # trials: what ends a replay is its compute
DIFFERENCE = ("difference", "difference_low", "difference_high")
SCHEDULERS: dict[str, dict[str, Any]] = {
    "none": {"name": "none", "promote": False},
    "asha": {"name": "asha", "promote": False},
    "promotion": {"name": "asha", "promote": True},
    "median": {"name": "median", "promote": False},
}
SAMPLERS = ("random", "quasi_random", "tpe", "gp", "curve")


class Interval(NamedTuple):
    """A mean and its 95% interval."""

    mean: float
    low: float
    high: float


def paired(values: Sequence[float], baseline: Sequence[float], draws: int = 4000) -> Interval:
    """Relative difference of paired values: the ratio of their geometric means, less 1.

    Of values that are not all positive it is the mean of (a - b) / |b|. The interval is a
    percentile bootstrap over pairs (Efron and Tibshirani 1993, section 13.3). Pairs of which one is
    not finite are left out.
    """
    a, b = np.array(values, float), np.array(baseline, float)
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    if not len(a):
        return Interval(math.nan, math.nan, math.nan)
    ratios = bool((a > 0).all() and (b > 0).all())
    difference = np.log(a) - np.log(b) if ratios else (a - b) / np.abs(b)
    random = np.random.default_rng(0)
    means = difference[random.integers(len(difference), size=(draws, len(difference)))].mean(axis=1)
    spread = np.array([difference.mean(), *np.quantile(means, [0.025, 0.975])])
    return Interval(*(np.expm1(spread) if ratios else spread).tolist())


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


def compare(
    study_folder: Path,
    repeats: int,
    notify: Callable[[str], None] = lambda text: None,
    workers: int = WORKERS,
    compute: float | None = None,
) -> pd.DataFrame:
    """Replay a finished study with other schedulers and samplers.

    With so many simulated `workers`, until as many images are spent as in `compute` full trainings:
    by default as many as there are curves. One row per variant, the study's own settings first.
    `value` is the median over the repeats of the noise-free objective of the recommended
    configuration, `low` and `high` its quartiles; `difference` the relative difference to the
    study's own settings and `difference_low` to `difference_high` its 95% interval (where the
    objective is minimised, below 0 is better); `trials` and `completed` are medians,
    `diverged_share` the mean share of compute. `notify` hears the name of each variant before it is
    replayed.

    Raises:
        InputError: as record_study.
    """
    recording = record_study(study_folder)
    surrogate = Surrogate(recording)
    spec = recording.study.spec
    images = spec.budget.kimg * (len(recording.curves) if compute is None else compute)
    rows, baseline = [], []
    several = list(variants(recording))
    for name, scheduler, sampler in ticking(several, "replaying", len(several)):
        notify(name)
        runs = []
        for repeat in range(repeats):
            study = variant(recording.study, spec.seed + repeat, scheduler, sampler)
            method = Raygen(study, recording.milestones)
            runs.append(simulate(method, surrogate, images, spec.seed + repeat, workers))
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

    Every sampler with every scheduler, but for Optuna's Gaussian process in a space with branches;
    then other rungs. A first rung cannot lie before the first recorded milestone.
    """
    budget, first = recording.study.spec.budget.kimg, recording.milestones[0]
    spec = recording.study.spec
    promotes = " by promotion" if spec.scheduler.promote else ""
    yield f"as searched: {spec.sampler.name}, {spec.scheduler.name}{promotes}", {}, {}
    branches = any(parameter.condition for parameter in recording.study.parameters)
    for sampler in SAMPLERS:
        for scheduler, settings in SCHEDULERS.items():
            if not (sampler == "gp" and branches):
                yield f"{sampler}, {scheduler}", settings, {"name": sampler}
    for part in (27, 9, 3):
        grace = round(budget / part, 6)
        for eta in (2.0, 3.0, 4.0) if part == 9 else (3.0,):
            if grace >= first * (1 - 1e-4):
                asha = {"name": "asha", "grace_kimg": grace, "reduction_factor": eta}
                yield f"grace 1/{part}, eta {eta:g}", asha, {}
