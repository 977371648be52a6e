"""A study in sentences: the verdict, and the findings that matter most."""

import math
from typing import Any, NamedTuple

import pandas as pd

from raygen.failure import why_useless
from raygen.report.charts.importance import EVIDENT, importance_table, settled
from raygen.report.contrast import Contrast, contrast
from raygen.report.embedded_pictures import variation
from raygen.report.health_checks import health
from raygen.report.labels import number, percent, short_names
from raygen.report.tables import compute_saved, has_default, judged
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
    default: Contrast | None  # with the first starting point, like with like
    default_state: str
    median: float  # of completed trials, three at least; nan for a mean over other seeds
    single: float  # what the trial itself got in the search
    failed: str  # why it must not be used; "" if it may
    start: int  # which of the given starting points it is, from 1; 0 for none
    model: Model | None  # the checkpoint to use
    fresh: dict[str, dict[str, Any]] | None  # its values on new samples


class Finding(NamedTuple):
    """One sentence; kind is good, warn or note, action what to do next ("" for nothing)."""

    kind: str
    text: str
    action: str = ""


def judge_study(study: Results) -> Verdict | None:
    """Best trial against the default and the median; None while no trial has a value."""
    order = ranked(study)
    if order.empty:
        return None
    best, means = order.iloc[0], judged(study)
    unreplicated = {"mean": float(best["value"]), "low": math.nan, "high": math.nan, "seeds": 0}
    again = means.get(int(best["trial"]), unreplicated)
    done = study.trials[study.trials["state"] == "completed"]["value"].dropna().astype(float)
    trial, default, state = int(best["trial"]), None, ""
    if has_default(study):
        default = contrast(study, trial, 0) if trial else None
        state = str(study.trials.set_index("trial")["state"].to_dict()[0])
    starts = int(study.info.get("start_trials") or 0)
    model = best_model(study)
    return Verdict(
        trial,
        again["mean"],
        again["low"],
        again["high"],
        int(again["seeds"]),
        float(best["best_kimg"]),
        best["state"] != "completed",
        default,
        state,
        # One seed each: a mean over other seeds does not compare with them.
        float(done.median()) if len(done) > 2 and not again["seeds"] else math.nan,
        float(best["value"]),
        failed(study).get(trial) or _seen_to_fail(study, best),
        trial + 1 if trial < starts else 0,
        model,
        fresh(study, model) if model is not None else None,
    )


def _seen_to_fail(study: Results, best: pd.Series) -> str:
    """Why a trial failed, judged by its pictures where its journal does not say."""
    if pd.notna(best["variation"]):
        return ""
    share = variation(study, int(best["trial"]), float(best["best_kimg"]))
    return why_useless(str(study.info.get("family")), share)


def findings(study: Results) -> list[Finding]:
    """Three to five sentences: what matters, what was saved, and what the health checks warn of."""
    if study.trials.empty:
        return []
    checks = [check for check in health(study) if check.text]
    warned = [
        Finding("warn", check.text, check.action) for check in checks if check.state == "warn"
    ]
    passed = [Finding("good", check.text) for check in checks if check.state == "pass"]
    more = [_stopping(study), _what_matters(study), _space(study)]
    shown = [finding for finding in more if finding]
    shown = [*shown[:2], *warned, *shown[2:]]
    return shown[:MOST] if len(shown) >= 3 else [*shown, *passed][:3]


def _what_matters(study: Results) -> Finding | None:
    table = importance_table(study)
    if table.empty or table["share"].iloc[0] == 0:
        return None
    short = short_names(table["name"])
    first = table.iloc[0]
    if first["low"] < EVIDENT:
        return Finding(
            "note", f"No setting stands out yet ({counted(len(settled(study)), 'trial')})."
        )
    text = (
        f"{short[first['name']]} matters most: importance {percent(first['share'])} "
        f"(90% interval {percent(first['low'])} to {percent(first['high'])})"
    )
    second = table.iloc[1] if len(table) > 1 else None
    if second is not None and second["low"] >= EVIDENT:
        text += f", followed by {short[second['name']]} with {percent(second['share'])}"
    return Finding("note", text + ".")


def _stopping(study: Results) -> Finding | None:
    stopped = int((study.trials["state"] == "stopped").sum())
    bill = compute_saved(study)
    if not stopped or not bill["kimg_full"]:
        return None
    saved = 1 - bill["kimg"] / bill["kimg_full"]
    return Finding(
        "good",
        f"Early stopping ended {counted(stopped, 'trial')} and saved {percent(saved)} of the "
        f"training: {number(bill['kimg'])} instead of {number(bill['kimg_full'])} kimg.",
    )


def _space(study: Results) -> Finding | None:
    gone = study.checkpoints[study.checkpoints["collected"].astype(bool)]
    if gone.empty:
        return None
    freed = float(gone["bytes"].sum()) / 1e6
    count = counted(len(gone), "checkpoint")
    return Finding("note", f"{count} of ended trials deleted to save {number(freed)} MB.")
