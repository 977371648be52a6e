"""Whether the value at a rung foretells the final one."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from raygen.results.study import Study

NEEDED = 5  # completed trials, for a rank correlation
SHORT, LONG = 0.5, 0.7  # correlations: below, a rung decides blindly; from here, it can be trusted


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
            f"rank correlation between the best value at the first rung ({self.kimg:g} kimg) and "
            f"the end is {self.rho:.2f} over {self.trials} completed trials."
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


def rung_agreement(study: Study) -> pd.DataFrame:
    """One row per rung below the full budget: kimg, trials, rho.

    `rho` is Spearman's rank correlation between the best value up to that rung, by which trials
    are judged there, and the final one over the completed trials: -1 to 1, nan below 5 trials or
    without spread.
    """
    done = study.trials[study.trials["state"] == "completed"].set_index("trial")["value"]
    rows = []
    known = study.metric in study.history
    start = 0.0
    for kimg in (study.info.get("rungs") or [])[:-1] if known else []:
        at = study.history["kimg"].astype(float)
        seen = study.history[(at > start) & (at <= kimg * (1 + 1e-9))]
        if study.grows:
            start = kimg * (1 + 1e-9)  # measured with fewer samples up to here
        values = seen[study.metric].astype(float).groupby(seen["trial"])
        early = values.min() if study.minimise else values.max()
        both = pd.concat([early, done], axis=1, keys=["early", "final"]).dropna()
        rows.append({"kimg": float(kimg), "trials": len(both), "rho": _spearman(both)})
    return pd.DataFrame(rows, columns=["kimg", "trials", "rho"])


def grace_advice(study: Study) -> Advice | None:
    """Judge the first rung by the trials that have completed; None while they say nothing.

    It is too short if it stops trials on a correlation below 0.5, seen over at least 8 of them.
    Several objectives are not ranked by one value: None.
    """
    table = rung_agreement(study)
    if len(study.objectives) > 1 or table.empty or math.isnan(table["rho"].iloc[0]):
        return None
    kimg, trials, rho = table.iloc[0]
    cuts = (study.info.get("scheduler") or {}).get("name") != "none"
    trusted = table.loc[table["rho"] >= LONG, "kimg"]
    return Advice(
        float(kimg),
        float(rho),
        int(trials),
        survivors=bool((study.trials["state"] == "stopped").any()),
        short=cuts and rho < SHORT and trials >= 8,
        suggestion=float(trusted.iloc[0]) if len(trusted) else None,
    )


def _spearman(both: pd.DataFrame) -> float:
    ranks = both.rank()
    if len(both) < NEEDED or (ranks.std() == 0).any():
        return math.nan
    return float(np.corrcoef(ranks["early"], ranks["final"])[0, 1])
