"""The best configurations side by side: pictures, metrics, and the settings that differ."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from raygen.report.blocks import scroll
from raygen.report.embedded_pictures import Picture, real_picture, sample_picture
from raygen.report.labels import ABSENT, STATE_LOOKS, arrow, listed, number, setting, short_metric
from raygen.report.tables import (
    SearchedSetting,
    at_best,
    contenders,
    differing,
    has_default,
    judged,
    leaders,
    searched_settings,
)
from raygen.results import ERROR, Results, pareto
from raygen.schedules import jumps
from raygen.words import counted, duration


def comparison(study: Results) -> tuple[str, str]:
    """Lead sentence and HTML of the section; the HTML is empty while no trial has a value."""
    trials = contenders(study)
    if study.trials["value"].notna().sum() == 0:
        return "Nothing to compare yet: no trial has a value.", ""
    reports = {trial: at_best(study, trial) for trial in trials}
    rows = study.trials.set_index("trial").loc[trials]
    body = [
        _heads(study, trials, rows),
        _pictures(study, trials, rows),
        *_metric_rows(study, trials, rows, reports),
        *_setting_rows(study, trials, rows),
    ]
    toggle = (
        '<label class="toggle needs-js"><input type="checkbox" id="all-settings"> '
        "show identical settings</label>"
    )
    table = f'<table class="compare" id="compare">{"".join(body)}</table>'
    table = scroll("best configurations", table)
    return _lead(study), toggle + table


def picture_html(picture: Picture | None, what: str) -> str:
    """An image that enlarges on click, or one line saying that it is missing."""
    if picture is None:
        return '<div class="missing">no picture</div>'
    at = "" if picture.kimg is None else f" at {number(picture.kimg)} kimg"
    note = "" if picture.exact else " (recompressed)"
    label = escape(f"{what}{at}{note}")
    return (
        f'<button class="grid" type="button" aria-label="enlarge: {label}"><img alt="{label}" '
        f'src="{picture.uri}" width="{picture.width}" height="{picture.height}"></button>'
        f'<span class="under">{label}</span>'
    )


def _lead(study: Results) -> str:
    best = leaders(study)
    searched = {parameter.name for parameter in searched_settings(study)}
    same = differing(study, best)
    agreed = [name for name, differs in same.items() if not differs and name in searched]
    if len(best) < 2:
        return "Only one trial has a value."
    lead = f"The best {len(best)} trials differ in {sum(same.values())} of {len(same)} settings"
    if not agreed:
        return lead + "; they share no searched setting."
    row = study.trials.set_index("trial").loc[best[0]]
    facts = [f"{name} = {setting(row[name])}" for name in agreed[:4]]
    more = f" and {len(agreed) - 4} more" if len(agreed) > 4 else ""
    return f"{lead}. They agree on {', '.join(facts) + more if more else listed(facts)}."


def _heads(study: Results, trials: list[int], rows: pd.DataFrame) -> str:
    cells = []
    states = rows["state"].to_dict()
    front = pareto(study) if len(study.objectives) > 1 else []
    for place, trial in enumerate(trials, start=1):
        default = has_default(study) and trial == 0
        extra = trial not in leaders(study)
        rank = "on the front" if trial in front else f"#{place}"
        rank = "default" if extra else rank + (" · default" if default else "")
        state = states[trial]
        look = STATE_LOOKS[state]
        cells.append(
            f'<th scope="col" data-trial="{trial}"><span class="rank">{rank}</span>'
            f'<a href="#trial-{trial}">trial {trial}</a>'
            f'<span class="state state-{state}">'
            f"<i>{look.glyph}</i> {look.text}</span></th>"
        )
    return f'<thead><tr><th scope="col">Real images</th>{"".join(cells)}</tr></thead>'


def _pictures(study: Results, trials: list[int], rows: pd.DataFrame) -> str:
    cells = [f'<th scope="row">{picture_html(real_picture(study), "training images")}</th>']
    for trial, kimg in zip(trials, rows["best_kimg"].tolist(), strict=True):
        picture = sample_picture(study, trial, kimg)
        shown = picture_html(picture, f"trial {trial}")
        cells.append(f'<td data-trial="{trial}">{shown}</td>')
    return f'<tr class="pictures">{"".join(cells)}</tr>'


def _metric_rows(
    study: Results, trials: list[int], rows: pd.DataFrame, reports: dict[int, pd.Series]
) -> list[str]:
    directions = {objective["metric"]: objective["direction"] for objective in study.objectives}
    directions |= study.info["directions"]
    names = [study.metric, *(name for name in study.metrics if name != study.metric)]
    made = [_group("Result at the best checkpoint", len(trials))]
    for name in names:
        label = f"{short_metric(name)} {arrow(directions.get(name))}"
        strong = " class=main" if name == study.metric else ""
        cells = "".join(f"<td{strong}>{_metric(reports[trial], name)}</td>" for trial in trials)
        made.append(f'<tr><th scope="row" title="{escape(name)}">{escape(label)}</th>{cells}</tr>')
    facts = {
        "best at kimg": [number(value) for value in rows["best_kimg"]],
        "trained kimg": [number(value) for value in rows["kimg"]],
        "training time": [duration(value) for value in rows["seconds"]],
        "images per second": [_metric(reports[trial], "images_per_second") for trial in trials],
    }
    means, gone = judged(study), _deleted(study)
    if means.keys() & set(trials):
        facts = {"mean over new seeds": [_mean(means.get(trial)) for trial in trials], **facts}
    if gone.keys() & set(trials):
        facts["deleted"] = [listed(gone.get(trial, [ABSENT])) for trial in trials]
    made += [_plain_row(name, values) for name, values in facts.items()]
    return made


def _mean(row: dict[str, float] | None) -> str:
    if row is None:
        return ABSENT
    spread = f" ± {number(row['sd'], 2)}" if row["sd"] == row["sd"] else ""
    return f"{number(row['mean'])}{spread} ({counted(int(row['seeds']), 'seed')})"


def _deleted(study: Results) -> dict[int, list[str]]:
    """Checkpoints that are gone, by trial."""
    gone: dict[int, list[str]] = {}
    for row in study.checkpoints.to_dict("records"):
        if row["collected"]:
            gone.setdefault(row["trial"], []).append(f"{row['role']}.pt")
    return gone


def _metric(report: pd.Series, name: str) -> str:
    if report.get(name) is None:
        return ABSENT
    error = float(report.get(name + ERROR) or math.nan)
    return number(float(report[name])) + (f" ± {number(error, 2)}" if not math.isnan(error) else "")


def _setting_rows(study: Results, trials: list[int], rows: pd.DataFrame) -> list[str]:
    by_name = {parameter.name: parameter for parameter in searched_settings(study)}
    differs = differing(study, trials)
    if len(trials) == 1:  # nothing to differ from: show everything
        differs = dict.fromkeys(differs, True)
    order = [name for name in by_name if name in differs]  # searched settings first
    order += [name for name in differs if name not in by_name]
    made = [_group("Settings", len(trials))]
    for name in order:
        cells = "".join(
            f"<td>{_setting(rows.loc[t, name], by_name.get(name), _course(study, t, name))}</td>"
            for t in trials
        )
        kind = "" if differs[name] else ' class="same"'
        made.append(f'<tr{kind}><th scope="row"><code>{breakable(name)}</code></th>{cells}</tr>')
    if not any(differs.values()):
        made.append(_plain_row("all identical", [""] * len(trials)))
    return made


def _course(study: Results, trial: int, name: str) -> list[float]:
    """The values that a copy inherited and its own, in turn; none of what did not jump."""
    place: Any = study.configs.get(trial)
    for key in name.split("."):
        place = place.get(key) if isinstance(place, Mapping) else None
    return place["values"] if jumps(place) else []


def _setting(value: object, parameter: SearchedSetting | None, course: Sequence[float]) -> str:
    text = escape(" → ".join(map(setting, course or (value,))))
    if parameter is None or parameter.kind == "choice":
        return f"<span>{text}</span>"
    unit = parameter.unit(value)
    if math.isnan(unit):  # absent
        return f"<span>{text}</span>"
    span = f"{setting(parameter.low)} to {setting(parameter.high)}"
    span += " (log)" if parameter.log else ""
    return (
        f'<span>{text}</span><span class="pos" title="in the range {span}">'
        f'<i style="left:{100 * unit:.1f}%"></i></span>'
    )


def _group(title: str, columns: int) -> str:
    return f'<tr class="group"><th scope="rowgroup">{title}</th><td colspan="{columns}"></td></tr>'


def _plain_row(name: str, values: list[str]) -> str:
    cells = "".join(f"<td>{value}</td>" for value in values)
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'


def breakable(name: str) -> str:
    """A dotted name that may wrap behind its dots and underscores."""
    return escape(name).replace(".", ".<wbr>").replace("_", "_<wbr>")
