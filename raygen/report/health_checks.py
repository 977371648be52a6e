"""Can the result be trusted? One check per line: PASS, WARN or OPEN, and what to do about it."""

import math
from collections.abc import Callable
from typing import NamedTuple

from raygen.metrics import METRICS
from raygen.report.charts.progress import progress_table
from raygen.report.gains import against
from raygen.report.labels import (
    STATE_LOOKS,
    listed,
    number,
    percent,
    setting,
    short_metric,
    short_names,
    state_words,
)
from raygen.report.memo import once_per_study
from raygen.report.tables import at_best, judged, searched_settings, state_counts
from raygen.results import (
    ERROR,
    Results,
    best_model,
    failed,
    fresh,
    grace_advice,
    judgement,
    ranked,
)
from raygen.words import counted

EDGE = 0.04  # closer than this share of the range to a bound is "at the bound"
DROPPED = 0.01  # recall or coverage below which a model leaves out nearly all kinds of images
BROKEN = 0.1  # share of trials without a usable result from which it is a warning
ENDED = {"completed", "stopped", "diverged", "failed", "lost", "out_of_memory"}
ABOUT_THE_WINNER = ("Search range", "Still improving", "Seeds", "Sample count", "Mode dropping")
WORSE = "They rank last. Lower learning rates or another loss may avoid this."


class HealthCheck(NamedTuple):
    """One question; `state` is pass, warn or open (undecided), `action` what to do next."""

    name: str
    state: str
    text: str
    action: str = ""


@once_per_study
def health(study: Results) -> list[HealthCheck]:
    """Every check in the order of the page; none for a study without trials."""
    if study.trials.empty:
        return []
    checks = [result for check in CHECKS if (result := check(study))]
    order = ranked(study)
    if len(order) and int(order.iloc[0]["trial"]) in failed(study):
        # If nothing is usable, there is no winner to widen a range or to retrain for.
        return [check for check in checks if check.name not in ABOUT_THE_WINNER]
    return checks


def complete(study: Results) -> HealthCheck | None:
    """Whether the search is over."""
    state, asked = study.info["state"], study.info["budget"].get("trials")
    done = f"{study.begun}" + (f" of {number(asked)}" if asked else "") + " trials"
    if study.copies:
        done += f" and {counted(study.copies, 'trial')} that began as copies"
    if state == "finished":
        return HealthCheck("Finished", "pass", f"The study finished with {done}.")
    again = study.info.get("resume_command")
    open_trials = study.begun < int(asked or 0) or not set(study.trials["state"]) <= ENDED
    resumable = again and state != "running" and open_trials
    action = f"Resume with: {again}" if resumable else ""
    why = f" ({study.info['reason']})" if study.info["reason"] else ""
    change = "" if ranked(study).empty else ": every result can still change"
    text = f"The study {state_words(state)}{why} with {done}{change}."
    return HealthCheck("Finished", "warn", text, action)


def at_the_edge(study: Results) -> HealthCheck | None:
    """Whether the best lies at a bound of the search."""
    order = ranked(study)
    if order.empty:
        return None
    best = order.iloc[0]
    numeric = [p for p in searched_settings(study) if p.kind != "choice" and p.low != p.high]
    short = short_names(parameter.name for parameter in searched_settings(study))
    ends = []
    for parameter in numeric:
        unit = parameter.unit(best.get(parameter.name))
        # No setting is negative, and no count below 1: such a range cannot be widened downwards.
        fixed = parameter.low is not None and parameter.low <= (parameter.kind == "int")
        if (unit <= EDGE and not fixed) or unit >= 1 - EDGE:
            end = "lower" if unit <= EDGE else "upper"
            span = f"{setting(parameter.low)} to {setting(parameter.high)}"
            value = setting(best[parameter.name])
            ends.append(f"{short[parameter.name]} = {value} ({end} end of {span})")
    if not ends:
        inside = [p for p in numeric if not math.isnan(p.unit(best.get(p.name)))]
        if not inside:
            return None
        return HealthCheck(
            "Search range",
            "pass",
            "The best trial lies inside the searched range of every setting.",
        )
    return HealthCheck(
        "Search range",
        "warn",
        f"The best trial sits at the edge of the search: {listed(ends)}.",
        f"Widen {'this range' if len(ends) == 1 else 'these ranges'} and search again.",
    )


def improving(study: Results) -> HealthCheck | None:
    """Whether more trials would help."""
    table = progress_table(study)
    measured = table[table["best"].notna()]
    if len(measured) < 8:
        return HealthCheck("Still improving", "open", "Too few trials to tell.")
    last = measured[measured["best"] != measured["best"].shift()].iloc[-1]["trial"]
    since = int((table["trial"] > last).sum())
    if since < 0.2 * len(table):
        return HealthCheck(
            "Still improving",
            "warn",
            f"The search was still improving: its best result came from trial {int(last)}, "
            + (f"{counted(since, 'trial')} before the end." if since else "the last one."),
            "More trials will probably help.",
        )
    return HealthCheck(
        "Still improving", "pass", f"The last {counted(since, 'trial')} brought no improvement."
    )


def early(study: Results) -> HealthCheck | None:
    """Whether trials were stopped on values that mean something."""
    advice, name = grace_advice(study), "Rung correlation"
    if advice is None:
        if not (study.trials["state"] == "stopped").any():
            return None
        return HealthCheck(name, "open", "Too few completed trials to judge early stopping.")
    said = judgement(advice.rho, advice.trials)
    if advice.short:
        text = f"The grace period is too short ({said}): {advice.text}"
        return HealthCheck(name, "warn", text, advice.action)
    state = "pass" if said == "good" else "open"
    return HealthCheck(name, state, f"Early values as a guide to final ones: {said}; {advice.text}")


def failures(study: Results) -> HealthCheck | None:
    """Trials that ended without a usable result for reasons other than divergence."""
    bad = _counts(study, ["out_of_memory", "failed", "lost"])
    if not bad:
        text = "No trial crashed, ran out of memory or was lost."
        return HealthCheck("Failures", "pass", text)
    share = sum(bad.values()) / len(study.trials)
    return HealthCheck("Failures", "warn" if share > BROKEN else "pass", _broken(study, bad))


def collapse(study: Results) -> HealthCheck | None:
    """Trials that diverged or collapsed, in the search and among the finalists' replicates."""
    bad = _counts(study, ["diverged"])
    again = int((study.replicates["state"] == "diverged").sum())
    text = _broken(study, bad) if bad else "No trial diverged or collapsed."
    useless = failed(study)
    quiet = study.trials[study.trials["trial"].isin(list(useless))]
    quiet = [int(trial) for trial in quiet.loc[quiet["state"] != "diverged", "trial"]]
    if quiet:
        first = f"trial {quiet[0]} {useless[quiet[0]]}"
        text = f"{text} " if bad else ""
        what = "learned nothing" if study.info.get("family") == "vae" else "collapsed"
        text += f"{counted(len(quiet), 'other trial' if bad else 'trial')} {what}: "
        more = f", and {len(quiet) - 1} more" if len(quiet) > 1 else ""
        return HealthCheck("Collapse", "warn", f"{text}{first}{more}.", WORSE)
    if again:
        return HealthCheck(
            "Collapse",
            "warn",
            f"{text} {again} of {len(study.replicates)} runs of finalists with new seeds diverged.",
            _steady(study),
        )
    share = sum(bad.values()) / len(study.trials)
    return HealthCheck("Collapse", "warn" if share > BROKEN else "pass", text)


def _steady(study: Results) -> str:
    """Which finalists never diverged."""
    broken = study.replicates.loc[study.replicates["state"] == "diverged", "of"].astype(int)
    steady = [str(trial) for trial in judged(study) if trial not in set(broken)]
    if not steady:
        return "Every finalist diverged once: lower the learning rates and search again."
    which = "trial" if len(steady) == 1 else "trials"
    return f"Prefer a finalist that never diverged: {which} {listed(steady)}."


def seeds(study: Results) -> HealthCheck | None:
    """Whether the result is more than the luck of one seed."""
    if judged(study):
        return _flattery(study)
    if ranked(study).empty:
        return None
    rows = study.trials[study.settings].map(setting)
    if study.settings and rows.duplicated().any():
        text = "Some configurations were trained more than once: compare them."
        return HealthCheck("Seeds", "open", text)
    if study.info.get("finals") and study.info["state"] == "running":
        text = "The best trials are being retrained with new seeds."
        return HealthCheck("Seeds", "open", text)
    if len(study.objectives) > 1:
        return HealthCheck(
            "Seeds",
            "warn",
            "Every configuration was trained with one seed, and finalists are not retrained where "
            "several objectives are traded off: small differences may be chance.",
            "Train those that you consider again: raygen best --trial N > best.yaml, and "
            "raygen train best.yaml --set seed=M.",
        )
    return HealthCheck(
        "Seeds",
        "warn",
        "Every configuration was trained with one seed: small differences may be chance.",
        "Retrain the best few with new seeds (--set finalists.count=3).",
    )


def samples(study: Results) -> HealthCheck | None:
    """Whether the metric is exact enough to tell the best from the next."""
    order = ranked(study)
    count = study.info["evaluation"].get("samples")
    if order.empty or not count:
        return None
    name = short_metric(study.metric)
    text = f"{name} on {number(count)} samples"
    # Below it a Fréchet distance is known to be biased upwards (Chong and Forsyth 2020).
    enough = METRICS[study.metric].enough if study.metric in METRICS else 0
    if count < enough:
        return HealthCheck(
            "Sample count",
            "warn",
            f"{text} is biased upwards, so it is not comparable with published numbers.",
            f"Measure the winner again with raygen evaluate … --samples {enough}.",
        )
    best = order.iloc[0]
    error = at_best(study, int(best["trial"])).get(study.metric + ERROR)
    if error is None or math.isnan(float(error)):
        return HealthCheck("Sample count", "pass", f"{text}.")
    rest = order[(order["state"] == best["state"]) & (order["trial"] != best["trial"])]
    near = int(((rest["value"].astype(float) - best["value"]).abs() < 2 * float(error)).sum())
    if float(error) == 0:
        text += " has a standard error of 0 at the best trial: all its samples are identical."
        return HealthCheck("Sample count", "warn", text)
    text += f" has a standard error of {number(float(error), 2)} at the best trial"
    if near and not judged(study):
        lie = "lies" if near == 1 else "lie"
        text += f"; {counted(near, 'other trial')} {lie} within two standard errors."
        return HealthCheck("Sample count", "warn", text, "Evaluate the best with more samples.")
    return HealthCheck("Sample count", "pass", f"{text}.")


def dropped(study: Results) -> HealthCheck | None:
    """Whether the model to use draws only some kinds of images."""
    model = best_model(study)
    if model is None:
        return None
    # Values during training are of fewer samples; the replicates' are in no table.
    values = dict(at_best(study, model.run)) if model.run == model.trial else {}
    values |= {name: score["value"] for name, score in (fresh(study, model) or {}).items()}
    low = [
        f"{short_metric(name)} {number(float(values[name]))}"
        for name in values
        if name.startswith(("recall", "coverage")) and not name.endswith(ERROR)
        and values[name] is not None and float(values[name]) < DROPPED
    ]  # fmt: skip
    if not low:
        return None
    text = f"The best model covers only part of the data: {listed(low)}."
    return HealthCheck(
        "Mode dropping", "warn", text, "Look at its samples, and at its recall during training."
    )


def protocols(study: Results) -> HealthCheck | None:
    """Whether all values that are compared were measured the same way.

    Exempt are finalists measured in full, whose table has a column per protocol, and values with
    different numbers of samples where these grow from rung to rung.
    """
    full = [result["protocols"].get(study.metric) for result in study.info.get("full", {}).values()]
    apart = {*full} - {*study.info.get("protocols_of", {}).get(study.metric, [])}
    records = {
        key: record
        for key, record in study.info["protocols"].items()
        if record.get("metric") == study.metric and key not in apart
    }
    if not records:
        return None
    names = ", ".join(sorted(records))
    if len(records) < 2:
        text = f"All values of {short_metric(study.metric)} in the search share one protocol"
        return HealthCheck("Protocol", "pass", f"{text} ({names}).")
    if study.grows and len({record.get("samples") for record in records.values()}) == len(records):
        text = "All values at a rung share one protocol; later rungs use more samples"
        return HealthCheck("Protocol", "pass", f"{text} ({names}).")
    return HealthCheck(
        "Protocol",
        "warn",
        f"Values were measured under {len(records)} protocols ({names}) and are not comparable "
        "across them.",
        "Re-evaluate the finalists under one protocol.",
    )


CHECKS: tuple[Callable[[Results], HealthCheck | None], ...] = (
    complete,
    at_the_edge,
    improving,
    early,
    failures,
    collapse,
    seeds,
    samples,
    dropped,
    protocols,
)


def _flattery(study: Results) -> HealthCheck:
    """How well the values that finalists were chosen by hold with new seeds."""
    rows = list(judged(study).values())
    single = sum(row["single"] for row in rows) / len(rows)
    mean = sum(row["mean"] for row in rows) / len(rows)
    best = rows[0]
    # The values are in the section on finalists: beside the result they would look like others.
    who = "finalist is" if len(rows) == 1 else f"{len(rows)} finalists are on average"
    changed = against(study, mean, single, "in the search")
    text = f"Retrained with new seeds, the {who} {changed}"
    sure = best["best"]
    if math.isnan(sure) or len(rows) == 1:
        return HealthCheck("Seeds", "pass", f"{text}.")
    text += f"; trial {int(best['trial'])} is the best with probability {percent(sure)}."
    confidence = study.info["finalists"].get("confidence", 0.95)
    if sure >= confidence:
        return HealthCheck("Seeds", "pass", text)
    return HealthCheck(
        "Seeds", "warn", text, "More seeds (--set finalists.seeds=…) would settle the order."
    )


def _counts(study: Results, states: list[str]) -> dict[str, int]:
    counts = state_counts(study)
    return {state: int(counts[state]) for state in states if state in counts}


def _broken(study: Results, bad: dict[str, int]) -> str:
    """How many trials ended in each state, and the most common reason."""
    parts = []
    for state, count in bad.items():
        reasons = study.trials[study.trials["state"] == state]["reason"].astype(str)
        common = reasons[reasons != ""].value_counts()
        why = f" (mostly: {_cut(str(common.index[0]))})" if len(common) else ""
        parts.append(f"{count} {STATE_LOOKS[state].text}{why}")
    share = percent(sum(bad.values()) / len(study.trials))
    return f"{share} of the trials gave no usable result: {listed(parts)}."


def _cut(text: str, length: int = 80) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= length else line[: length - 1] + "…"
