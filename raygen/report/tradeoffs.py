"""What quality costs: objectives against each other, and the objective against time and size."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report.drawing import (
    BEST,
    PALE,
    layout,
    metric_axis,
    plain,
    selected,
    value_axis,
)
from raygen.report.labels import STATE_LOOKS
from raygen.report.tables import Scale
from raygen.results import Study

# What a trial costs, in the order of the panels; a metric of that name need not be recorded.
COSTS = {
    "seconds": ("minimize", "training time (s)"),
    "million_parameters": ("minimize", "parameters (millions)"),
    "images_per_second": ("maximize", "images per second"),
}


def costs(study: Study) -> pd.DataFrame:
    """One row per trial with a value: trial, state, value, and a column for each known cost.

    `seconds` is the whole trial with its evaluations; the speed is the median over its reports. A
    cost that is the same for all says nothing, and has no column.
    """
    columns = ["trial", "state", "value", "seconds"]
    table = study.trials.loc[study.trials["value"].notna(), columns].reset_index(drop=True)
    known = [name for name in COSTS if name in study.history]
    medians = study.history[["trial", *known]].astype(float).groupby("trial").median()
    for name in known:
        if name not in columns:
            table[name] = table["trial"].map(medians[name])
    return table[[n for n in table if n not in COSTS or table[n].nunique() > 1]]


def front(table: pd.DataFrame, cost: str, ways: tuple[str, str]) -> pd.DataFrame:
    """Completed trials that no other one beats in both value and cost, cheapest first.

    `ways`: the direction of the value, and that of the cost.
    """
    value_sign, cost_sign = (1 if way == "minimize" else -1 for way in ways)
    done = table[(table["state"] == "completed") & table[cost].notna()]
    order = done.assign(_value=value_sign * done["value"], _cost=cost_sign * done[cost])
    order = order.sort_values(["_cost", "_value"])
    better = order["_value"] < order["_value"].cummin().shift(fill_value=float("inf"))
    return order[better].drop(columns=["_value", "_cost"])


def costs_figure(table: pd.DataFrame, objective: dict[str, str], scale: Scale | None) -> go.Figure:
    """One panel per cost, the objective upwards; a staircase along those that nothing beats."""
    known = [name for name in COSTS if name in table]
    figure = make_subplots(cols=max(1, len(known)), shared_yaxes=True, horizontal_spacing=0.03)
    for col, name in enumerate(known, start=1):
        best = front(table, name, (objective["direction"], COSTS[name][0]))
        figure.add_trace(_staircase(best[name], best["value"], "front of completed", col == 1),
                         row=1, col=col)  # fmt: skip
        for state in STATE_LOOKS:
            some = table[table["state"] == state]
            if len(some):
                trace = _points(some, name, "value", state, col == 1)
                figure.add_trace(trace, row=1, col=col)
        figure.add_trace(selected("markers"), row=1, col=col)
    layout(figure, "", "", None, height=380)
    for col, name in enumerate(known, start=1):
        axis = metric_axis(table, {"metric": name, "direction": COSTS[name][0]})
        figure.update_xaxes(**{**axis, "title_text": COSTS[name][1]}, row=1, col=col)
        figure.update_yaxes(**value_axis(scale), row=1, col=col)
    figure.update_yaxes(**metric_axis(table.rename(columns={"value": objective["metric"]}),
                                      objective), row=1, col=1)  # fmt: skip
    figure.update_yaxes(**value_axis(scale), row=1, col=1)
    return figure


def trade_offs_figure(table: pd.DataFrame, objectives: list[dict[str, str]]) -> go.Figure:
    """The first objective against each other one: the front on top, trials cut early pale."""
    first, *others = objectives
    figure = make_subplots(rows=max(1, len(others)), shared_xaxes=True, vertical_spacing=0.06)
    for row, other in enumerate(others, start=1):
        for trace in _trade_off(table, first, other, main=row == 1, only=len(others) == 1):
            figure.add_trace(trace, row=row, col=1)
        figure.add_trace(selected("markers"), row=row, col=1)
    layout(figure, "", "", None, height=120 + 300 * max(1, len(others)))
    for row, other in enumerate(others, start=1):
        figure.update_yaxes(**metric_axis(table, other), row=row, col=1)
    figure.update_xaxes(**{**metric_axis(table, first), "title_text": ""})
    figure.update_xaxes(**metric_axis(table, first), row=max(1, len(others)), col=1)
    return figure


def _trade_off(
    table: pd.DataFrame, first: dict[str, str], other: dict[str, str], main: bool, only: bool
) -> list[go.Scatter]:
    """Traces of one pair of objectives; `main`: with the legend, `only`: the pair is the study."""
    x, y = first["metric"], other["metric"]
    traces = []
    if only:
        # From best to worst in x the front gets better in y: what it reaches is a staircase.
        best = table[table["front"]].sort_values(x, ascending=first["direction"] == "minimize")
        traces.append(_staircase(best[x], best[y], "", False))
    for state in STATE_LOOKS:
        some = table[(table["state"] == state) & ~table["front"]]
        if len(some):
            traces.append(_points(some, x, y, state, main))
    best = table[table["front"]]
    if len(best):
        traces.append(_points(best, x, y, "", main))
    return traces


def _staircase(x: pd.Series, y: pd.Series, name: str, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=plain(x),
        y=plain(y),
        mode="lines",
        name=name,
        showlegend=legend,
        line={"shape": "hv", "width": 2, "color": BEST[1]},
        hoverinfo="skip",
        meta={"role": "front"},
    )


def _points(some: pd.DataFrame, x: str, y: str, state: str, legend: bool) -> go.Scatter:
    """Trials of one state; "" for those on the front."""
    look = STATE_LOOKS.get(state)
    marker: dict[str, Any] = {"symbol": "star", "size": 13, "color": BEST[1]}
    if look:
        marker = {"symbol": look.symbol, "size": 8, "color": look.colour}
    return go.Scatter(
        x=plain(some[x]),
        y=plain(some[y]),
        customdata=[int(trial) for trial in some["trial"]],
        mode="markers",
        name=look.text if look else "on the front",
        showlegend=legend,
        legendgroup=state,
        opacity=1 if state in ("", "completed") else PALE,
        marker=marker,
        hovertemplate="trial %{customdata}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        meta={"role": f"state-{state}" if look else "front", "linked": True},
    )
