"""Tables -> plotly figures, one function per chart; FIGURES draws one straight from a study.

Colours here are the light scheme and stand alone in a notebook. On the page every trace says its
role in `meta`, and page.js paints roles from the CSS variables of the current scheme. Every point
carries its trial in `customdata`: that is what links the charts. The last trace of a linked chart
is empty and becomes the selected trial.
"""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report.axes import BUCKETS, axes, lines
from raygen.report.importance import importance
from raygen.report.labels import STATE_LOOKS, arrow, short_metric, short_names
from raygen.report.tables import (
    ABSENT_POSITION,
    Scale,
    curves,
    progress,
    scale_of,
    seed_values,
    trade_offs,
    value_scale,
)
from raygen.results import Study, finalists

BEST = ["#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito 2008
SEQUENCE = ["#08306b", "#2171b5", "#6baed6", "#b3cfe8", "#dcdcdc"]  # best fifth first
REST = "#b8bcc4"
SELECTED = "#d1006c"
SINGLE = "#D55E00"
PALE = 0.35  # opacity of trials that cannot be on the front
MANY = 4000  # points; above this a browser is slow with one SVG node each


def curves_figure(table: pd.DataFrame, info: dict[str, Any], scale: Scale | None) -> go.Figure:
    """Objective against thousands of images: the best five in colour, the rest grey."""
    metric = short_metric(info["objective"]["metric"])
    figure = go.Figure()
    finite = table[table["value"].notna()]
    rest = finite[~(finite["rank"] < len(BEST))]
    figure.add_trace(_polyline(rest, "other trials", REST, "rest", width=1))
    ends = finite[finite["last"]]
    for state in (name for name in STATE_LOOKS if name not in ("completed", "running")):
        cut = ends[ends["state"] == state]
        if len(cut):
            figure.add_trace(_marks(cut, state, x="kimg"))
    for place in range(len(BEST) - 1, -1, -1):
        one = finite[finite["rank"] == place]
        if len(one):
            name = f"trial {int(one['trial'].iloc[0])} (rank {place + 1})"
            trace = _polyline(one, name, BEST[place], f"best-{place}", width=2.5)
            trace.update(legendrank=900 + place)
            figure.add_trace(trace)
    figure.add_trace(_selected("lines+markers"))
    for milestone in info.get("rungs") or []:
        line = {"dash": "dash", "width": 1.2, "color": REST}
        figure.add_vline(milestone, line=line, layer="below", name="rung")
    _layout(figure, "images shown (thousands, kimg)", _axis_title(metric, info), scale, height=420)
    figure.update_xaxes(rangemode="tozero", showgrid=False)
    return figure


def progress_figure(
    table: pd.DataFrame, info: dict[str, Any], scale: Scale | None, x: str = "trial"
) -> go.Figure:
    """Every trial's value by state, and the best so far; x is "trial" or "compute"."""
    figure = go.Figure()
    size, unit = _time_unit(table["compute"])
    table = table.assign(compute=(table["compute"] / size).round(4))
    metric = short_metric(info["objective"]["metric"])
    best = table[table["best"].notna()]
    figure.add_trace(
        go.Scatter(
            x=_plain(best[x]),
            y=_plain(best["best"]),
            mode="lines",
            name="best so far",
            line={"shape": "hv", "width": 2, "color": "#333333"},
            meta={"role": "line", **_both_x(best)},
            hoverinfo="skip",
        )
    )
    for state in STATE_LOOKS:
        some = table[(table["state"] == state) & table["value"].notna()]
        if len(some):
            trace = _marks(some, state, x=x)
            trace.update(meta={"role": f"state-{state}", "linked": True, **_both_x(some)})
            figure.add_trace(trace)
    figure.add_trace(_selected("markers"))
    titles = {"trial": "trial number", "compute": f"training time of all trials so far ({unit})"}
    _layout(figure, titles[x], _axis_title(metric, info), scale, height=380)
    figure.update_layout(meta={"x_titles": titles})
    return figure


def importance_figure(table: pd.DataFrame) -> go.Figure:
    """Share of each setting as bars with their bootstrap interval, most important on top."""
    top = table.head(12).iloc[::-1]
    short = short_names(table["name"])
    figure = go.Figure(
        go.Bar(
            x=_plain(top["share"]),
            y=[_text(short[name]) for name in top["name"]],
            orientation="h",
            width=0.55,
            marker={"color": BEST[0]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": _plain(top["high"] - top["share"]),
                "arrayminus": _plain(top["share"] - top["low"]),
                "thickness": 1.2,
                "width": 4,
                "color": "#555555",
            },
            customdata=[
                [_text(name), f"{low:.0%}", f"{high:.0%}", int(trials)]
                for name, low, high, trials in top[["name", "low", "high", "trials"]].to_numpy()
            ],
            hovertemplate="%{customdata[0]}<br>share %{x:.0%} (%{customdata[1]} to "
            "%{customdata[2]})<br>set in %{customdata[3]} trials<extra></extra>",
            meta={"role": "accent"},
        )
    )
    _layout(figure, "share of the explained difference", "", None, height=90 + 30 * len(top))
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(automargin=True, ticksuffix="  ")
    return figure


def parallel_figure(axis_table: pd.DataFrame, line_table: pd.DataFrame) -> go.Figure:
    """Parallel coordinates from scatter lines: better is darker, drawn last."""
    figure = go.Figure()
    figure.add_trace(_lines(line_table.iloc[:0], "filtered out", "#e4e4e4", "faded", 1))
    figure.add_trace(_lines(line_table[line_table["bucket"] < 0], "no value", REST, "unscored", 1))
    for bucket in reversed(range(BUCKETS)):
        some = line_table[line_table["bucket"] == bucket]
        name = {0: "best fifth", BUCKETS - 1: "worst fifth"}.get(bucket, "")
        width = 2 if bucket == 0 else 1.3
        figure.add_trace(_lines(some, name, SEQUENCE[bucket], f"seq-{bucket}", width))
    figure.add_trace(_selected("lines+markers"))
    for axis in axis_table.to_dict("records"):
        mine = line_table[line_table["axis"] == axis["axis"]]
        _draw_axis(figure, axis, bool((mine["position"] < 0).any()))
    figure.update_layout(
        showlegend=False,
        height=430,
        margin={"l": 20, "r": 20, "t": 64, "b": 20},
        hovermode="closest",
        dragmode=False,
        meta={"axes": [_axis_meta(axis) for axis in axis_table.to_dict("records")]},
    )
    hidden = {"visible": False, "fixedrange": True}
    figure.update_xaxes(range=[-0.45, max(len(axis_table) - 0.6, 0.6)], **hidden)
    figure.update_yaxes(range=[ABSENT_POSITION - 0.06, 1.04], **hidden)
    return figure


def finalists_figure(table: pd.DataFrame, points: pd.DataFrame, info: dict[str, Any]) -> go.Figure:
    """Each finalist: its value in the search, those of other seeds, their mean with its interval.

    `table` as `results.finalists`, `points` as `seed_values`.
    """
    place = {trial: row for row, trial in enumerate(table["trial"])}
    points = points.assign(place=points["trial"].map(place))
    figure = go.Figure()
    known = table[table["seeds"] > 0].assign(place=lambda t: t["trial"].map(place))
    half = (known["high"] - known["mean"]).fillna(0)
    figure.add_trace(
        go.Scatter(
            x=_plain(known["mean"]),
            y=_plain(known["place"]),
            customdata=[int(trial) for trial in known["trial"]],
            mode="markers",
            name="their mean, 95 % interval",
            marker={"symbol": "square", "size": 11, "color": BEST[0]},
            error_x={"type": "data", "array": _plain(half), "thickness": 2, "width": 6},
            hovertemplate="trial %{customdata}<br>mean %{x:.4g}<extra></extra>",
            meta={"role": "accent", "linked": True},
        )
    )
    looks = [
        ("completed", "another seed", "circle-open", BEST[0], "accent"),
        ("diverged", "another seed, diverged", STATE_LOOKS["diverged"].symbol,
         STATE_LOOKS["diverged"].colour, "state-diverged"),
        ("single", "in the search (one seed)", "diamond-open", SINGLE, "single"),
    ]  # fmt: skip
    for state, name, symbol, colour, role in looks:
        some = points[points["state"] == state]
        if len(some):
            figure.add_trace(
                go.Scatter(
                    x=_plain(some["value"]),
                    y=_plain(some["place"]),
                    customdata=[int(trial) for trial in some["trial"]],
                    text=[str(seed) for seed in some["seed"]],
                    mode="markers",
                    name=name,
                    marker={"symbol": symbol, "size": 10, "color": colour},
                    hovertemplate="trial %{customdata}, seed %{text}<br>%{x:.4g}<extra></extra>",
                    meta={"role": role, "linked": True},
                )
            )
    figure.add_trace(_selected("markers"))
    title = _axis_title(short_metric(info["objective"]["metric"]), info)
    _layout(figure, title, "", None, height=130 + 44 * len(table))
    ticks = [f"trial {trial}  " for trial in table["trial"]]
    figure.update_yaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.4, -0.6],
        automargin=True, showgrid=False,
    )  # fmt: skip
    return figure


def trade_offs_figure(table: pd.DataFrame, objectives: list[dict[str, str]]) -> go.Figure:
    """The first objective against each other one: the front on top, trials cut early pale."""
    first, *others = objectives
    figure = make_subplots(rows=max(1, len(others)), shared_xaxes=True, vertical_spacing=0.06)
    for row, other in enumerate(others, start=1):
        for trace in _trade_off(table, first, other, main=row == 1, only=len(others) == 1):
            figure.add_trace(trace, row=row, col=1)
    figure.add_trace(_selected("markers"))
    _layout(figure, "", "", None, height=120 + 300 * max(1, len(others)))
    for row, other in enumerate(others, start=1):
        figure.update_yaxes(**_axis(table, other), row=row, col=1)
    figure.update_xaxes(**{**_axis(table, first), "title_text": ""})
    figure.update_xaxes(**_axis(table, first), row=max(1, len(others)), col=1)
    return figure


def draw_finalists(study: Study) -> go.Figure:
    """The finalists of a study."""
    return finalists_figure(finalists(study), seed_values(study), study.info)


def draw_trade_offs(study: Study) -> go.Figure:
    """The objectives of a study against each other."""
    return trade_offs_figure(trade_offs(study), study.objectives)


def draw_curves(study: Study) -> go.Figure:
    """Learning curves of a study."""
    return curves_figure(curves(study), study.info, value_scale(study))


def draw_progress(study: Study) -> go.Figure:
    """Search progress of a study."""
    return progress_figure(progress(study), study.info, value_scale(study))


def draw_importance(study: Study) -> go.Figure:
    """Importance of the settings of a study."""
    return importance_figure(importance(study))


def draw_parallel(study: Study) -> go.Figure:
    """Parallel coordinates of a study."""
    table = axes(study)
    return parallel_figure(table, lines(study, table))


FIGURES: dict[str, Callable[[Study], go.Figure]] = {
    "finalists": draw_finalists,
    "tradeoffs": draw_trade_offs,
    "curves": draw_curves,
    "progress": draw_progress,
    "importance": draw_importance,
    "parallel": draw_parallel,
}


def _polyline(table: pd.DataFrame, name: str, colour: str, role: str, width: float) -> go.Scatter:
    """All curves in one trace, cut by gaps: far fewer nodes than a trace per trial."""
    x, y, trial = _gapped(table, "kimg", "value")
    return go.Scatter(
        x=x,
        y=y,
        customdata=trial,
        mode="lines+markers" if len(table) < MANY else "lines",
        name=name,
        line={"color": colour, "width": width},
        marker={"size": 3 if role == "rest" else 6, "color": colour},
        hovertemplate="trial %{customdata}<br>%{x} kimg: %{y:.4g}<extra></extra>",
        meta={"role": role, "linked": True},
    )


def _trade_off(
    table: pd.DataFrame, first: dict[str, str], other: dict[str, str], main: bool, only: bool
) -> list[go.Scatter]:
    """Traces of one pair of objectives; `main`: with the legend, `only`: the pair is the study."""
    x, y = first["metric"], other["metric"]
    traces = []
    if only:
        # From best to worst in x the front gets better in y: what it reaches is a staircase.
        front = table[table["front"]].sort_values(x, ascending=first["direction"] == "minimize")
        traces.append(
            go.Scatter(
                x=_plain(front[x]),
                y=_plain(front[y]),
                mode="lines",
                showlegend=False,
                line={"shape": "hv", "width": 2, "color": BEST[1]},
                hoverinfo="skip",
                meta={"role": "front"},
            )
        )
    groups = [(table[(table["state"] == state) & ~table["front"]], state) for state in STATE_LOOKS]
    for some, state in [*groups, (table[table["front"]], "")]:
        if some.empty:
            continue
        shown = STATE_LOOKS.get(state)
        traces.append(
            go.Scatter(
                x=_plain(some[x]),
                y=_plain(some[y]),
                customdata=[int(trial) for trial in some["trial"]],
                mode="markers",
                name=shown.text if shown else "on the front",
                showlegend=main,
                opacity=1 if state in ("", "completed") else PALE,
                marker={
                    "symbol": shown.symbol if shown else "star",
                    "size": 8 if shown else 13,
                    "color": shown.colour if shown else BEST[1],
                },
                hovertemplate="trial %{customdata}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
                meta={"role": f"state-{state}" if shown else "front", "linked": main},
            )
        )
    return traces


def _axis(table: pd.DataFrame, objective: dict[str, str]) -> dict[str, Any]:
    metric, direction = objective["metric"], objective["direction"]
    scale = scale_of(table[metric], direction == "minimize")
    title = f"{_text(short_metric(metric))} {arrow(direction)}"
    if scale is not None and scale.log:
        return {"title_text": title, "type": "log", "dtick": "D2", "tickformat": "~g"}
    return {"title_text": title, "type": "linear", "nticks": 8}


def _marks(table: pd.DataFrame, state: str, x: str) -> go.Scatter:
    look = STATE_LOOKS[state]
    reasons = table["reason"] if "reason" in table else pd.Series("", index=table.index)
    return go.Scatter(
        x=_plain(table[x]),
        y=_plain(table["value"]),
        customdata=[int(trial) for trial in table["trial"]],
        text=[f"<br>{_text(reason)}" if reason else "" for reason in reasons],
        mode="markers",
        name=look.text,
        marker={"symbol": look.symbol, "size": 8, "color": look.colour},
        hovertemplate=f"trial %{{customdata}}, {look.text}%{{text}}<br>%{{y:.4g}}<extra></extra>",
        meta={"role": f"state-{state}", "linked": x != "kimg"},
    )


def _lines(table: pd.DataFrame, name: str, colour: str, role: str, width: float) -> go.Scatter:
    x, y, trial, text = _gapped(table, "axis", "position", "text")
    return go.Scatter(
        x=x,
        y=y,
        customdata=trial,
        text=[None if value is None else _text(value) for value in text],
        mode="lines",
        name=name,
        line={"color": colour, "width": width},
        hovertemplate="trial %{customdata}<br>%{text}<extra></extra>",
        meta={"role": role, "linked": True},
    )


def _selected(mode: Any) -> go.Scatter:
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


def _gapped(table: pd.DataFrame, x: str, y: str, *more: str) -> tuple[list[Any], ...]:
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


def _draw_axis(figure: go.Figure, axis: Mapping[Any, Any], absent: bool) -> None:
    x = axis["axis"]
    bottom = ABSENT_POSITION if absent else 0
    figure.add_shape(
        type="line", x0=x, x1=x, y0=bottom, y1=1, line={"width": 1, "color": "#888888"}
    )
    ticks = [*axis["ticks"], *([(ABSENT_POSITION, "—")] if absent else [])]
    for position, text in ticks:
        shown = text if len(text) <= 14 else text[:13] + "…"
        figure.add_annotation(
            x=x, y=position, text=_text(shown), showarrow=False, xanchor="right", xshift=-5,
            font={"size": 10.5}, bgcolor="rgba(255,255,255,0.7)", name="tick", borderpad=0,
        )  # fmt: skip
    label = _text(axis["label"]).replace(".", ".<br>").replace("_", "_<br>", 1)
    if axis["kind"] == "objective":
        label = f"<b>{_text(axis['label'])}</b><br>better ↑"
    figure.add_annotation(
        x=x, y=1, text=label, showarrow=False, yanchor="bottom", yshift=12, font={"size": 12}
    )


def _axis_meta(axis: Mapping[Any, Any]) -> dict[str, Any]:
    kept = ("name", "label", "kind", "low", "high", "log", "flip", "choices")
    return {key: axis[key] for key in kept}


def _time_unit(seconds: pd.Series) -> tuple[float, str]:
    total = seconds.max() if len(seconds) else 0
    return (
        (3600.0, "hours") if total > 2 * 3600 else (60.0, "minutes") if total > 120 else (1.0, "s")
    )


def _both_x(table: pd.DataFrame) -> dict[str, list[float]]:
    return {"trial": _plain(table["trial"]), "compute": _plain(table["compute"])}


def _axis_title(metric: str, info: dict[str, Any]) -> str:
    return f"{_text(metric)} {arrow(info['objective']['direction'])}"


def _layout(figure: go.Figure, x: str, y: str, scale: Scale | None, height: int) -> None:
    figure.update_layout(
        height=height,
        margin={"l": 64, "r": 16, "t": 16, "b": 52},
        hovermode="closest",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    if scale is None:
        return
    figure.update_yaxes(type="log" if scale.log else "linear", nticks=8)
    if not scale.log and scale.high > scale.low:
        pad = 0.05 * (scale.high - scale.low)
        figure.update_yaxes(range=[scale.low - pad, scale.high + pad])


def _plain(column: pd.Series) -> list[Any]:
    """Plain Python numbers: plotly would pack an array into base64, which page.js cannot filter."""
    return [value if isinstance(value, int) else float(value) for value in column.tolist()]


def _text(value: str) -> str:
    """Text from a user, safe inside plotly's pseudo HTML."""
    return escape(str(value), quote=False)
