"""Slices: the objective against one setting at a time, the most important ones first."""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report.blocks import chart, note
from raygen.report.charts.chart import Chart
from raygen.report.charts.contours import contours_part
from raygen.report.charts.importance import by_importance
from raygen.report.drawing import (
    layout,
    marks,
    metric_axis,
    safe,
    selected,
    states_of,
    value_axis,
)
from raygen.report.labels import ABSENT, setting, short_names
from raygen.report.remarks import thinned
from raygen.report.tables import AxisScale, only_drawn, value_scale
from raygen.results import Results

TOP = 6  # settings that have a panel
COLUMNS_OF_PANELS = 3
WIDTH = 0.5  # of what the points of a choice spread over, in distances between two choices
COLUMNS = [
    "trial", "state", "value", "name", "label", "kind", "at", "text", "log", "low", "high",
    "choices",
]  # fmt: skip


def slices_table(study: Results, top: int = TOP) -> pd.DataFrame:
    """One row per trial with a value and setting that it has, of the `top` most important ones.

    `at` is the number itself, or the text of a choice; `low` to `high` its range, `log` its scale.
    """
    chosen = by_importance(study)[:top]
    short = short_names(parameter.name for parameter in chosen)
    scored = study.trials[study.trials["value"].notna()]
    parts = []
    for parameter in chosen:
        column = scored[parameter.name]
        rows = scored.loc[column.map(setting) != ABSENT, ["trial", "state", "value"]]
        column = column.loc[rows.index]
        texts = [setting(value) for value in column]
        numeric = parameter.kind != "choice"
        facts = {
            "name": parameter.name, "label": short[parameter.name], "kind": parameter.kind,
            "at": column.astype(float) if numeric else pd.Series(texts, rows.index, dtype=object),
            "text": texts, "log": parameter.log, "low": parameter.low, "high": parameter.high,
        }  # fmt: skip
        choices = pd.Series([parameter.choices] * len(rows), rows.index, dtype=object)
        parts.append(rows.assign(**facts, choices=choices).astype({"at": object}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def slices_figure(table: pd.DataFrame, info: dict[str, Any], scale: AxisScale | None) -> go.Figure:
    """One panel per setting, the objective upwards."""
    names = list(dict.fromkeys(table["name"]))
    columns = min(COLUMNS_OF_PANELS, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = make_subplots(rows=rows, cols=columns, shared_yaxes=True, horizontal_spacing=0.03,
                           vertical_spacing=0.28 / rows)  # fmt: skip
    layout(figure, "", "", None, height=80 + 270 * rows)
    for place, name in enumerate(names):
        row, col = place // columns + 1, place % columns + 1
        panel = table[table["name"] == name]
        places = _places(panel)
        for state in states_of(panel):
            trials = panel[panel["state"] == state]
            trials = trials.assign(at=places[trials.index])
            trace = marks(
                trials, state, "at", hover="trial %{customdata}<br>%{text}: %{y:.4g}",
                text=[safe(text) for text in trials["text"]], size=7, opacity=0.8,
                legend=place == 0,
            )  # fmt: skip
            figure.add_trace(trace, row=row, col=col)
        figure.add_trace(selected("markers"), row=row, col=col)
        figure.update_xaxes(**_axis(panel, len(table["trial"].unique())), row=row, col=col)
    figure.update_yaxes(**value_axis(scale))
    objective = info["objective"]
    title = metric_axis(table.rename(columns={"value": objective["metric"]}), objective)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text=title["title_text"], row=row, col=1)
    return figure


def slices_sentence(study: Results) -> tuple[str, bool]:
    """Where along the most important setting the good trials lie; whether to draw a chart."""
    scored = study.trials[study.trials["value"].notna()]
    chosen = by_importance(study)
    if scored.empty or not chosen:
        return "Nothing to draw: no trial has a value, or no setting varied.", False
    first = chosen[0]
    short = short_names(parameter.name for parameter in chosen)[first.name]
    best = scored.sort_values("value", ascending=study.minimise)
    best = best.head(max(3, math.ceil(len(scored) / 10)))[first.name]
    if first.kind == "choice":
        counts = best.map(setting).value_counts()
        first_choice = f"use {short} = {counts.index[0]}"
        where = f"{counts.iloc[0]} of the {len(best)} best trials {first_choice}"
        if counts.iloc[0] == len(best):
            where = f"The {len(best)} best trials all {first_choice}"
    else:
        numbers = best.dropna().astype(float)
        ends = [setting(numbers.min()), setting(numbers.max())] if len(numbers) else [ABSENT]
        span = f"= {ends[0]}" if len(set(ends)) == 1 else f"between {ends[0]} and {ends[1]}"
        where = f"The {len(best)} best trials have {short} {span}"
    shown = f"; the first {TOP} of {len(chosen)} settings shown" if len(chosen) > TOP else ""
    return f"{where}{shown}.", True


def slices_section(study: Results) -> tuple[str, str]:
    """Where along each setting, and over two of them, the good trials lie."""
    lead, drawable = slices_sentence(study)
    if not drawable:
        return lead, ""
    drawing = chart("slices", "One setting at a time", lead)
    return lead, drawing + contours_part(study) + note(thinned(study))


def _draw(study: Results) -> go.Figure:
    table = only_drawn(study, slices_table(study))
    return slices_figure(table, study.info, value_scale(study))


def _axis(panel: pd.DataFrame, everyone: int) -> dict[str, Any]:
    first = panel.iloc[0]
    having = "" if len(panel) == everyone else f" ({len(panel)} of {everyone} trials have it)"
    title = {"title_text": safe(first["label"]) + having}
    if first["kind"] == "choice":
        labels = _labels(panel)
        ticks = {"tickmode": "array", "tickvals": list(range(len(labels))), "tickangle": 0}
        texts = [safe(text).replace("_", "_<br>") for text in labels]
        return {**title, **ticks, "ticktext": texts, "range": [-0.6, len(labels) - 0.4]}
    if first["log"]:
        return {**title, "type": "log", "dtick": 1, "tickformat": ",.3~r"}
    return {**title, "nticks": 6}


def _labels(panel: pd.DataFrame) -> list[str]:
    """The choices of a setting, in the order of the space."""
    return list(dict.fromkeys([*panel["choices"].iloc[0], *panel["text"]]))


def _places(panel: pd.DataFrame) -> pd.Series:
    """Where the points lie along the axis; those of one choice side by side, not on each other."""
    if panel["kind"].iloc[0] != "choice":
        return panel["at"]
    number = {text: place for place, text in enumerate(_labels(panel))}
    # Multiples of the golden ratio: no two neighbours lie close, and a page has the same bytes.
    aside = (panel["trial"] * 0.618034) % 1 - 0.5
    return panel["text"].map(number) + WIDTH * aside


CHART = Chart("slices", _draw)
