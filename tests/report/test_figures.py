"""Figures show the rows of their tables, no more and no fewer."""

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import pytest

from raygen import results
from raygen.journal import STATES
from raygen.report.charts import FIGURES, curves, finalists, parallel, progress, slices, tradeoffs
from raygen.report.charts.curves import curves_table
from raygen.report.charts.finalists import finalists_table
from raygen.report.charts.parallel import ABSENT_POSITION, axes_table, lines_table
from raygen.report.drawing import value_axis
from raygen.report.labels import STATE_LOOKS
from raygen.report.tables import AxisScale
from raygen.results import Results, load_results
from report.journals import end, finals, replicate, report, searched, suggest

Make = Callable[..., Results]


def role(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.meta["role"] == name)


@pytest.fixture(scope="module")
def study(demo: Path) -> Results:
    return load_results(demo)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_a_full_and_an_empty_study(
    study: Results, make_study: Make, name: str
) -> None:
    assert isinstance(FIGURES[name](study), go.Figure)
    assert isinstance(FIGURES[name](make_study([])), go.Figure)


def test_every_state_has_its_own_shape_colour_and_word() -> None:
    assert set(STATE_LOOKS) == {*STATES, "paused"}  # a trial does not end as paused
    for attribute in ("text", "glyph", "symbol", "colour"):
        assert len({getattr(look, attribute) for look in STATE_LOOKS.values()}) == len(STATE_LOOKS)


def test_the_curves_hold_every_finite_report_once(study: Results) -> None:
    figure = curves.CHART.draw(study)
    drawn = [
        (trial, x, y)
        for trace in figure.data
        if trace.meta.get("linked")
        for trial, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
        if trial is not None
    ]
    table = curves_table(study)
    expected = table[table["value"].notna()][["trial", "kimg", "value"]]

    assert sorted(drawn) == sorted(map(tuple, expected.to_numpy().tolist()))


def test_trials_of_one_choice_stand_side_by_side_over_its_name(study: Results) -> None:
    figure = slices.CHART.draw(study)
    axis = next(axis for axis in figure.select_xaxes() if axis.ticktext)
    points = [
        (place, text)
        for trace in figure.data
        if f"x{axis.plotly_name[5:]}" == (trace.xaxis or "x") and trace.text
        for place, text in zip(trace.x, trace.text, strict=True)
    ]

    assert len({place for place, _ in points}) == len(points) > 10
    for place, text in points:
        assert axis.ticktext[round(place)].replace("<br>", "") == text


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(249, 2000, "D1"), (249, 9000, "D2"), (1e-6, 1e3, 1)]
)
def test_a_log_axis_has_ticks_where_the_values_differ(
    low: float, high: float, ticks: object
) -> None:
    assert value_axis(AxisScale(low, high, True))["dtick"] == ticks


def test_every_rung_has_a_line_and_every_cut_a_cross(study: Results) -> None:
    figure = curves.CHART.draw(study)
    stopped = study.trials[study.trials["state"] == "stopped"]["trial"]

    assert [shape.x0 for shape in figure.layout.shapes] == study.info["rungs"]
    assert sorted(role(figure, "state-stopped").customdata) == sorted(stopped)
    assert role(figure, "state-stopped").marker.symbol == "x"


def test_progress_shows_each_trial_with_a_value_once(study: Results) -> None:
    figure = progress.CHART.draw(study)
    drawn = [t for trace in figure.data if trace.meta.get("linked") for t in trace.customdata]

    assert sorted(drawn) == study.trials[study.trials["value"].notna()]["trial"].tolist()


def test_a_parallel_line_crosses_every_axis_of_its_trial(study: Results) -> None:
    table = axes_table(study)
    crossed = lines_table(study, table)
    figure = parallel.CHART.draw(study)
    points = sum(1 for trace in figure.data for trial in trace.customdata if trial is not None)

    assert len(crossed) == len(table) * len(study.trials) == points
    assert table["kind"].iloc[-1] == "objective"


def test_the_best_value_is_at_the_top_and_no_value_below_the_axis(make_study: Make) -> None:
    records = []
    for trial, value in enumerate([4.0, 2.0, 3.0]):
        records += [*suggest(trial, {"width": 16 + trial}), report(trial, 16, value), end(trial)]
    records += [*suggest(3, {"width": 60}), end(3, "failed", "boom")]
    study = make_study(records, parameters=[searched("width", low=16, high=60)])
    table = lines_table(study, axes_table(study))
    objective = table[table["axis"] == 1].set_index("trial")

    assert objective["position"].to_dict() == {0: 0, 1: 1, 2: 0.5, 3: ABSENT_POSITION}
    assert objective["bucket"][3] == -1
    assert objective["bucket"][1] == 0


def test_an_absent_setting_has_its_own_level(make_study: Make) -> None:
    records = []
    for trial, loss in enumerate([{"name": "hinge"}, {"name": "wgan", "weight": 10.0}]):
        records += [*suggest(trial, {"loss": loss}), report(trial, 16, 1.0 + trial), end(trial)]
    declared = [searched("loss.name", "hinge", "wgan"), searched("loss.weight", low=1, high=10)]
    study = make_study(records, parameters=declared)
    table = lines_table(study, axes_table(study))
    weight = axes_table(study).set_index("name")["axis"]["loss.weight"]
    row = table[(table["axis"] == weight) & (table["trial"] == 0)].iloc[0]

    assert (row["position"], row["text"]) == (ABSENT_POSITION, "—")


def points(figure: go.Figure) -> list[tuple[int, float, float]]:
    """Trial, x and y of every linked point."""
    return sorted(
        point
        for trace in figure.data
        if trace.meta.get("linked")
        for point in zip(trace.customdata, trace.x, trace.y, strict=True)
    )


def test_every_value_and_every_mean_of_the_finalists_is_drawn_in_the_row_of_its_trial(
    study: Results,
) -> None:
    figure, table = finalists.CHART.draw(study), results.finalists(study)
    place = {trial: row for row, trial in enumerate(table["trial"])}
    values = finalists_table(study)
    expected = list(zip(values["trial"], values["value"], strict=True))
    expected += list(zip(table["trial"], table["mean"], strict=True))

    assert points(figure) == sorted((trial, value, place[trial]) for trial, value in expected)
    mean = next(trace for trace in figure.data if trace.error_x.array is not None)
    half = (table["high"] - table["low"]) / 2
    assert list(mean.error_x.array) == pytest.approx(half.tolist())
    assert [text.strip() for text in figure.layout.yaxis.ticktext] == [
        f"trial {trial}" for trial in table["trial"]
    ]


def test_a_finalist_without_an_interval_has_no_whisker(make_study: Make) -> None:
    records = [*suggest(0, {"a": 1}), report(0, 16, 2.0), end(0), finals(0), *replicate(1, 0, 3.0)]
    figure = finalists.CHART.draw(make_study(records))

    assert list(figure.data[0].error_x.array) == [0]


def both(other: str = "recall", direction: str = "maximize") -> list[dict[str, str]]:
    first = {"metric": "fd_classifier", "direction": "minimize"}
    return [first, {"metric": other, "direction": direction}]


def test_every_trial_of_two_objectives_is_drawn_once_and_the_front_as_a_staircase(
    make_study: Make,
) -> None:
    records = []
    for trial, (value, recall) in enumerate([(5.0, 0.5), (4.0, 0.4), (6.0, 0.3), (1.0, 0.9)]):
        state = "stopped" if trial == 3 else "completed"
        drawn = suggest(trial, {"width": 16})
        records += [*drawn, report(trial, 16, value, recall=recall), end(trial, state)]
    figure = tradeoffs.CHART.draw(make_study(records, objectives=both()))
    stairs = next(trace for trace in figure.data if trace.mode == "lines")

    assert points(figure) == [(0, 5.0, 0.5), (1, 4.0, 0.4), (2, 6.0, 0.3), (3, 1.0, 0.9)]
    assert (list(stairs.x), list(stairs.y), stairs.line.shape) == ([4.0, 5.0], [0.4, 0.5], "hv")
    assert role(figure, "state-stopped").opacity < role(figure, "state-completed").opacity
    assert figure.layout.yaxis.title.text == "recall ↑"


def test_each_further_objective_has_its_own_row(make_study: Make) -> None:
    records = []
    for trial in range(3):
        more = {"recall": 0.1 * trial, "million_parameters": 3.0 - trial}
        records += [*suggest(trial, {"a": 1}), report(trial, 16, 5.0 - trial, **more), end(trial)]
    three = [*both(), {"metric": "million_parameters", "direction": "minimize"}]
    figure = tradeoffs.CHART.draw(make_study(records, objectives=three))

    assert figure.layout.yaxis.title.text == "recall ↑"
    assert figure.layout.yaxis2.title.text == "parameters (millions) ↓"
    assert figure.layout.xaxis2.title.text == "Fréchet distance ↓"
    assert len(points(figure)) == 6  # every trial in each row


def test_text_from_a_study_cannot_become_markup(make_study: Make) -> None:
    records = [*suggest(0, {"a": "<b>x</b>"}), report(0, 16, 1.0), end(0, "failed", "<a href=x>")]
    records += [*suggest(1, {"a": "y"}), report(1, 16, 2.0), end(1)]
    study = make_study(records, parameters=[searched("a", "<b>x</b>", "y")])

    for figure in (curves.CHART.draw(study), parallel.CHART.draw(study)):
        shown = [note.text for note in figure.layout.annotations]
        shown += [str(trace.text) for trace in figure.data]
        assert not any("<b>x" in text or "<a href" in text for text in shown)
    assert any("&lt;b&gt;x" in note.text for note in figure.layout.annotations)
