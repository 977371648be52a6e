"""The one sentence that opens each section without a chart, made from the data."""

from raygen.report.findings import Verdict
from raygen.report.gains import against
from raygen.report.health_checks import health
from raygen.report.labels import (
    STATE_LOOKS,
    direction_words,
    interval_words,
    listed,
    metric_label,
    number,
    short_metric,
)
from raygen.report.tables import judged, searched_settings, state_counts
from raygen.report.trials_table import MOST
from raygen.results import Results, pareto, ranked
from raygen.words import counted

FAMILIES = {"gan": "GAN", "vae": "VAE"}


def searched(study: Results) -> str:
    """What was searched, on which data, for what."""
    info = study.info
    family = FAMILIES.get(str(info.get("family")), "model")
    data = info["data"].get("name")
    aim = "lowest" if study.minimise else "highest"
    settings = counted(len(searched_settings(study)), "setting")
    where = f" on {data}" if data else ""
    others = [short_metric(objective["metric"]) for objective in study.objectives[1:]]
    traded = f", traded off against {listed(others)}" if others else ""
    return (
        f"{settings} of a {family}{where}, searched for the {aim} "
        f"{metric_label(study.metric)}{traded}."
    )


def verdict_lead(study: Results, verdict: Verdict | None) -> str:
    """What to use; why there is nothing to use yet."""
    state = study.info.get("state")
    if study.trials.empty:
        ended = "" if state == "running" else f" The study is {state}."
        return f"No trial has started yet.{ended}"
    if verdict is None:
        counts = ", ".join(
            f"{n} {STATE_LOOKS[str(s)].text}" for s, n in state_counts(study).items()
        )
        hint = "wait for the first rung" if state == "running" else "see the reasons in the table"
        return f"Nothing to use yet: no trial has a value ({counts}); {hint}."
    if verdict.failed:
        failed = f"Do not use the best trial: trial {verdict.trial} {verdict.failed}."
        return f"{failed} {_what_to_change(study)}"
    text = _configuration(study, verdict)
    if verdict.default is not None:
        gained = against(study, verdict.default.value, verdict.default.other, "the default")
        # Beside a mean over seeds stands the search value, where the default has no such mean.
        single = verdict.seeds and not verdict.default.seeds
        search = f"; in the search {number(verdict.default.value)}, " if single else ", "
        text += f"{search}{gained} ({verdict.default.basis})"
    text += "."
    if verdict.start:
        text += f" It is starting point {verdict.start} of {study.info['start_trials']}."
    text += _model(study, verdict)
    if verdict.provisional:
        return f"{text} Provisional: no trial has completed the full budget."
    if state in ("running", "interrupted"):
        return f"{text} The study is {state}; this can still change."
    return text


def _configuration(study: Results, verdict: Verdict) -> str:
    """What the best settings reach, over seeds if they were trained with several."""
    name = short_metric(study.metric)
    if len(study.objectives) > 1 and (text := _front(study, verdict)):
        return text
    if verdict.seeds:
        seeds = counted(verdict.seeds, "new seed")
        mean = f"The settings of trial {verdict.trial} reach {name} {number(verdict.value)}"
        average = "" if verdict.seeds == 1 else " on average"
        return f"{mean}{average} over {seeds}{interval_words(verdict.low, verdict.high)}"
    at = f"{number(verdict.value)} at {number(verdict.kimg)} kimg"
    return f"The settings of trial {verdict.trial} reached {name} {at}, with one seed"


def _model(study: Results, verdict: Verdict) -> str:
    """Which checkpoint to use, and what it is worth."""
    if verdict.model is None:
        return " None of its checkpoints is left."
    name = short_metric(study.metric)
    text = f" Model to use: {verdict.model.words}, {name} {number(verdict.model.value)} when chosen"
    measured = verdict.fresh or {}
    values = {study.metric: "on new samples", f"{study.metric}_test": "against test images"}
    for metric, said in values.items():
        if metric in measured and measured[metric]["value"] is not None:
            text += f", {number(float(measured[metric]['value']))} {said}"
    return f"{text}." if measured else f"{text}; not yet measured on new samples."


def _what_to_change(study: Results) -> str:
    """What to change after a search without a usable result."""
    rates = [p.name for p in searched_settings(study) if p.name.endswith("lr")]
    lower = f"lower the range of {listed(rates)}" if rates else "lower the learning rates"
    return f"Before searching again, {lower}, or train longer (--set budget.kimg=…)."


def checks(study: Results) -> str:
    """How many checks passed, and which did not."""
    results = health(study)
    if not results:
        return "Nothing to check yet: no trial has started."
    warned = [check.name.lower() for check in results if check.state == "warn"]
    unsure = [check.name.lower() for check in results if check.state == "open"]
    passed = sum(check.state == "pass" for check in results)
    text = f"{passed} of {counted(len(results), 'check')} passed."
    text += f" Look at: {', '.join(warned)}." if warned else " No warnings."
    return text + (f" Undecided: {', '.join(unsure)}." if unsure else "")


def trials(study: Results) -> str:
    """What the table holds."""
    order = ranked(study)
    best = ""
    if len(order):
        trial = int(order.iloc[0]["trial"])
        best = f", best {number(order.iloc[0]['value'])} (trial {trial})"
        if trial in judged(study):
            best = f", best trial {trial} ({number(judged(study)[trial]['mean'])} over new seeds)"
    name = short_metric(study.metric)
    direction = direction_words(study.info["objective"]["direction"])
    return (
        f"{counted(len(study.trials), 'trial')}, {len(order)} with a value"
        f"{best}; {name}: {direction}. {_rows(study)}Values below the full budget are not "
        "comparable with those at the full budget."
    )


def reproduce(study: Results) -> str:
    """What can be reproduced and what cannot."""
    return (
        f"Seed {study.info['seed']} reproduces every trial bit for bit on the same type of device "
        "with one worker; other hardware gives close but not identical numbers."
    )


def _front(study: Results, verdict: Verdict) -> str:
    """The start of the verdict with several objectives; "" unless they really conflict."""
    front = pareto(study)
    if len(front) < 2:
        return ""
    named = [str(trial) for trial in front[:12]]
    named += [f"{len(front) - 12} more"] if len(front) > 12 else []
    metrics = listed(short_metric(objective["metric"]) for objective in study.objectives)
    end = "lowest" if study.minimise else "highest"
    return (
        f"No single best: trials {listed(named)} trade off {metrics}. Trial {verdict.trial} has "
        f"the {end} {short_metric(study.metric)}: {number(verdict.value)}"
    )


def _rows(study: Results) -> str:
    if len(study.trials) <= MOST:
        return ""
    return f"At most {MOST:,} rows are shown at once: the best, or the first to pass the filters. "
