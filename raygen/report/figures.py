"""Tables -> plotly figures, one function per chart; FIGURES draws one straight from a study.

In a notebook: `curves_figure(curves(study), study.info, value_scale(study))`, with your own rows or
with those of `raygen.report.tables`; or `FIGURES["curves"](study)`. What charts share is in
`drawing`. The last trace of each panel is empty and becomes the selected trial on the page.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.report.ablation import ablation, ablation_figure
from raygen.report.axes import axes, lines
from raygen.report.budget import budget_figure, early_values
from raygen.report.contours import contour_pairs, contours_figure, surfaces
from raygen.report.drawing import (
    BEST,
    REST,
    SINGLE,
    axis_title,
    gapped,
    layout,
    marks,
    plain,
    safe,
    selected,
    time_unit,
)
from raygen.report.importance import importance
from raygen.report.labels import STATE_LOOKS, short_metric, short_names
from raygen.report.parallel import parallel_figure
from raygen.report.slices import slices, slices_figure
from raygen.report.tables import (
    LINES,
    Scale,
    curves,
    only_drawn,
    progress,
    seed_values,
    trade_offs,
    value_scale,
)
from raygen.report.timeline import timeline, timeline_figure
from raygen.report.tradeoffs import costs, costs_figure, trade_offs_figure
from raygen.results import Study, finalists

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
            figure.add_trace(marks(cut, state, x="kimg"))
    for place in range(len(BEST) - 1, -1, -1):
        one = finite[finite["rank"] == place]
        if len(one):
            name = f"trial {int(one['trial'].iloc[0])} (rank {place + 1})"
            trace = _polyline(one, name, BEST[place], f"best-{place}", width=2.5)
            trace.update(legendrank=900 + place)
            figure.add_trace(trace)
    figure.add_trace(selected("lines+markers"))
    for milestone in info.get("rungs") or []:
        line = {"dash": "dash", "width": 1.2, "color": REST}
        figure.add_vline(milestone, line=line, layer="below", name="rung")
    layout(figure, "images shown (thousands, kimg)", axis_title(metric, info), scale, height=420)
    figure.update_xaxes(rangemode="tozero", showgrid=False)
    return figure


def progress_figure(
    table: pd.DataFrame, info: dict[str, Any], scale: Scale | None, x: str = "trial"
) -> go.Figure:
    """Every trial's value by state, and the best so far; x is "trial" or "compute"."""
    figure = go.Figure()
    size, unit = time_unit(table["compute"])
    table = table.assign(compute=(table["compute"] / size).round(4))
    metric = short_metric(info["objective"]["metric"])
    best = table[table["best"].notna()]
    figure.add_trace(
        go.Scatter(
            x=plain(best[x]),
            y=plain(best["best"]),
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
            trace = marks(some, state, x=x)
            trace.update(meta={"role": f"state-{state}", "linked": True, **_both_x(some)})
            figure.add_trace(trace)
    figure.add_trace(selected("markers"))
    titles = {"trial": "trial number", "compute": f"training time of all trials so far ({unit})"}
    layout(figure, titles[x], axis_title(metric, info), scale, height=380)
    figure.update_layout(meta={"x_titles": titles})
    return figure


def importance_figure(table: pd.DataFrame) -> go.Figure:
    """Share of each setting as bars with their bootstrap interval, most important on top."""
    top = table.head(12).iloc[::-1]
    short = short_names(table["name"])
    figure = go.Figure(
        go.Bar(
            x=plain(top["share"]),
            y=[safe(short[name]) for name in top["name"]],
            orientation="h",
            width=0.55,
            marker={"color": BEST[0]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": plain(top["high"] - top["share"]),
                "arrayminus": plain(top["share"] - top["low"]),
                "thickness": 1.2,
                "width": 4,
                "color": "#555555",
            },
            customdata=[
                [safe(name), f"{low:.0%}", f"{high:.0%}", int(trials)]
                for name, low, high, trials in top[["name", "low", "high", "trials"]].to_numpy()
            ],
            hovertemplate="%{customdata[0]}<br>share %{x:.0%} (%{customdata[1]} to "
            "%{customdata[2]})<br>set in %{customdata[3]} trials<extra></extra>",
            meta={"role": "accent"},
        )
    )
    layout(figure, "share of the explained difference", "", None, height=90 + 30 * len(top))
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(automargin=True, ticksuffix="  ")
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
            x=plain(known["mean"]),
            y=plain(known["place"]),
            customdata=[int(trial) for trial in known["trial"]],
            mode="markers",
            name="their mean, 95 % interval",
            marker={"symbol": "square", "size": 11, "color": BEST[0]},
            error_x={"type": "data", "array": plain(half), "thickness": 2, "width": 6},
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
                    x=plain(some["value"]),
                    y=plain(some["place"]),
                    customdata=[int(trial) for trial in some["trial"]],
                    text=[str(seed) for seed in some["seed"]],
                    mode="markers",
                    name=name,
                    marker={"symbol": symbol, "size": 10, "color": colour},
                    hovertemplate="trial %{customdata}, seed %{text}<br>%{x:.4g}<extra></extra>",
                    meta={"role": role, "linked": True},
                )
            )
    figure.add_trace(selected("markers"))
    title = axis_title(short_metric(info["objective"]["metric"]), info)
    layout(figure, title, "", None, height=130 + 44 * len(table))
    ticks = [f"trial {trial}  " for trial in table["trial"]]
    figure.update_yaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.4, -0.6],
        automargin=True, showgrid=False,
    )  # fmt: skip
    return figure


def draw_finalists(study: Study) -> go.Figure:
    """The finalists of a study."""
    return finalists_figure(finalists(study), seed_values(study), study.info)


def draw_trade_offs(study: Study) -> go.Figure:
    """The objectives of a study against each other."""
    return trade_offs_figure(only_drawn(study, trade_offs(study)), study.objectives)


def draw_costs(study: Study) -> go.Figure:
    """The objective of a study against what it costs."""
    return costs_figure(only_drawn(study, costs(study)), study.objectives[0], value_scale(study))


def draw_curves(study: Study) -> go.Figure:
    """Learning curves of a study."""
    return curves_figure(only_drawn(study, curves(study)), study.info, value_scale(study))


def draw_progress(study: Study) -> go.Figure:
    """Search progress of a study; where the best improved is never left out."""
    table = progress(study)
    steps = table["best"].ne(table["best"].shift())
    return progress_figure(only_drawn(study, table, steps), study.info, value_scale(study))


def draw_budget(study: Study) -> go.Figure:
    """Early values of a study against final ones."""
    return budget_figure(only_drawn(study, early_values(study)), study.info, value_scale(study))


def draw_importance(study: Study) -> go.Figure:
    """Importance of the settings of a study."""
    return importance_figure(importance(study))


def draw_ablation(study: Study) -> go.Figure:
    """The way from the default of a study to its best."""
    return ablation_figure(ablation(study), study.info)


def draw_parallel(study: Study) -> go.Figure:
    """Parallel coordinates of a study."""
    table = axes(study)
    return parallel_figure(table, only_drawn(study, lines(study, table), most=LINES))


def draw_slices(study: Study) -> go.Figure:
    """The objective of a study against its most important settings."""
    return slices_figure(only_drawn(study, slices(study)), study.info, value_scale(study))


def draw_contours(study: Study) -> go.Figure:
    """The objective of a study over its most important pairs of settings."""
    pairs = contour_pairs(study)
    return contours_figure(only_drawn(study, pairs), surfaces(study), study.info)


def draw_timeline(study: Study) -> go.Figure:
    """What ran where and when."""
    return timeline_figure(only_drawn(study, timeline(study)))


FIGURES: dict[str, Callable[[Study], go.Figure]] = {
    "finalists": draw_finalists,
    "progress": draw_progress,
    "curves": draw_curves,
    "budget": draw_budget,
    "importance": draw_importance,
    "ablation": draw_ablation,
    "parallel": draw_parallel,
    "slices": draw_slices,
    "contours": draw_contours,
    "tradeoffs": draw_trade_offs,
    "costs": draw_costs,
    "timeline": draw_timeline,
}


def _polyline(table: pd.DataFrame, name: str, colour: str, role: str, width: float) -> go.Scatter:
    """All curves in one trace, cut by gaps: far fewer nodes than a trace per trial."""
    x, y, trial = gapped(table, "kimg", "value")
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


def _both_x(table: pd.DataFrame) -> dict[str, list[float]]:
    return {"trial": plain(table["trial"]), "compute": plain(table["compute"])}
