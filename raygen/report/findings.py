"""A study in sentences: the verdict, and the findings that matter most."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from raygen.failure import why_useless
from raygen.report.charts.importance import EVIDENT, importance_table, settled
from raygen.report.contrast import Contrast, contrast
from raygen.report.embedded_pictures import variation
from raygen.report.health_checks import health
from raygen.report.labels import percent, short_names
from raygen.report.tables import judged
from raygen.results import Model, Results, best_model, failed, fresh, ranked
from raygen.words import counted

MOST = 5  # findings below the verdict


class Verdict(NamedTuple):
    """The best trial and how it compares; nan where there is nothing to compare with.

    `value` is the mean over `seeds` new seeds, `low` to `high` its 95% interval; without new seeds
    it is the trial's own value, and the interval is nan.
    """

    trial: int
    value: float
    low: float
    high: float
    seeds: int
    kimg: float
    provisional: bool  # nothing has completed the full budget
    rival: int | None  # the best starting point; of a starting point, the best suggested trial
    gain: Contrast | None  # over that rival, like with like
    median: float  # of completed trials, three at least; nan for a mean over other seeds
    single: float  # what the trial itself got in the search
    failed: str  # why it must not be used; "" if it may
    start: int  # which of the given starting points it is, from 1; 0 for none
    tied: dict[int, float]  # finalists that cannot be told apart: the probability to be the best
    model: Model | None  # the checkpoint to use
    fresh: dict[str, dict[str, Any]] | None  # its values on new samples


class Finding(NamedTuple):
    """One sentence; kind is good, warn or note, action what to do next ("" for nothing)."""

    kind: str
    text: str
    action: str = ""


def judge_study(study: Results) -> Verdict | None:
    """Best trial against its rival and the median; None while no trial has a value."""
    order = ranked(study)
    if order.empty:
        return None
    best, means = order.iloc[0], judged(study)
    unreplicated = {"mean": float(best["value"]), "low": math.nan, "high": math.nan, "seeds": 0}
    again = means.get(int(best["trial"]), unreplicated)
    done = study.trials[study.trials["state"] == "completed"]["value"].dropna().astype(float)
    trial = int(best["trial"])
    starts = int(study.info.get("start_trials") or 0)
    rival = _rival(order["trial"].tolist(), trial, starts)
    model = best_model(study)
    return Verdict(
        trial,
        again["mean"],
        again["low"],
        again["high"],
        int(again["seeds"]),
        float(best["best_kimg"]),
        best["state"] != "completed",
        rival,
        None if rival is None else contrast(study, trial, rival),
        # One seed each: a mean over other seeds does not compare with them.
        float(done.median()) if len(done) > 2 and not again["seeds"] else math.nan,
        float(best["value"]),
        failed(study).get(trial) or _seen_to_fail(study, best),
        trial + 1 if trial < starts else 0,
        _tied(study, means),
        model,
        fresh(study, model) if model is not None else None,
    )


def _rival(order: list[int], trial: int, starts: int) -> int | None:
    """The best of the starting points, or of the other trials if the trial is one of them."""
    others = [other for other in order if (other < starts) != (trial < starts)]
    return others[0] if starts and others else None


def _tied(study: Results, means: Mapping[int, Mapping[str, float]]) -> dict[int, float]:
    """The fewest finalists that together are the best with the probability that a race asks for."""
    confidence = float(study.info.get("finalists", {}).get("confidence", 0.95))
    shares = {trial: row["best"] for trial, row in means.items()}
    if not shares or any(math.isnan(share) for share in shares.values()):
        return {}
    tied: dict[int, float] = {}
    for trial, share in sorted(shares.items(), key=lambda item: -item[1]):
        tied[trial] = share
        if sum(tied.values()) >= confidence:
            break
    return tied


def _seen_to_fail(study: Results, best: pd.Series) -> str:
    """Why a trial failed, judged by its pictures where its journal does not say."""
    if pd.notna(best["variation"]):
        return ""
    share = variation(study, int(best["trial"]), float(best["best_kimg"]))
    return why_useless(str(study.info.get("family")), share)


def findings(study: Results) -> list[Finding]:
    """Three to five sentences: what the health checks warn of, and which settings matter."""
    if study.trials.empty:
        return []
    checks = [check for check in health(study) if check.text]
    warned = [
        Finding("warn", check.text, check.action) for check in checks if check.state == "warn"
    ]
    passed = [Finding("good", check.text) for check in checks if check.state == "pass"]
    matters = _what_matters(study)
    shown = [*warned, matters] if matters else warned
    return shown[:MOST] if len(shown) >= 3 else [*shown, *passed][:3]


def _what_matters(study: Results) -> Finding | None:
    table = importance_table(study)
    if table.empty or table["share"].iloc[0] == 0:
        return None
    short = short_names(table["name"])
    first = table.iloc[0]
    if first["low"] < EVIDENT:
        yet = " so far" if study.info["state"] == "running" else ""
        trials = counted(len(settled(study)), "trial")
        return Finding("note", f"No setting clearly separated good from bad{yet} ({trials}).")
    text = (
        f"{short[first['name']]} matters most: importance {percent(first['share'])} "
        f"(90% interval {percent(first['low'])} to {percent(first['high'])})"
    )
    second = table.iloc[1] if len(table) > 1 else None
    if second is not None and second["low"] >= EVIDENT:
        text += f", followed by {short[second['name']]} with {percent(second['share'])}"
    return Finding("note", text + ".")
