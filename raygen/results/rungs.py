"""Whether the value at a rung predicts the final one."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from raygen.results.study import Results
from raygen.words import kimg_text

NEEDED = 5  # completed trials, for a rank correlation
SETTLED = 8  # completed trials, for a judgement of it
SHORT, LONG = 0.5, 0.7  # correlations: below the first a rung decides blindly, from the second well


def judgement(rho: float, trials: int) -> str:
    """A rank correlation between a rung and the end in words, the same everywhere."""
    if math.isnan(rho):
        return "unknown"
    if trials < SETTLED:
        return f"undecided with {trials} trials"
    return "too weak to stop by" if rho < SHORT else "fair" if rho < LONG else "good"


class Advice(NamedTuple):
    """Whether the first rung comes late enough to judge by."""

    kimg: float  # where the first rung is
    rho: float  # rank correlation of the values there with the final ones, -1 to 1
    trials: int  # over how many completed trials
    survivors: bool  # others were stopped, and are not among them
    short: bool  # the grace period is too short
    suggestion: float | None  # the first rung that can be trusted; None if there is none

    @property
    def text(self) -> str:
        """What was found."""
        text = (
            "rank correlation between the best value at the first rung "
            f"({kimg_text(self.kimg)} kimg) and at the end is {self.rho:.2f} over {self.trials} "
            "completed trials."
        )
        left = " Only survivors can be compared, which makes this estimate low."
        return text + left * self.survivors

    @property
    def action(self) -> str:
        """What to do about it; "" if nothing."""
        if not self.short:
            return ""
        if self.suggestion is None:
            return "No rung reaches 0.7: try a later first rung (--set scheduler.grace_kimg=…)."
        return (
            f"Try --set scheduler.grace_kimg={self.suggestion:g}, the first rung that reaches 0.7."
        )


def rung_agreement(study: Results) -> pd.DataFrame:
    """One row per rung below the full budget: kimg, trials, rho.

    `rho` is Spearman's rank correlation between the best value up to that rung, by which trials
    are judged there, and the final one over the completed trials: -1 to 1, nan below 5 trials or
    without spread.
    """
    wide = best_until(study)
    rows = []
    for kimg in wide.columns[:-1]:
        both = wide[[kimg, wide.columns[-1]]].dropna()
        rows.append({"kimg": float(kimg), "trials": len(both), "rho": spearman(both)})
    return pd.DataFrame(rows, columns=["kimg", "trials", "rho"])


def best_until(study: Results) -> pd.DataFrame:
    """Best value by which a trial was judged at each rung it reached: trials by rungs (kimg).

    Where samples grow from rung to rung, of those that were measured with as many as at the rung.
    """
    if study.metric not in study.history:
        return pd.DataFrame()
    table = study.history[["trial", "kimg", study.metric]].astype(float)
    table = table.replace([math.inf, -math.inf], math.nan).dropna()
    reached = study.history.groupby("trial")["kimg"].max().astype(float)
    columns, start = {}, 0.0
    for kimg in study.info["rungs"]:
        seen = table[(table["kimg"] > start) & (table["kimg"] <= kimg * (1 + 1e-9))]
        if study.grows:
            start = kimg * (1 + 1e-9)  # measured with fewer samples up to here
        values = seen.groupby("trial")[study.metric]
        best = values.min() if study.minimise else values.max()
        best.index = best.index.astype(int)
        columns[float(kimg)] = best[best.index.isin(reached.index[reached >= kimg * (1 - 1e-9)])]
    if columns:  # at the full budget a trial's value is the official one
        done = study.trials[study.trials["state"] == "completed"].set_index("trial")["value"]
        columns[max(columns)] = done.dropna().astype(float)
    return pd.DataFrame(columns).rename_axis("trial")


def grace_advice(study: Results) -> Advice | None:
    """Judge the first rung by the trials that have completed; None while they say nothing.

    It is too short if it stops trials on a correlation below 0.5, seen over at least 8 of them.
    Several objectives are not ranked by one value: None.
    """
    table = rung_agreement(study)
    if len(study.objectives) > 1 or table.empty or math.isnan(table["rho"].iloc[0]):
        return None
    kimg, trials, rho = table.iloc[0]
    cuts = study.info["scheduler"].get("name") != "none"
    trusted = table.loc[table["rho"] >= LONG, "kimg"]
    return Advice(
        float(kimg),
        float(rho),
        int(trials),
        survivors=bool((study.trials["state"] == "stopped").any()),
        short=cuts and rho < SHORT and trials >= SETTLED,
        suggestion=float(trusted.iloc[0]) if len(trusted) else None,
    )


def spearman(both: pd.DataFrame) -> float:
    """Rank correlation of two columns; nan below 5 rows or without spread."""
    ranks = both.rank()
    if len(both) < NEEDED or (ranks.std() == 0).any():
        return math.nan
    return float(np.corrcoef(ranks.iloc[:, 0], ranks.iloc[:, 1])[0, 1])
