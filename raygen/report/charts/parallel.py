"""Parallel coordinates from scatter lines: plotly's own have no hover and no single line."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.report.blocks import chart, note
from raygen.report.charts.chart import Chart
from raygen.report.charts.importance import by_importance
from raygen.report.drawing import (
    REST,
    SEQUENCE,
    gapped,
    parameter_ticks,
    safe,
    scale_ticks,
    selected,
)
from raygen.report.labels import setting, short_metric, short_names
from raygen.report.remarks import thinned
from raygen.report.tables import (
    AxisScale,
    SearchedSetting,
    drawn,
    only_drawn,
    projected,
    searched_settings,
    value_scale,
    varying,
)
from raygen.results import Results
from raygen.words import counted

ABSENT_POSITION = -0.14  # where the "—" level of an axis lies, below its 0..1
LINES = 300  # trials that are drawn; above this they are one blob
BUCKETS = 5  # colour steps, 0 = the best fifth
MOST_AXES = 12
AXIS_COLUMNS = ["axis", "name", "label", "kind", "ticks", "low", "high", "log", "flip", "choices"]
LINE_COLUMNS = ["trial", "axis", "position", "text", "bucket"]


def axes_table(study: Results) -> pd.DataFrame:
    """One row per axis, most important setting first, the objective last.

    `ticks` is a list of (position 0..1, text); `flip` says that high values lie at the bottom, so
    that the top of the objective is always the better end. Settings that never vary have no axis.
    """
    scale = value_scale(study)
    chosen = by_importance(study)
    if scale is None or not chosen:
        return pd.DataFrame(columns=AXIS_COLUMNS)
    short = short_names(parameter.name for parameter in chosen)
    rows = [_axis(parameter, short[parameter.name]) for parameter in chosen[:MOST_AXES]]
    rows.append(_objective(study.metric, scale, study.minimise))
    return pd.DataFrame([{"axis": place, **row} for place, row in enumerate(rows)])


def lines_table(study: Results, table: pd.DataFrame) -> pd.DataFrame:
    """One row per trial and axis of `axes_table`: trial, axis, position (0..1), text, bucket.

    An absent setting, and the objective of a trial without a value, lies at ABSENT_POSITION with
    the text "—". `bucket` is the fifth of the trials it is in by projected value (0 best,
    -1 no value).
    """
    if table.empty:
        return pd.DataFrame(columns=LINE_COLUMNS)
    by_name = {parameter.name: parameter for parameter in varying(study)}
    order = list(projected(study)["trial"])
    bucket = {trial: place * BUCKETS // len(order) for place, trial in enumerate(order)}
    parts = []
    for axis in table.to_dict("records"):
        column = study.trials["value" if axis["kind"] == "objective" else axis["name"]]
        parameter = by_name.get(axis["name"])
        unit = parameter.unit if parameter is not None else _objective_unit(axis)
        position = column.map(unit).astype(float).fillna(ABSENT_POSITION)
        text = [setting(value) for value in column]
        parts.append(
            pd.DataFrame(
                {
                    "trial": study.trials["trial"].astype(int),
                    "axis": axis["axis"],
                    "position": position.round(4),
                    "text": text,
                }
            )
        )
    whole = pd.concat(parts, ignore_index=True)
    whole["bucket"] = whole["trial"].map(bucket).fillna(-1).astype(int)
    return whole.sort_values(["trial", "axis"], ignore_index=True)


def parallel_figure(axis_table: pd.DataFrame, line_table: pd.DataFrame) -> go.Figure:
    """Parallel coordinates from scatter lines: better is darker, drawn last."""
    figure = go.Figure()
    figure.add_trace(_lines(line_table[line_table["bucket"] < 0], "no value", REST, "unscored", 1))
    for bucket in reversed(range(BUCKETS)):
        rows = line_table[line_table["bucket"] == bucket]
        name = {0: "best fifth", BUCKETS - 1: "worst fifth"}.get(bucket, "")
        width = 2 if bucket == 0 else 1.3
        figure.add_trace(_lines(rows, name, SEQUENCE[bucket], f"seq-{bucket}", width))
    figure.add_trace(selected("lines+markers"))
    for axis in axis_table.to_dict("records"):
        positions = line_table.loc[line_table["axis"] == axis["axis"], "position"]
        _draw_axis(figure, axis, bool((positions < 0).any()))
    figure.update_layout(
        showlegend=False,
        height=430,
        margin={"l": 70, "r": 20, "t": 64, "b": 20},
        hovermode="closest",
        dragmode=False,
        meta={"axes": [_axis_meta(axis) for axis in axis_table.to_dict("records")]},
    )
    hidden = {"visible": False, "fixedrange": True}
    figure.update_xaxes(range=[-0.45, max(len(axis_table) - 0.6, 0.6)], **hidden)
    figure.update_yaxes(range=[ABSENT_POSITION - 0.06, 1.04], **hidden)
    return figure


def parallel_sentence(study: Results) -> tuple[str, bool]:
    """What the lines are, and whether there is a chart to draw."""
    if value_scale(study) is None:
        return "Nothing to draw: no trial has a value.", False
    chosen = varying(study)
    if not chosen:
        return "Every trial had the same settings: no axis to draw.", False
    constant = len(searched_settings(study)) - len(chosen)
    text = (
        f"{counted(len(drawn(study, LINES)), 'trial')} as lines; the stronger the colour, the "
        "better (stopped trials by the value projected to the full budget)"
    )
    if len(axes_table(study)) > 2:
        text += "; axes in order of importance"
    if constant > 0:
        text += f"; without {counted(constant, 'setting')} that never varied"
    if len(chosen) > MOST_AXES:
        text += f"; the first {MOST_AXES} of {len(chosen)} settings shown"
    return text + ".", True


def parallel_section(study: Results) -> tuple[str, str]:
    """Which combinations work."""
    lead, drawable = parallel_sentence(study)
    if not drawable:
        return lead, ""
    controls = (
        '<output id="brushed" class="count" aria-live="polite"></output>'
        '<button type="button" id="clear-brushes" class="toggle-button">clear brushes</button>'
    )
    sliders = (
        '<details class="needs-js"><summary>Arrange axes, and brush with sliders</summary>'
        '<div id="sliders" class="sliders"></div></details>'
    )
    hint = (
        '<p class="note needs-js">Drag along an axis to keep only the trials that cross it there; '
        "brushes combine, and clicking a brush removes it. Brushes filter every chart, picture and "
        "table on the page. &ldquo;—&rdquo; means that the setting does not exist in the trial's "
        "branch.</p>"
    )
    drawing = chart("parallel", "Parallel coordinates", lead, controls)
    return lead, hint + drawing + sliders + note(thinned(study, LINES))


def _draw(study: Results) -> go.Figure:
    axes = axes_table(study)
    return parallel_figure(axes, only_drawn(study, lines_table(study, axes), most=LINES))


def _lines(table: pd.DataFrame, name: str, colour: str, role: str, width: float) -> go.Scatter:
    x, y, trial, text = gapped(table, "axis", "position", "text")
    return go.Scatter(
        x=x,
        y=y,
        customdata=trial,
        text=[None if value is None else safe(value) for value in text],
        mode="lines",
        name=name,
        line={"color": colour, "width": width},
        hovertemplate="trial %{customdata}<br>%{text}<extra></extra>",
        meta={"role": role, "linked": True},
    )


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
            x=x, y=position, text=safe(shown), showarrow=False, xanchor="right", xshift=-5,
            font={"size": 10.5}, bgcolor="rgba(255,255,255,0.7)", name="tick", borderpad=0,
        )  # fmt: skip
    label = safe(axis["label"]).replace(".", ".<br>").replace("_", "_<br>", 1)
    if axis["kind"] == "objective":
        label = f"<b>{safe(axis['label']).replace(' ', '<br>', 1)}</b><br>better ↑"
    figure.add_annotation(
        x=x, y=1, text=label, showarrow=False, yanchor="bottom", yshift=12, font={"size": 12}
    )


def _axis_meta(axis: Mapping[Any, Any]) -> dict[str, Any]:
    kept = ("name", "label", "kind", "low", "high", "log", "flip", "choices")
    return {**{key: axis[key] for key in kept}, "absent": ABSENT_POSITION}


def _axis(parameter: SearchedSetting, label: str) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "label": label,
        "kind": parameter.kind,
        "ticks": parameter_ticks(parameter),
        "low": parameter.low,
        "high": parameter.high,
        "log": parameter.log,
        "flip": False,
        "choices": list(parameter.choices),
    }


def _objective(metric: str, scale: AxisScale, flip: bool) -> dict[str, Any]:
    ticks = scale_ticks(scale)
    return {
        "name": metric,
        "label": short_metric(metric),
        "kind": "objective",
        "ticks": [(1 - at, text) for at, text in ticks] if flip else ticks,
        "low": scale.low,
        "high": scale.high,
        "log": scale.log,
        "flip": flip,
        "choices": [],
    }


def _objective_unit(axis: Mapping[Any, Any]) -> Callable[[float], float]:
    scale = AxisScale(axis["low"], axis["high"], axis["log"])

    def unit(value: float) -> float:
        if value is None or math.isnan(value):
            return math.nan
        return 1 - scale.unit(value) if axis["flip"] else scale.unit(value)

    return unit


CHART = Chart("parallel", _draw)
