"""Trade-offs: the first objective against each of the others."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report.blocks import chart, note
from raygen.report.charts.chart import Chart
from raygen.report.charts.costs import costs_part
from raygen.report.drawing import (
    BEST,
    front_marks,
    layout,
    metric_axis,
    selected,
    staircase,
)
from raygen.report.labels import listed, number, short_metric
from raygen.report.remarks import thinned
from raygen.report.tables import only_drawn
from raygen.results import Results, pareto
from raygen.words import counted


def tradeoffs_table(study: Results) -> pd.DataFrame:
    """One row per trial that has every objective: trial, state, front, and a column for each."""
    table = study.values.copy()
    states = dict(zip(study.trials["trial"], study.trials["state"], strict=True))
    table.insert(1, "state", table["trial"].map(states))
    table.insert(2, "front", table["trial"].isin(pareto(study)))
    return table


def tradeoffs_figure(table: pd.DataFrame, objectives: list[dict[str, str]]) -> go.Figure:
    """The first objective against each other one: the front on top, trials cut early pale."""
    first, *others = objectives
    figure = make_subplots(rows=max(1, len(others)), shared_xaxes=True, vertical_spacing=0.06)
    for row, other in enumerate(others, start=1):
        for trace in _pair(table, first, other, main=row == 1, only=len(others) == 1):
            figure.add_trace(trace, row=row, col=1)
        figure.add_trace(selected("markers"), row=row, col=1)
    layout(figure, "", "", None, height=120 + 300 * max(1, len(others)))
    for row, other in enumerate(others, start=1):
        figure.update_yaxes(**metric_axis(table, other), row=row, col=1)
    figure.update_xaxes(**{**metric_axis(table, first), "title_text": ""})
    figure.update_xaxes(**metric_axis(table, first), row=max(1, len(others)), col=1)
    return figure


def tradeoffs_sentence(study: Results) -> tuple[str, bool]:
    """How many trials are on the front and where it ends; whether there is a chart to draw."""
    names = [short_metric(objective["metric"]) for objective in study.objectives]
    if len(names) == 1:
        return f"One objective, {names[0]}: there is nothing to trade off.", False
    if study.values.empty:
        return f"Nothing to trade off yet: no trial has values of {listed(names)}.", False
    front = pareto(study)
    if not front:
        return f"No front of {listed(names)} yet: no trial has completed the full budget.", True
    done = int((study.trials["state"] == "completed").sum())
    ends = []
    for objective, name in zip(study.objectives, names, strict=True):
        values = study.values.set_index("trial").loc[front, objective["metric"]].astype(float)
        if objective["direction"] == "minimize":
            word, trial, value = "lowest", values.idxmin(), values.min()
        else:
            word, trial, value = "highest", values.idxmax(), values.max()
        ends.append(f"{word} {name} {number(value)} (trial {trial})")
    return (
        f"Pareto front of {listed(names)}: {len(front)} of {counted(done, 'completed trial')}, "
        f"with {listed(ends)}."
    ), True


def tradeoffs_section(study: Results) -> tuple[str, str]:
    """What one objective costs in another, and what quality costs in time and size."""
    cost_lead, costs = costs_part(study)
    if len(study.objectives) == 1:
        return cost_lead, costs + note(thinned(study)) if costs else ""
    lead, drawable = tradeoffs_sentence(study)
    if not drawable:
        return lead, ""
    remark = (
        '<p class="note">Each trial is shown at the milestone where its first objective was best. '
        "Only completed trials can be on the front; the others are pale.</p>"
    )
    costs = f"<h3>What it costs</h3>{note(cost_lead)}{costs}"
    return lead, chart("tradeoffs", "Trade-offs", lead) + remark + costs + note(thinned(study))


def _draw(study: Results) -> go.Figure:
    return tradeoffs_figure(only_drawn(study, tradeoffs_table(study)), study.objectives)


def _pair(
    table: pd.DataFrame, first: dict[str, str], other: dict[str, str], main: bool, only: bool
) -> list[go.Scatter]:
    """Traces of one pair of objectives; `main`: with the legend, `only`: the pair is the study."""
    x, y = first["metric"], other["metric"]
    traces = []
    if only:
        # From best to worst in x the front gets better in y: what it reaches is a staircase.
        best = table[table["front"]].sort_values(x, ascending=first["direction"] == "minimize")
        traces.append(staircase(best[x], best[y], "", False))
    traces += front_marks(table[~table["front"]], x, y, main)
    traces += [
        trace.update(
            name="on the front",
            legendgroup="",
            marker={"symbol": "star", "size": 13, "color": BEST[1]},
            meta={"role": "front", "linked": True},
        )
        for trace in front_marks(table[table["front"]], x, y, main)
    ]
    return traces


CHART = Chart("tradeoffs", _draw)
