"""What all charts share: colours, marks of states, the selected trial, axes.

Colours are those of the light scheme, so figures work in a notebook. On the page every trace names
its role in `meta`, and the page paints roles from the CSS variables of the current scheme. Every
point carries its trial in `customdata`: that is what links the charts.
"""

import math
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.report.labels import ABSENT, STATE_LOOKS, arrow, number, short_metric
from raygen.report.tables import AxisScale, SearchedSetting, scale_of

BEST = ["#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito 2008
SEQUENCE = ["#08306b", "#2171b5", "#6baed6", "#b3cfe8", "#dcdcdc"]  # best fifth first
REST = "#b8bcc4"
SELECTED = "#d1006c"
SINGLE = "#D55E00"
PALE = 0.35  # opacity of trials that cannot be on the front


def marks(
    table: pd.DataFrame,
    state: str,
    x: str,
    y: str = "value",
    *,
    hover: str = "",
    text: list[Any] | None = None,
    size: int = 8,
    opacity: float | None = None,
    legend: bool | None = None,
    linked: bool = True,
) -> go.Scatter:
    """The trials of one state as points.

    `hover` and its `text`, one per trial, are what a hover says: by default the state, the reason
    for it if the table has one, and the value. `legend` is for several panels, of which one has the
    legend for all. Points that are not `linked` take no part in filters and in the selection.
    """
    look = STATE_LOOKS[state]
    if not hover:
        hover = f"trial %{{customdata}}, {look.text}%{{text}}<br>%{{y:.4g}}"
        reasons = table["reason"] if "reason" in table else pd.Series("", index=table.index)
        text = [f"<br>{safe(reason)}" if reason else "" for reason in reasons]
    return go.Scatter(
        x=python_values(table[x]),
        y=python_values(table[y]),
        customdata=[int(trial) for trial in table["trial"]],
        text=text,
        mode="markers",
        name=look.text,
        showlegend=legend,
        legendgroup=None if legend is None else state,
        opacity=opacity,
        marker={"symbol": look.symbol, "size": size, "color": look.colour},
        hovertemplate=f"{hover}<extra></extra>",
        meta={"role": f"state-{state}", "linked": linked},
    )


def front_marks(table: pd.DataFrame, x: str, y: str, legend: bool) -> list[go.Scatter]:
    """Trials by state for a chart with a front: those that cannot be on it are pale."""
    return [
        marks(
            table[table["state"] == state],
            state,
            x,
            y,
            hover="trial %{customdata}<br>%{x:.4g}, %{y:.4g}",
            opacity=1 if state == "completed" else PALE,
            legend=legend,
        )
        for state in states_of(table)
    ]


def staircase(x: pd.Series, y: pd.Series, name: str, legend: bool) -> go.Scatter:
    """The line along a front."""
    return go.Scatter(
        x=python_values(x),
        y=python_values(y),
        mode="lines",
        name=name,
        showlegend=legend,
        line={"shape": "hv", "width": 2, "color": BEST[1]},
        hoverinfo="skip",
        meta={"role": "front"},
    )


def states_of(table: pd.DataFrame) -> list[str]:
    """The states that occur in a table, in the order of every legend."""
    present = set(table["state"])
    return [state for state in STATE_LOOKS if state in present]


def selected(mode: Any) -> go.Scatter:
    return go.Scatter(
        x=[],
        y=[],
        customdata=[],
        mode=mode,
        name="selected trial",
        showlegend=False,
        line={"color": SELECTED, "width": 3.5},
        marker={"color": SELECTED, "size": 11, "symbol": "circle-open", "line": {"width": 3}},
        hoverinfo="skip",
        meta={"role": "selected"},
    )


def gapped(table: pd.DataFrame, x: str, y: str, *more: str) -> tuple[list[Any], ...]:
    """Columns x, y, trial and more as lists, with a None between two trials."""
    names = (x, y, "trial", *more)
    columns: tuple[list[Any], ...] = tuple([] for _ in names)
    previous = None
    # zip over lists: ten times faster than iterrows for a thousand trials
    for row in zip(*(table[name].tolist() for name in names), strict=True):
        if previous is not None and row[2] != previous:
            for column in columns:
                column.append(None)
        previous = row[2]
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


def layout(figure: go.Figure, x: str, y: str, scale: AxisScale | None, height: int) -> None:
    figure.update_layout(
        height=height,
        margin={"l": 64, "r": 16, "t": 16, "b": 52},
        hovermode="closest",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    if scale is not None:
        figure.update_yaxes(**value_axis(scale))


def value_axis(scale: AxisScale | None) -> dict[str, Any]:
    """How the objective is shown on every axis of a study."""
    if scale is None:
        return {}
    if scale.log:
        return _log_axis(scale)
    pad = 0.05 * (scale.high - scale.low)
    span = {"range": [scale.low - pad, scale.high + pad]} if pad > 0 else {}
    return {"type": "linear", "nticks": 8, **span}


def metric_axis(table: pd.DataFrame, objective: dict[str, str]) -> dict[str, Any]:
    metric, direction = objective["metric"], objective["direction"]
    scale = scale_of(table[metric], direction == "minimize")
    title = f"{safe(short_metric(metric))} {arrow(direction)}"
    if scale is not None and scale.log:
        return {"title_text": title, **_log_axis(scale)}
    return {"title_text": title, "type": "linear", "nticks": 8}


def _log_axis(scale: AxisScale) -> dict[str, Any]:
    """Ticks where values differ: every digit within a decade or so, then 1, 2 and 5."""
    decades = math.log10(scale.high / scale.low)
    ticks = 1 if decades > 4 else "D2" if decades > 1.3 else "D1"
    return {"type": "log", "dtick": ticks, "tickformat": ",.3~r"}


def axis_title(metric: str, info: dict[str, Any]) -> str:
    return f"{safe(metric)} {arrow(info['objective']['direction'])}"


def time_unit(seconds: pd.Series) -> tuple[float, str]:
    """Size in seconds and name of the unit for times up to these."""
    longest = seconds.max() if len(seconds) else 0
    if longest > 2 * 3600:
        return 3600.0, "hours"
    if longest > 120:
        return 60.0, "minutes"
    return 1.0, "s"


def parameter_ticks(parameter: SearchedSetting) -> list[tuple[float, str]]:
    """Positions in a range, 0 to 1, and what is there: every choice, or the ends."""
    if parameter.kind == "choice":
        return [(parameter.unit(choice), choice) for choice in parameter.choices]
    return scale_ticks(
        AxisScale(float(parameter.low or 0), float(parameter.high or 0), parameter.log)
    )


def scale_ticks(scale: AxisScale) -> list[tuple[float, str]]:
    """Both ends, and between them the decades of a log axis or the middle of a linear one."""
    inner: list[float] = []
    if scale.log:
        first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
        inner = [10.0**power for power in range(first, last + 1)]
    elif scale.high > scale.low:
        inner = [(scale.low + scale.high) / 2]
    places = [(scale.unit(value), value) for value in inner if scale.low < value < scale.high]
    kept = [(at, value) for at, value in places if 0.1 < at < 0.9]
    ends = [(0.0, scale.low), (1.0, scale.high)] if scale.high > scale.low else [(0.5, scale.low)]
    return [(at, ABSENT if value is None else number(value, 3)) for at, value in ends + kept]


def python_values(column: pd.Series) -> list[Any]:
    """Plain Python values: plotly would pack an array into base64, which the page cannot filter."""
    return [value if isinstance(value, int | str) else float(value) for value in column.tolist()]


def safe(value: str) -> str:
    """Text from a user, safe inside plotly's pseudo HTML."""
    return escape(str(value), quote=False)
