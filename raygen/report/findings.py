"""What a study says, in sentences: the verdict, and the findings that matter most."""

import math
from typing import NamedTuple

from raygen.report.health import health
from raygen.report.importance import importance
from raygen.report.labels import counted, number, percent, short_names
from raygen.report.tables import compute_saved, has_default, judged
from raygen.results import Study, ranked

MOST = 5  # findings below the verdict


class Verdict(NamedTuple):
    """The best trial and how it compares; nan where there is nothing to compare with.

    `value` is the mean over `seeds` other seeds, `low` to `high` its 95 % interval; without any,
    what the trial itself got, and the interval is nan.
    """

    trial: int
    value: float
    low: float
    high: float
    seeds: int
    kimg: float
    provisional: bool  # nothing has completed the full budget
    default: float
    default_state: str
    median: float  # of completed trials, three at least; nan for a mean over other seeds
    single: float  # what the trial itself got in the search


class Finding(NamedTuple):
    """One sentence; kind is good, warn or note, action what to do next ("" for nothing)."""

    kind: str
    text: str
    action: str = ""


def verdict(study: Study) -> Verdict | None:
    """Best trial against the default and the median; None while no trial has a value."""
    order = ranked(study)
    if order.empty:
        return None
    best, means = order.iloc[0], judged(study)
    own = {"mean": float(best["value"]), "low": math.nan, "high": math.nan, "seeds": 0}
    again = means.get(int(best["trial"]), own)
    done = study.trials[study.trials["state"] == "completed"]["value"].dropna().astype(float)
    default, state = math.nan, ""
    if has_default(study):
        row = study.trials[study.trials["trial"] == 0].iloc[0]
        default = means[0]["mean"] if 0 in means else float(row["value"])
        state = str(row["state"])
    return Verdict(
        int(best["trial"]),
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
    )


def findings(study: Study) -> list[Finding]:
    """Three to five sentences: what matters, what was saved, and what the health checks warn of."""
    if study.trials.empty:
        return []
    checks = [check for check in health(study) if check.text]
    warned = [
        Finding("warn", check.text, check.action) for check in checks if check.state == "warn"
    ]
    passed = [Finding("good", check.text) for check in checks if check.state == "pass"]
    told = [_what_matters(study), _stopping(study), _space(study)]
    found = [finding for finding in told if finding]
    found = [*found[:2], *warned, *found[2:]]
    return found[:MOST] if len(found) >= 3 else [*found, *passed][:3]


def _what_matters(study: Study) -> Finding | None:
    table = importance(study)
    if table.empty or table["share"].iloc[0] == 0:
        return None
    short = short_names(table["name"])
    first = table.iloc[0]
    verb = "matters most" if first["low"] >= 0.05 else "seems to matter most"
    text = (
        f"{short[first['name']]} {verb}: {percent(first['share'])} of the explained "
        f"difference between good and other trials ("
        f"likely {percent(first['low'])} to {percent(first['high'])})"
    )
    second = table.iloc[1] if len(table) > 1 else None
    if second is not None and second["share"] > 0.05:
        text += f", then {short[second['name']]} with {percent(second['share'])}"
    return Finding("note", text + ".")


def _stopping(study: Study) -> Finding | None:
    stopped = int((study.trials["state"] == "stopped").sum())
    bill = compute_saved(study)
    if not stopped or not bill["kimg_full"]:
        return None
    saved = 1 - bill["kimg"] / bill["kimg_full"]
    return Finding(
        "good",
        f"Early stopping cut {counted(stopped, 'trial')} and saved {percent(saved)} of the images: "
        f"{number(bill['kimg'])} instead of {number(bill['kimg_full'])} kimg.",
    )


def _space(study: Study) -> Finding | None:
    gone = study.checkpoints[study.checkpoints["collected"].astype(bool)]
    if gone.empty:
        return None
    freed = float(gone["bytes"].sum()) / 1e6
    count = counted(len(gone), "checkpoint")
    return Finding("note", f"{count} of ended trials deleted to save space: {number(freed)} MB.")
