"""Search progress: every trial's value and the best so far."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.report.blocks import chart, note, toggle_button
from raygen.report.charts.chart import Chart
from raygen.report.drawing import (
    axis_title,
    layout,
    marks,
    python_values,
    selected,
    states_of,
    time_unit,
)
from raygen.report.labels import percent, short_metric
from raygen.report.remarks import thinned, unseen
from raygen.report.tables import AxisScale, only_drawn, value_scale
from raygen.results import Results
from raygen.words import counted


def progress_table(study: Results) -> pd.DataFrame:
    """One row per trial: trial, state, value, compute, best.

    `compute` is the training time of all trials up to this one in seconds. `best` is the best
    value of a completed trial so far; of any trial while none has completed in the whole study.
    """
    table = study.trials[["trial", "state", "value", "seconds"]].copy()
    table["compute"] = table["seconds"].fillna(0).astype(float).cumsum()
    counts = table["state"] == "completed"
    if not (counts & table["value"].notna()).any():
        counts = table["value"].notna()
    eligible = table["value"].where(counts).astype(float)
    running = eligible.cummin() if study.minimise else eligible.cummax()
    return table.drop(columns="seconds").assign(best=running.ffill())


def progress_figure(
    table: pd.DataFrame, info: dict[str, Any], scale: AxisScale | None, x: str = "trial"
) -> go.Figure:
    """Every trial's value by state, and the best so far; x is "trial" or "compute"."""
    figure = go.Figure()
    size, unit = time_unit(table["compute"])
    table = table.assign(compute=(table["compute"] / size).round(4))
    metric = short_metric(info["objective"]["metric"])
    best = table[table["best"].notna()]
    figure.add_trace(
        go.Scatter(
            x=python_values(best[x]),
            y=python_values(best["best"]),
            mode="lines",
            name="best so far",
            line={"shape": "hv", "width": 2, "color": "#333333"},
            meta={"role": "line", **_both_x(best)},
            hoverinfo="skip",
        )
    )
    scored = table[table["value"].notna()]
    for state in states_of(scored):
        rows = scored[scored["state"] == state]
        trace = marks(rows, state, x)
        trace.update(meta={"role": f"state-{state}", "linked": True, **_both_x(rows)})
        figure.add_trace(trace)
    figure.add_trace(selected("markers"))
    titles = {"trial": "trial number", "compute": f"training time of all trials so far ({unit})"}
    layout(figure, titles[x], axis_title(metric, info), scale, height=380)
    figure.update_layout(meta={"x_titles": titles})
    return figure


def progress_sentence(study: Results) -> tuple[str, bool]:
    """When the best came, and whether there is a chart to draw."""
    if study.trials["value"].notna().sum() == 0:
        return "No progress to show: no trial has reported a value.", False
    table = progress_table(study)
    since_first = table[table["best"].notna()]
    steps = since_first[since_first["best"] != since_first["best"].shift()]
    last, total = steps.iloc[-1], table["compute"].iloc[-1]
    share = last["compute"] / total if total else 1.0
    before = counted(len(steps) - 1, "earlier improvement")
    text = (
        f"The best result came from trial {int(last['trial'])}, after {percent(share)} of the "
        f"training time and {before}. {unseen(study)}"
    )
    return text.strip(), True


def progress_section(study: Results) -> tuple[str, str]:
    """Whether the search converged."""
    lead, drawable = progress_sentence(study)
    if not drawable:
        return lead, ""
    buttons = toggle_button("log-progress", "log scale")
    buttons += toggle_button("compute-progress", "against total compute")
    return lead, chart("progress", "Search progress", lead, buttons) + note(thinned(study))


def _draw(study: Results) -> go.Figure:
    table = progress_table(study)
    steps = table["best"].ne(table["best"].shift())  # where the best improved is never left out
    return progress_figure(only_drawn(study, table, steps), study.info, value_scale(study))


def _both_x(table: pd.DataFrame) -> dict[str, list[float]]:
    return {"trial": python_values(table["trial"]), "compute": python_values(table["compute"])}


CHART = Chart("progress", _draw)
