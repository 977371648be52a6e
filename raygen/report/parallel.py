"""Parallel coordinates from scatter lines: plotly's own have no hover and no single line."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.report.axes import BUCKETS
from raygen.report.drawing import REST, SEQUENCE, gapped, safe, selected
from raygen.report.tables import ABSENT_POSITION


def parallel_figure(axis_table: pd.DataFrame, line_table: pd.DataFrame) -> go.Figure:
    """Parallel coordinates from scatter lines: better is darker, drawn last."""
    figure = go.Figure()
    figure.add_trace(_lines(line_table[line_table["bucket"] < 0], "no value", REST, "unscored", 1))
    for bucket in reversed(range(BUCKETS)):
        some = line_table[line_table["bucket"] == bucket]
        name = {0: "best fifth", BUCKETS - 1: "worst fifth"}.get(bucket, "")
        width = 2 if bucket == 0 else 1.3
        figure.add_trace(_lines(some, name, SEQUENCE[bucket], f"seq-{bucket}", width))
    figure.add_trace(selected("lines+markers"))
    for axis in axis_table.to_dict("records"):
        mine = line_table[line_table["axis"] == axis["axis"]]
        _draw_axis(figure, axis, bool((mine["position"] < 0).any()))
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
        label = f"<b>{safe(axis['label'])}</b><br>better ↑"
    figure.add_annotation(
        x=x, y=1, text=label, showarrow=False, yanchor="bottom", yshift=12, font={"size": 12}
    )


def _axis_meta(axis: Mapping[Any, Any]) -> dict[str, Any]:
    kept = ("name", "label", "kind", "low", "high", "log", "flip", "choices")
    return {**{key: axis[key] for key in kept}, "absent": ABSENT_POSITION}
