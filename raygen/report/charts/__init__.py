"""Every chart of the report, one module each: its table, figure, sentence and section."""

from collections.abc import Callable

import plotly.graph_objects as go

from raygen.report.charts import (
    ablation,
    budget,
    contours,
    costs,
    curves,
    finalists,
    importance,
    parallel,
    progress,
    slices,
    timeline,
    tradeoffs,
)
from raygen.report.charts.chart import Chart
from raygen.results import Results

CHARTS: list[Chart] = [
    finalists.CHART,
    progress.CHART,
    curves.CHART,
    budget.CHART,
    importance.CHART,
    ablation.CHART,
    parallel.CHART,
    slices.CHART,
    contours.CHART,
    tradeoffs.CHART,
    costs.CHART,
    timeline.CHART,
]

# By name, for a notebook: FIGURES["budget"](study).
FIGURES: dict[str, Callable[[Results], go.Figure]] = {chart.name: chart.draw for chart in CHARTS}
