"""A chart that is added as docs/extend.md says is part of the page."""

from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import pytest

from raygen.report.blocks import chart
from raygen.report.charts import CHARTS
from raygen.report.charts.chart import Chart
from raygen.report.drawing import marks
from raygen.report.page import page_data, render_page
from raygen.report.sections import SECTIONS, Section
from raygen.results import Results
from report.journals import end, report, searched, suggest

Make = Callable[..., Results]


def widths_table(study: Results) -> pd.DataFrame:
    return study.trials[["trial", "state", "width", "value"]]


def widths_figure(table: pd.DataFrame) -> go.Figure:
    return go.Figure(marks(table, "completed", "width"))


def widths_section(study: Results) -> tuple[str, str]:
    lead = f"{len(widths_table(study))} widths were tried."
    return lead, chart("widths", "Widths", lead)


CHART = Chart("widths", lambda study: widths_figure(widths_table(study)))


@pytest.fixture
def study(make_study: Make) -> Results:
    """Two trials of different width."""
    records = []
    for trial, (width, value) in enumerate([(16, 5.0), (32, 4.0)]):
        records += [*suggest(trial, {"width": width}), report(trial, 16, value), end(trial)]
    return make_study(records, parameters=[searched("width", 16, 32)])


def test_one_line_in_the_list_of_charts_puts_its_figure_into_the_page(
    study: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raygen.report.page.CHARTS", [*CHARTS, CHART])

    figures = page_data(study)["figures"]
    (trace,) = figures["widths"]["data"]

    assert (trace["x"], trace["y"], trace["customdata"]) == ([16, 32], [5.0, 4.0], [0, 1])
    assert list(figures) == [*(chart.name for chart in CHARTS), "widths"]


def test_a_section_of_its_own_holds_the_place_for_it(
    study: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raygen.report.page.CHARTS", [*CHARTS, CHART])
    section = Section("widths", "Widths", widths_section)
    monkeypatch.setattr("raygen.report.page.SECTIONS", [*SECTIONS, section])

    html = render_page(study)

    assert html.count('data-figure="widths"') == 1
    assert '<p class="lead">2 widths were tried.</p>' in html


def test_no_two_charts_have_one_name() -> None:
    assert len({chart.name for chart in CHARTS}) == len(CHARTS)
