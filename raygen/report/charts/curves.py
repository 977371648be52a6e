"""Learning curves: the objective of every trial against the images that it saw."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.report.blocks import chart, note, toggle_button
from raygen.report.charts.chart import Chart
from raygen.report.drawing import (
    BEST,
    REST,
    axis_title,
    gapped,
    layout,
    marks,
    selected,
    states_of,
)
from raygen.report.labels import listed, number, short_metric
from raygen.report.memo import once_per_study
from raygen.report.remarks import thinned, unseen
from raygen.report.tables import AxisScale, only_drawn, reports, value_scale
from raygen.results import Results, ranked
from raygen.words import counted

MANY = 4000  # points; above this a browser is slow with one SVG node each
COLUMNS = {
    "trial": int, "kimg": float, "value": float, "state": str, "reason": str, "rank": float,
    "last": bool,
}  # fmt: skip


@once_per_study
def curves_table(study: Results) -> pd.DataFrame:
    """One row per report: trial, kimg, value (finite or nan), state, reason, rank, last.

    `rank` is 0 for the best trial, nan for one without a value; `last` marks the report a trial
    ended with (its last finite one, so that a mark can be drawn there).
    """
    table = reports(study).copy()
    if table.empty:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    rank = {trial: place for place, trial in enumerate(ranked(study)["trial"])}
    facts = study.trials.set_index("trial")
    table["state"] = table["trial"].map(facts["state"])
    table["reason"] = table["trial"].map(facts["reason"]).fillna("")
    table["rank"] = table["trial"].map(rank).astype(float)
    finite = table[table["value"].notna()]
    table["last"] = False
    table.loc[finite.groupby("trial").tail(1).index, "last"] = True
    return table


def curves_figure(table: pd.DataFrame, info: dict[str, Any], scale: AxisScale | None) -> go.Figure:
    """Objective against thousands of images: the best five in colour, the rest grey."""
    metric = short_metric(info["objective"]["metric"])
    figure = go.Figure()
    finite = table[table["value"].notna()]
    rest = finite[~(finite["rank"] < len(BEST))]
    figure.add_trace(_polyline(rest, "other trials", REST, "rest", width=1))
    ends = finite[finite["last"]]
    for state in states_of(ends):
        if state not in ("completed", "running"):
            figure.add_trace(marks(ends[ends["state"] == state], state, "kimg", linked=False))
    for place in range(len(BEST) - 1, -1, -1):
        rows = finite[finite["rank"] == place]
        if len(rows):
            name = f"trial {int(rows['trial'].iloc[0])} (rank {place + 1})"
            trace = _polyline(rows, name, BEST[place], f"best-{place}", width=2.5)
            trace.update(legendrank=900 + place)
            figure.add_trace(trace)
    figure.add_trace(selected("lines+markers"))
    for milestone in info["rungs"]:
        line = {"dash": "dash", "width": 1.2, "color": REST}
        figure.add_vline(milestone, line=line, layer="below", name="rung")
    layout(figure, "images shown (thousands, kimg)", axis_title(metric, info), scale, height=420)
    figure.update_xaxes(rangemode="tozero", showgrid=False)
    return figure


def curves_sentence(study: Results) -> tuple[str, bool]:
    """How many trials were cut where, and whether there is a chart to draw."""
    if study.trials["value"].notna().sum() == 0:
        return "No curves yet: no trial has reported a value.", False
    stopped = study.trials[study.trials["state"] == "stopped"]
    done = int((study.trials["state"] == "completed").sum())
    text = f"{done} of {counted(len(study.trials), 'trial')} reached the full budget"
    if len(stopped):
        cut_at = stopped["kimg"].value_counts().sort_index()
        cuts = listed(
            f"{count} at {number(kimg)} kimg"
            for kimg, count in zip(cut_at.index.tolist(), cut_at.tolist(), strict=True)
        )
        text += f"; early stopping ended {cuts}"
    return f"{text}. {unseen(study)}".strip(), True


def curves_section(study: Results) -> tuple[str, str]:
    """How the trials learned, and where they were cut."""
    lead, drawable = curves_sentence(study)
    if not drawable:
        return lead, ""
    legend = (
        "Dashed lines are the rungs. The marker at the end of a curve shows how the trial ended; "
        "hover for the reason. Cut-offs are in the trials table."
    )
    evaluation = study.info["evaluation"]
    if evaluation.get("first_samples"):
        legend += (
            f" Values are measured on {evaluation['first_samples']} to {evaluation['samples']} "
            "samples, more at each rung: compare trials at the same kimg, not a trial with its "
            "earlier self."
        )
    drawing = chart("curves", "Learning curves", lead, toggle_button("log-curves", "log scale"))
    return lead, drawing + note(legend) + note(thinned(study))


def _draw(study: Results) -> go.Figure:
    table = only_drawn(study, curves_table(study))
    return curves_figure(table, study.info, value_scale(study))


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


CHART = Chart("curves", _draw)
