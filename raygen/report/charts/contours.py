"""Contours: the objective over two settings at a time, and what a surrogate predicts between."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report import response_surface
from raygen.report.blocks import chart, note
from raygen.report.charts.chart import Chart
from raygen.report.charts.importance import by_importance
from raygen.report.drawing import (
    SEQUENCE,
    axis_title,
    layout,
    marks,
    parameter_ticks,
    python_values,
    safe,
    selected,
    states_of,
)
from raygen.report.labels import number, short_metric, short_names
from raygen.report.tables import SearchedSetting, only_drawn
from raygen.results import Results

PAIRS = [(0, 1), (0, 2)]  # places in the order of importance
GRID = 21
AVERAGED = 60  # trials whose other settings a surface is averaged over


def contours_table(study: Results) -> pd.DataFrame:
    """One row per trial with a value, pair, and both settings: pair, trial, state, value, x, y.

    `x` and `y` are positions in the ranges, 0 to 1.
    """
    scored = study.trials[study.trials["value"].notna()]
    parts = []
    for pair, (first, second) in enumerate(_pairs(study)):
        rows = scored[["trial", "state", "value"]].assign(
            pair=pair, x=scored[first.name].map(first.unit), y=scored[second.name].map(second.unit)
        )
        parts.append(rows.dropna(subset=["x", "y"]))
    columns = ["pair", "trial", "state", "value", "x", "y"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def surfaces(study: Results) -> list[dict[str, Any]]:
    """For each pair: names, ticks, and the expected objective on a grid (None if not trusted).

    The expectation is averaged over the other settings as the trials have them (Friedman 2001).
    """
    model = response_surface.fit_surface(study)
    chosen = _pairs(study)
    short = short_names(dict.fromkeys(parameter.name for pair in chosen for parameter in pair))
    rows = []
    for first, second in chosen:
        names = {"x": short[first.name], "y": short[second.name]}
        ticks = {"x_ticks": parameter_ticks(first), "y_ticks": parameter_ticks(second)}
        choice = "choice" in (first.kind, second.kind)
        grid = {"at": _levels(first), "up": _levels(second), "choice": choice}
        rows.append({**names, **ticks, **grid, "values": _averaged(model, first, second)})
    return rows


def contours_figure(
    table: pd.DataFrame, panels: list[dict[str, Any]], info: dict[str, Any]
) -> go.Figure:
    """One panel per pair, as `surfaces` has them: better is darker; trials on top."""
    figure = make_subplots(cols=max(1, len(panels)), horizontal_spacing=0.16)
    layout(figure, "", "", None, height=430)
    values = [surface["values"] for surface in panels if surface["values"] is not None]
    colours = _Colours(values, info)
    for col, surface in enumerate(panels, start=1):
        main = col == 1
        if surface["values"] is not None:
            figure.add_trace(colours.surface(surface, legend=main), row=1, col=col)
        pair = table[table["pair"] == col - 1]
        for state in states_of(pair):
            trials = pair[pair["state"] == state]
            trace = marks(
                trials, state, "x", "y", hover="trial %{customdata}: %{text:.4g}",
                text=python_values(trials["value"]), size=6, opacity=0.85, legend=main,
            )  # fmt: skip
            figure.add_trace(trace, row=1, col=col)
        figure.add_trace(selected("markers"), row=1, col=col)
        for side, update in (("x", figure.update_xaxes), ("y", figure.update_yaxes)):
            ticks = surface[f"{side}_ticks"]
            update(
                title_text=safe(surface[side]), range=[-0.05, 1.05], showgrid=False,
                tickvals=[at for at, _ in ticks], ticktext=[safe(text) for _, text in ticks],
                row=1, col=col,
            )  # fmt: skip
    return figure


def contours_sentence(study: Results) -> tuple[str, bool]:
    """Whether there is a surface and of what, and whether there is a chart to draw."""
    if contours_table(study).empty:
        return "No two settings varied in at least half of the trials.", False
    model = response_surface.fit_surface(study)
    if model is None or not model.trusted:
        why = "too few trials" if model is None else model.doubt
        return f"Two settings at a time, without a predicted surface ({why}).", True
    return (
        "Two settings at a time; the surface is a surrogate's prediction, averaged over the other "
        f"settings; the stronger the colour, the better. Leave-one-out R² {model.explained}."
    ), True


def contours_part(study: Results) -> str:
    """The end of the section on slices."""
    text, drawable = contours_sentence(study)
    drawing = chart("contours", "Two settings at a time", text) if drawable else ""
    return f"<h3>Two settings at a time</h3>{note(text)}{drawing}"


class _Colours:
    """One colour scale for all surfaces: logarithmic if all values are positive."""

    def __init__(self, values: list[np.ndarray], info: dict[str, Any]) -> None:
        self.direction = info["objective"]["direction"]
        self.title = f"expected<br>{axis_title(short_metric(info['objective']['metric']), info)}"
        self.log = bool(values) and min(map(np.min, values)) > 0
        seen = [self.warp(value) for value in values] or [np.zeros(1)]
        self.low, self.high = float(min(map(np.min, seen))), float(max(map(np.max, seen)))

    def warp(self, values: np.ndarray) -> np.ndarray:
        return np.log(values) if self.log else values

    def surface(self, surface: dict[str, Any], legend: bool) -> go.Contour | go.Heatmap:
        """Contour lines between numbers; plain fields where one side is a choice."""
        steps = SEQUENCE if self.direction == "minimize" else SEQUENCE[::-1]
        ticks = np.linspace(self.low, self.high, 5)
        texts = [number(float(np.exp(at) if self.log else at), 3) for at in ticks]
        kind, more = (go.Contour, {"ncontours": 12, "line": {"width": 0.5}})
        if surface["choice"]:
            kind, more = go.Heatmap, {"xgap": 1, "ygap": 1}
        return kind(
            x=surface["at"], y=surface["up"], z=self.warp(surface["values"]).round(5).tolist(),
            zmin=self.low, zmax=self.high, showscale=legend, hoverinfo="skip", opacity=0.75,
            colorscale=[[at / (len(steps) - 1), colour] for at, colour in enumerate(steps)],
            colorbar={"title": {"text": self.title}, "thickness": 12, "ticktext": texts,
                      "tickvals": ticks.tolist()},
            meta={"role": "surface", "better": self.direction}, **more,
        )  # fmt: skip


def _draw(study: Results) -> go.Figure:
    table = only_drawn(study, contours_table(study))
    return contours_figure(table, surfaces(study), study.info)


def _pairs(study: Results) -> list[tuple[SearchedSetting, SearchedSetting]]:
    """The most important settings in pairs, those that every trial has before all others."""
    order = by_importance(study)
    having = {p.name: study.trials[p.name].map(p.unit).notna().mean() for p in order}
    usable = [parameter for parameter in order if having[parameter.name] >= 0.5]
    return [(usable[a], usable[b]) for a, b in PAIRS if b < len(usable)]


def _levels(parameter: SearchedSetting) -> list[float]:
    if parameter.kind == "choice":
        return [parameter.unit(choice) for choice in parameter.choices]
    return [float(at) for at in np.linspace(0, 1, GRID)]


def _averaged(
    model: response_surface.ResponseSurface | None, first: SearchedSetting, second: SearchedSetting
) -> np.ndarray | None:
    if model is None or not model.trusted:
        return None
    names = [parameter.name for parameter in model.parameters]
    across, along = names.index(first.name), names.index(second.name)
    rows = np.linspace(0, len(model.points) - 1, min(AVERAGED, len(model.points))).astype(int)
    base = model.points[rows]
    values = []
    for up in _levels(second):
        for at in _levels(first):
            moved = base.copy()
            moved[:, across], moved[:, along] = at, up
            values.append(model.predict(moved).mean())
    return np.array(values).reshape(len(_levels(second)), len(_levels(first)))


CHART = Chart("contours", _draw)
