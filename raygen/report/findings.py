"""What a study says, in sentences: the verdict, and findings with what to do about each."""

import math
from typing import NamedTuple

from raygen.report.importance import importance
from raygen.report.labels import (
    STATE_LOOKS,
    counted,
    listed,
    number,
    percent,
    setting,
    short_names,
)
from raygen.report.tables import (
    compute_saved,
    has_default,
    judged,
    parameters,
    progress,
    state_counts,
)
from raygen.results import LONG, SHORT, Study, grace_advice, ranked

EDGE = 0.04  # closer than this share of the range to a bound is "at the bound"


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


def gain(study: Study, value: float, other: float) -> str:
    """How much better `value` is than `other`: "73 % lower", "45.2 higher", "5 % worse"."""
    difference = other - value if study.minimise else value - other
    if difference == 0:
        return "no difference"
    # A share of a metric that can be negative (elbo) means nothing.
    share = value > 0 and other > 0
    size = percent(abs(difference) / other) if share else number(abs(difference))
    if difference < 0:
        return f"{size} worse"
    return f"{size} {'lower' if study.minimise else 'higher'}"


def against(study: Study, value: float, other: float, name: str) -> str:
    """The gain with what it is measured against: "73 % lower than the default"."""
    words = gain(study, value, other)
    return f"{words} {'from' if words == 'no difference' else 'than'} {name}"


def findings(study: Study) -> list[Finding]:
    """Every finding that the data supports, in the order they matter to a reader."""
    if study.trials.empty:
        return []
    checks = (
        _what_matters,
        _at_the_edge,
        _convergence,
        _stopping,
        _trust,
        _failures,
        _protocols,
        _space,
    )
    found = [finding for check in checks if (finding := check(study))]
    return [*found, *([_seeds(study)] if verdict(study) else [])]


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


def _at_the_edge(study: Study) -> Finding | None:
    order = ranked(study)
    if order.empty:
        return None
    best = order.iloc[0]
    numeric = [p for p in parameters(study) if p.kind != "choice" and p.low != p.high]
    short = short_names(parameter.name for parameter in parameters(study))
    ends = []
    for parameter in numeric:
        unit = parameter.unit(best.get(parameter.name))
        if unit <= EDGE or unit >= 1 - EDGE:
            end = "lower" if unit <= EDGE else "upper"
            span = f"{setting(parameter.low)} to {setting(parameter.high)}"
            value = setting(best[parameter.name])
            ends.append(f"{short[parameter.name]} = {value} ({end} end of {span})")
    if not ends:
        inside = [p for p in numeric if not math.isnan(p.unit(best.get(p.name)))]
        if not inside:
            return None
        return Finding("good", "The best trial lies inside the searched range of every setting.")
    return Finding(
        "warn",
        f"The best trial sits at the edge of the search: {listed(ends)}.",
        f"Widen {'this range' if len(ends) == 1 else 'these ranges'} and search on.",
    )


def _convergence(study: Study) -> Finding | None:
    table = progress(study)
    known = table[table["best"].notna()]
    if len(known) < 8:
        return None
    last = known[known["best"] != known["best"].shift()].iloc[-1]["trial"]
    since = int((table["trial"] > last).sum())
    if since < 0.2 * len(table):
        return Finding(
            "warn",
            f"The search was still improving: its best so far came with trial {int(last)} of "
            f"{len(table)}.",
            "More trials may well pay.",
        )
    return Finding("good", f"The last {counted(since, 'trial')} brought no better result.")


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


def _trust(study: Study) -> Finding | None:
    advice = grace_advice(study)
    if advice is None:
        return None
    if advice.short:
        return Finding("warn", f"The grace period is too short: {advice.text}", advice.action)
    if advice.trials < 8:
        return Finding("note", f"Whether early values can be trusted is open: {advice.text}")
    if advice.rho >= LONG:
        return Finding("good", f"Early values can be trusted: {advice.text}")
    guide = "a fair" if advice.rho >= SHORT else "a poor"
    return Finding("note", f"Early values are {guide} guide: {advice.text}")


def _failures(study: Study) -> Finding | None:
    counts = state_counts(study)
    bad = counts.reindex(["diverged", "out_of_memory", "failed", "lost"]).dropna().astype(int)
    if bad.empty:
        return None
    parts = []
    for state, count in bad.items():
        reasons = study.trials[study.trials["state"] == state]["reason"].astype(str)
        common = reasons[reasons != ""].value_counts()
        why = f" (mostly: {_cut(str(common.index[0]))})" if len(common) else ""
        parts.append(f"{count} {STATE_LOOKS[str(state)].text}{why}")
    share = bad.sum() / len(study.trials)
    text = f"{percent(share)} of the trials gave no usable result: {listed(parts)}."
    return Finding("warn" if share > 0.1 else "note", text)


def _protocols(study: Study) -> Finding | None:
    records = study.info.get("protocols") or {}
    mine = [key for key, record in records.items() if record.get("metric") == study.metric]
    if len(mine) < 2:
        return None
    return Finding(
        "warn",
        f"Values were measured under {len(mine)} protocols ({', '.join(sorted(mine))}) and are not "
        "comparable across them.",
        "Re-evaluate the finalists under one protocol.",
    )


def _seeds(study: Study) -> Finding:
    if judged(study):
        return _flattery(study)
    rows = study.trials[study.settings].map(setting)
    if study.settings and rows.duplicated().any():
        return Finding("note", "Some configurations were trained more than once; compare them.")
    return Finding(
        "warn",
        "Every configuration was trained with one seed: small differences may be luck.",
        "Train the best few again with other seeds.",
    )


def _flattery(study: Study) -> Finding:
    """How far the values that finalists were chosen by hold with other seeds."""
    rows = list(judged(study).values())
    single = sum(row["single"] for row in rows) / len(rows)
    mean = sum(row["mean"] for row in rows) / len(rows)
    best = rows[0]
    text = (
        f"With other seeds the {counted(len(rows), 'finalist')} got {number(mean)} on average, "
        + against(study, mean, single, f"the {number(single)} of the search")
    )
    sure = best["best"]
    if math.isnan(sure) or len(rows) == 1:
        return Finding("note", f"{text}.")
    text += f"; trial {int(best['trial'])} is the best of them with probability {percent(sure)}."
    confidence = (study.info.get("finalists") or {}).get("confidence", 0.95)
    if sure >= confidence:
        return Finding("good", text)
    return Finding("note", text, "More seeds (--set finalists.seeds=…) would settle the order.")


def _space(study: Study) -> Finding | None:
    gone = study.checkpoints[study.checkpoints["collected"].astype(bool)]
    if gone.empty:
        return None
    freed = float(gone["bytes"].sum()) / 1e6
    count = counted(len(gone), "checkpoint")
    return Finding("note", f"{count} of ended trials deleted to save space: {number(freed)} MB.")


def _cut(text: str, length: int = 80) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= length else line[: length - 1] + "…"
