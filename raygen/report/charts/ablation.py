"""Ablation: from a starting point to the best, one change at a time: which changes bring the gain.

Biedenkapp et al., "Efficient Parameter Importance Analysis via Ablation with Surrogates", AAAI
2017: of the changes that are left, the one that a surrogate expects most of comes next. Estimates,
unless `raygen ablate` has trained every step.
"""

import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.report import response_surface
from raygen.report.blocks import chart, note
from raygen.report.charts.chart import Chart
from raygen.report.drawing import BEST, SINGLE, axis_title, layout, python_values, safe
from raygen.report.labels import listed, percent, setting, short_metric, short_names
from raygen.report.memo import once_per_study
from raygen.results import Results
from raygen.results.changes import Ablation, Change, changes, read_ablation
from raygen.words import counted

ENOUGH = 0.95  # of the gain, by the fewest changes
COLUMNS = ["step", "name", "before", "after", "value", "change"]


@once_per_study
def ablation_table(study: Results) -> pd.DataFrame:
    """One row per change: step, name, before, after (texts), value (then), change.

    Row 0 is the starting point itself. `change` is positive where the step improves. Measured by
    `raygen ablate`, or expected by a surrogate. Empty without a starting point, if one won, or
    without a surrogate that can be trusted.
    """
    pair, measured = response_surface.ends(study), measured_way(study)
    rows = _measured(measured) if measured else []
    if not rows and pair is not None:
        rows = _expected(study, *pair)
    sign, table = 1 if study.minimise else -1, []
    before = rows[0][-1] if rows else 0.0
    for step, (name, old, new, value) in enumerate(rows):
        table.append((step, name, old, new, value, sign * (before - value)))
        before = value
    return pd.DataFrame(table, columns=COLUMNS)


@once_per_study
def measured_way(study: Results) -> Ablation | None:
    """What `raygen ablate` measured, if it is the way to the trial that is the best now."""
    ablation, pair = read_ablation(study), response_surface.ends(study)
    if ablation is None or pair is None or (ablation.start, ablation.best) != pair:
        return None
    whole = len(changes(study, *pair)) + 1
    known = all(any(value is not None for value in step.values) for step in ablation.steps)
    return ablation if known and len(ablation.steps) == whole else None


def expected_order(study: Results) -> list[Change]:
    """The changes, those first of which a surrogate expects most; without one as in the space."""
    pair = response_surface.ends(study)
    if pair is None:
        return []
    made = changes(study, *pair)
    first = [name.split(", ")[0] for name, *_ in _expected(study, *pair)]
    return sorted(
        made, key=lambda change: min((first.index(n) for n in change.names if n in first),
                                     default=len(first)),
    )  # fmt: skip


def _measured(ablation: Ablation) -> list[tuple[str, str, str, float]]:
    rows = []
    for name, before, after, values in (
        ("start", "", "", step.values) if step.change is None
        else (", ".join(step.change.names), _texts(step.change.before), _texts(step.change.after),
              step.values)
        for step in ablation.steps
    ):  # fmt: skip
        known = [value for value in values if value is not None]
        rows.append((name, before, after, sum(known) / len(known)))
    return rows


def _expected(study: Results, start: int, best: int) -> list[tuple[str, str, str, float]]:
    """Of the changes that are left, the one that a surrogate expects most of comes next."""
    model = response_surface.fit_surface(study)
    if model is None or not model.trusted:
        return []
    here, goal = (response_surface.example(study, trial) for trial in (start, best))
    names = {parameter.name for parameter in model.parameters}
    left = [change for change in changes(study, start, best) if names & set(change.names)]
    rows = [("start", "", "", _predicted(model, here))]
    sign = 1 if study.minimise else -1
    while left:
        reached = []
        for change in left:
            trial = here.copy()
            moved = [name for name in change.names if name in trial]
            trial[moved] = goal[moved]
            reached.append((sign * _predicted(model, trial), trial))
        place = min(range(len(left)), key=lambda at: reached[at][0])
        change, here = left.pop(place), reached[place][1]
        texts = _texts(change.before), _texts(change.after)
        rows.append((", ".join(change.names), *texts, sign * reached[place][0]))
    return rows


def _predicted(model: response_surface.ResponseSurface, trial: pd.DataFrame) -> float:
    return float(model.predict(response_surface.encode(model.parameters, trial))[0])


def _texts(values: Sequence[Any]) -> str:
    return ", ".join(setting(value) for value in values)


def ablation_figure(table: pd.DataFrame, info: dict[str, Any]) -> go.Figure:
    """The value after each change, from the starting point on top to the best."""
    short = short_names({n for names in table["name"] for n in names.split(", ")})
    labels = [_label(row, short) for row in table.to_dict("records")]
    figure = go.Figure(
        go.Scatter(
            x=python_values(table["value"]),
            y=python_values(table["step"]),
            customdata=labels,
            mode="lines+markers",
            line={"shape": "vh", "color": BEST[0], "width": 2},
            marker={"size": 9, "color": BEST[0]},
            hovertemplate="%{customdata}<br>%{x:.4g}<extra></extra>",
            meta={"role": "accent"},
        )
    )
    name = axis_title(short_metric(info["objective"]["metric"]), info)
    layout(figure, name, "", None, height=100 + 30 * len(table))
    if len(table):
        figure.add_vline(float(table["value"].iloc[0]), layer="below", name="rung",
                         line={"dash": "dash", "width": 1.2, "color": SINGLE})  # fmt: skip
    figure.update_yaxes(
        tickvals=python_values(table["step"]), ticktext=[f"{text}  " for text in labels],
        range=[len(table) - 0.4, -0.6], automargin=True, showgrid=False,
    )  # fmt: skip
    return figure


def ablation_sentence(study: Results) -> tuple[str, bool]:
    """Which changes from a starting point brought the gain, and whether there is a chart."""
    pair = response_surface.ends(study)
    if pair is None:
        why = "a starting point won" if study.info.get("start_trials") else "no starting point"
        if not study.trials["value"].notna().any():
            why = "no trial has a value"
        return f"Nothing to attribute a gain to: {why}.", False
    measured, again = measured_way(study), f"raygen ablate {shlex.quote(str(study.folder.root))}"
    if measured is None:
        model = response_surface.fit_surface(study)
        train = f"To train every step: {again}"
        if model is None:
            needed = f"An estimate needs {response_surface.NEEDED} completed or stopped trials."
            return f"{needed} {train}", False
        if not model.trusted:
            return f"No estimate: {model.doubt}. {train}", False
        basis = f"estimated from {model.trials} trials, leave-one-out R² {model.explained}. {train}"
    else:
        basis = f"measured with {counted(len(measured.seeds), 'seed')} per step"
    table = ablation_table(study)
    steps = table[table["step"] > 0].sort_values("change", ascending=False, kind="stable")
    whole = float(steps["change"].sum())
    if steps.empty or whole <= 0:
        return f"Together the changes bring no gain: {basis}.", True
    needed = int((steps["change"].cumsum() < ENOUGH * whole).sum()) + 1
    short = short_names({n for names in steps["name"] for n in names.split(", ")})
    named = listed(
        f"{', '.join(short[name] for name in row['name'].split(', '))} "
        f"({row['before']} → {row['after']})"
        for row in steps.head(needed).to_dict("records")
    )
    return (
        f"{needed} of {counted(len(steps), 'change')} from trial {pair[0]} to trial {pair[1]} "
        f"{'brings' if needed == 1 else 'bring'} {percent(ENOUGH)} of the gain: {named}; {basis}."
    ), True


def ablation_part(study: Results) -> str:
    """The end of the section on importance."""
    text, drawable = ablation_sentence(study)
    title = "From a starting point to the best"
    drawing = chart("ablation", title, text) if drawable else ""
    return f"<h3>{title}</h3>{note(text)}{drawing}"


def _draw(study: Results) -> go.Figure:
    return ablation_figure(ablation_table(study), study.info)


def _label(row: dict[Any, Any], short: dict[str, str]) -> str:
    if not row["step"]:
        return "starting point"
    names = ", ".join(short[name] for name in row["name"].split(", "))
    text = f"{names}: {row['before']} → {row['after']}"
    return safe(text if len(text) <= 64 else text[:63] + "…")


CHART = Chart("ablation", _draw)
