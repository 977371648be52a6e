"""Recorded learning curves, and what is known of their noise."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raygen import results
from raygen.config import Study, load_space
from raygen.errors import InputError
from raygen.journal import read_records
from raygen.journal.records import Suggest
from raygen.train.health import JUDGED

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
    found = results.load_results(folder)
    records = read_records(found.folder.journal)
    params = {r.trial: r.params for r in records if isinstance(r, Suggest)}
    if not found.info.get("milestones"):
        raise InputError(f"{found.folder.journal}:1: the study does not say its milestones")
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
    study = load_space(found.folder.space)
    return Recording(study, milestones, tuple(kept), seed_noise(groups, scale))


def _recorded(
    found: results.Results, trial: int, params: Params, milestones: Sequence[float]
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
