"""The one sentence that opens each section without a chart, made from the data."""

from raygen.report.health_checks import health
from raygen.report.labels import (
    direction_words,
    listed,
    number,
    short_metric,
)
from raygen.report.tables import judged, searched_settings
from raygen.report.trials_table import MOST
from raygen.results import Results, ranked
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
        f"{short_metric(study.metric)}{traded}."
    )


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
    seeds = counted(len(study.replicates), "training")
    again = f", and {seeds} with new seeds" if len(study.replicates) else ""
    name = short_metric(study.metric)
    direction = direction_words(study.info["objective"]["direction"])
    return (
        f"{counted(len(study.trials), 'trial')}, {len(order)} with a value"
        f"{best}{again}; {name}: {direction}. {_rows(study)}Values below the full budget are not "
        "comparable with those at the full budget."
    )


def reproduce(study: Results) -> str:
    """What can be reproduced and what cannot."""
    return (
        f"Seed {study.info['seed']} reproduces every trial bit for bit on the same type of device "
        "with one worker; other hardware gives close but not identical numbers."
    )


def _rows(study: Results) -> str:
    if len(study.trials) <= MOST:
        return ""
    return f"At most {MOST:,} rows are shown at once: the best, or the first to pass the filters. "
