"""What quality costs: the objective against time, size and speed."""

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report.blocks import chart
from raygen.report.charts.chart import Chart
from raygen.report.drawing import (
    front_marks,
    layout,
    metric_axis,
    selected,
    staircase,
    value_axis,
)
from raygen.report.labels import number, short_metric
from raygen.report.tables import AxisScale, only_drawn, value_scale
from raygen.results import Results
from raygen.words import counted, duration


class Cost(NamedTuple):
    """Something that a trial costs."""

    direction: str
    name: str
    unit: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


# In the order of the panels; a metric of that name need not be recorded.
COSTS = {
    "seconds": Cost("minimize", "training time", "s"),
    "dollars": Cost("minimize", "cost", "dollars"),
    "million_parameters": Cost("minimize", "parameters", "millions"),
    "images_per_second": Cost("maximize", "images per second"),
}


def costs_table(study: Results) -> pd.DataFrame:
    """One row per trial with a value: trial, state, value, and a column for each known cost.

    `seconds` is the whole trial with its evaluations; the speed is the median over its reports. A
    cost that is the same for all says nothing, and has no column.
    """
    columns = ["trial", "state", "value", "seconds", "dollars"]
    table = study.trials.loc[study.trials["value"].notna(), columns].reset_index(drop=True)
    recorded = [cost for cost in COSTS if cost in study.history]
    medians = study.history[["trial", *recorded]].astype(float).groupby("trial").median()
    for cost in recorded:
        if cost not in columns:
            table[cost] = table["trial"].map(medians[cost])
    return table[[name for name in table if name not in COSTS or table[name].nunique() > 1]]


def front(table: pd.DataFrame, cost: str, directions: tuple[str, str]) -> pd.DataFrame:
    """Completed trials that no other one beats in both value and cost, cheapest first.

    `directions`: that of the value, and that of the cost.
    """
    value_sign, cost_sign = (1 if way == "minimize" else -1 for way in directions)
    done = table[(table["state"] == "completed") & table[cost].notna()]
    order = done.assign(_value=value_sign * done["value"], _cost=cost_sign * done[cost])
    order = order.sort_values(["_cost", "_value"])
    better = order["_value"] < order["_value"].cummin().shift(fill_value=float("inf"))
    return order[better].drop(columns=["_value", "_cost"])


def costs_figure(
    table: pd.DataFrame, objective: dict[str, str], scale: AxisScale | None
) -> go.Figure:
    """One panel per cost, the objective upwards; a staircase along those that nothing beats."""
    panels = [cost for cost in COSTS if cost in table]
    figure = make_subplots(cols=max(1, len(panels)), shared_yaxes=True, horizontal_spacing=0.03)
    for col, cost in enumerate(panels, start=1):
        main = col == 1
        best = front(table, cost, (objective["direction"], COSTS[cost].direction))
        stairs = staircase(best[cost], best["value"], "front of completed trials", main)
        for trace in [stairs, *front_marks(table, cost, "value", main), selected("markers")]:
            figure.add_trace(trace, row=1, col=col)
    layout(figure, "", "", None, height=380)
    for col, cost in enumerate(panels, start=1):
        axis = metric_axis(table, {"metric": cost, "direction": COSTS[cost].direction})
        figure.update_xaxes(**{**axis, "title_text": COSTS[cost].title}, row=1, col=col)
        figure.update_yaxes(**value_axis(scale), row=1, col=col)
    figure.update_yaxes(**metric_axis(table.rename(columns={"value": objective["metric"]}),
                                      objective), row=1, col=1)  # fmt: skip
    figure.update_yaxes(**value_axis(scale), row=1, col=1)
    return figure


def costs_sentence(study: Results) -> tuple[str, bool]:
    """The best and the cheapest trial of the front; whether to draw a chart."""
    table = costs_table(study)
    cost = next((cost for cost in COSTS if cost in table), None)
    name = short_metric(study.metric)
    if cost is None:
        valued = bool(study.trials["value"].notna().any())
        why = "Every trial cost the same" if valued else "No trial has a value"
        text = f"{why}: nothing to plot {name} against."
        return text, False
    order = front(table, cost, (study.info["objective"]["direction"], COSTS[cost].direction))
    if order.empty:
        return f"No trial has completed yet to compare {name} with its cost.", True
    cheap, best = order.iloc[0], order.iloc[-1]
    say = duration if cost == "seconds" else number
    if len(order) == 1:
        return (
            f"Trial {int(best['trial'])} is both the best and the cheapest completed one: {name} "
            f"{number(best['value'])} for {say(best[cost])}."
        ), True
    return (
        f"Pareto front of {name} and {COSTS[cost].name} ({counted(len(order), 'trial')}): best "
        f"trial {int(best['trial'])} ({number(best['value'])} for {say(best[cost])}), cheapest "
        f"trial {int(cheap['trial'])} ({number(cheap['value'])} for {say(cheap[cost])})."
    ), True


def costs_part(study: Results) -> tuple[str, str]:
    """The sentence and the place of the chart, for the section on trade-offs."""
    lead, drawable = costs_sentence(study)
    return lead, chart("costs", "Quality and its costs", lead) if drawable else ""


def _draw(study: Results) -> go.Figure:
    table = only_drawn(study, costs_table(study))
    return costs_figure(table, study.objectives[0], value_scale(study))


CHART = Chart("costs", _draw)
