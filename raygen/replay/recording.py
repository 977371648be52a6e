"""Recorded learning curves, and what is known of their noise."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raygen import results
from raygen.config import Study
from raygen.config_file import load_space
from raygen.errors import InputError
from raygen.journal import read_records
from raygen.journal.records import Suggest
from raygen.training.health import JUDGED
from raygen.words import counted

Array = np.ndarray
Params = Mapping[str, Any]
LEAST_CURVES = 10


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


class DistanceScale(NamedTuple):
    """Values are averaged, and noise is added, as logarithms of their distance from an ideal.

    The ideal is beyond the best recorded value, by half of what separates that from the median. So
    a distance of 1e9 is just very bad, what is worse is noisier, and no luck goes beyond the ideal.
    """

    ideal: float
    sign: float  # 1 where the objective is minimised, else -1

    @classmethod
    def of(cls, values: Array, minimise: bool) -> "DistanceScale":
        """Return the scale for these values."""
        finite = values[np.isfinite(values)]
        best, middle = float(finite.min() if minimise else finite.max()), float(np.median(finite))
        beyond = abs(middle - best) / 2 or abs(best) / 10 or 1.0
        return cls(best - beyond if minimise else best + beyond, 1.0 if minimise else -1.0)

    def forward(self, values: Array) -> Array:
        return np.log(self.sign * (values - self.ideal))

    def back(self, values: Array) -> Array:
        # At e^700 floats end, and wild values are made wilder by noise.
        return self.ideal + self.sign * np.exp(np.minimum(values, 700.0))


def seed_noise(groups: Sequence[Array], scale: DistanceScale) -> tuple[Noise, ...]:
    """What seeds do to a curve, from complete curves (seeds, milestones) of a configuration each.

    Deviations are from the median, so that one seed that went wrong does not make the others look
    lucky, and are widened by what a median of few values takes from the spread.
    """
    noise = []
    for group in groups:
        if len(group) > 1:
            scaled = scale.forward(group)
            middle = np.median(scaled, axis=0)
            unbiased = math.sqrt(len(group) / (len(group) - 1))
            noise.append(Noise(middle, (scaled - middle) * unbiased))
    return tuple(noise)


def persistence(noise: Sequence[Noise]) -> float:
    """How far a seed that is lucky at a milestone is so at the next: a rank correlation, 0 to 1."""
    ranks = [np.argsort(np.argsort(group.rows, axis=0), axis=0) for group in noise]
    centred = [rank - rank.mean(axis=0) for rank in ranks]
    both = sum(float((rank[:, 1:] * rank[:, :-1]).sum()) for rank in centred)
    size = sum(float(np.square(rank[:, 1:]).sum()) for rank in centred)
    return min(max(both / size, 0.0), 0.99) if size else 0.0


def record_study(folder: Path) -> Recording:
    """Read the curves of a finished study: those of its completed and its diverged trials.

    The noise is what other seeds did to its finalists, if they were trained again: one shift of the
    whole curve. Otherwise there is none, and every replay has the luck that was recorded.

    Raises:
        InputError: the folder holds no study, or too few complete curves.
    """
    study_results = results.load_results(folder)
    records = read_records(study_results.folder.journal)
    params = {r.trial: r.params for r in records if isinstance(r, Suggest)}
    if not study_results.info["milestones"]:
        raise InputError(
            f"{study_results.folder.journal}:1: the study does not record its milestones"
        )
    if study_results.info["scheduler"].get("name") == "pbt":
        raise InputError(f"{folder}: a population cannot be replayed: its trials copy each other")
    milestones = tuple(float(kimg) for kimg in study_results.info["milestones"])
    ended = study_results.trials[study_results.trials["state"].isin(["completed", "diverged"])]
    curves = [
        _recorded(study_results, trial, params[trial], milestones) for trial in ended["trial"]
    ]
    kept = [curve for curve in curves if curve.diverged or np.isfinite(curve.values).all()]
    complete = sum(not curve.diverged for curve in kept)
    if complete < LEAST_CURVES:
        raise InputError(
            f"{folder}: {counted(complete, 'complete curve')}, but a replay needs {LEAST_CURVES}: "
            "a search with --set scheduler.name=none records them"
        )
    again = study_results.replicates[study_results.replicates["state"] == "completed"]
    values = [group["value"].dropna().to_numpy(float) for _, group in again.groupby("of")]
    groups = [np.repeat(group[:, None], len(milestones), axis=1) for group in values]
    scale = DistanceScale.of(
        np.concatenate([curve.values for curve in kept]), study_results.minimise
    )
    study = load_space(study_results.folder.space)
    return Recording(study, milestones, tuple(kept), seed_noise(groups, scale))


def _recorded(
    study_results: results.Results, trial: int, params: Params, milestones: Sequence[float]
) -> Recorded:
    """A trial of a study as a curve."""
    state, reason = (
        str(study_results.trials.loc[study_results.trials["trial"] == trial, column].iloc[0])
        for column in ("state", "reason")
    )
    history = study_results.history[study_results.history["trial"] == trial]
    kimg = history["kimg"].to_numpy(float)
    columns = (study_results.metric, "seconds", study_results.metric + results.ERROR)
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
    reported = int(np.isfinite(values).sum())
    end = milestones[min(reported, len(milestones) - 1)] if broke else float(kimg[-1])
    return Recorded(params, values, seconds, sd, end, reason, broke)
