"""Figures show the rows of their tables, no more and no fewer."""

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import pytest
from report.journals import end, report, suggest

from raygen.report.axes import axes, lines
from raygen.report.figures import FIGURES, draw_curves, draw_parallel, draw_progress
from raygen.report.labels import STATE_LOOKS
from raygen.report.tables import ABSENT_POSITION, curves
from raygen.results import STATES, Study, load_study

Make = Callable[..., Study]


def role(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.meta["role"] == name)


@pytest.fixture(scope="module")
def study(demo: Path) -> Study:
    return load_study(demo)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_a_full_and_an_empty_study(
    study: Study, make_study: Make, name: str
) -> None:
    assert isinstance(FIGURES[name](study), go.Figure)
    assert isinstance(FIGURES[name](make_study([])), go.Figure)


def test_every_state_has_its_own_shape_colour_and_word() -> None:
    assert set(STATE_LOOKS) == set(STATES)
    for attribute in ("text", "glyph", "symbol", "colour"):
        assert len({getattr(look, attribute) for look in STATE_LOOKS.values()}) == len(STATES)


def test_the_curves_hold_every_finite_report_once(study: Study) -> None:
    figure = draw_curves(study)
    drawn = [
        (trial, x, y)
        for trace in figure.data
        if trace.meta.get("linked")
        for trial, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
        if trial is not None
    ]
    table = curves(study)
    expected = table[table["value"].notna()][["trial", "kimg", "value"]]

    assert sorted(drawn) == sorted(map(tuple, expected.to_numpy().tolist()))


def test_every_rung_has_a_line_and_every_cut_a_cross(study: Study) -> None:
    figure = draw_curves(study)
    stopped = study.trials[study.trials["state"] == "stopped"]["trial"]

    assert [shape.x0 for shape in figure.layout.shapes] == study.info["rungs"]
    assert sorted(role(figure, "state-stopped").customdata) == sorted(stopped)
    assert role(figure, "state-stopped").marker.symbol == "x"


def test_progress_shows_each_trial_with_a_value_once(study: Study) -> None:
    figure = draw_progress(study)
    drawn = [t for trace in figure.data if trace.meta.get("linked") for t in trace.customdata]

    assert sorted(drawn) == study.trials[study.trials["value"].notna()]["trial"].tolist()


def test_a_parallel_line_crosses_every_axis_of_its_trial(study: Study) -> None:
    table = axes(study)
    crossed = lines(study, table)
    figure = draw_parallel(study)
    points = sum(1 for trace in figure.data for trial in trace.customdata if trial is not None)

    assert len(crossed) == len(table) * len(study.trials) == points
    assert table["kind"].iloc[-1] == "objective"


def test_the_best_value_is_at_the_top_and_no_value_below_the_axis(make_study: Make) -> None:
    records = []
    for trial, value in enumerate([4.0, 2.0, 3.0]):
        records += [*suggest(trial, {"width": 16 + trial}), report(trial, 16, value), end(trial)]
    records += [*suggest(3, {"width": 60}), end(3, "failed", "boom")]
    study = make_study(records, parameters=[])
    table = lines(study, axes(study))
    objective = table[table["axis"] == 1].set_index("trial")

    assert objective["position"].to_dict() == {0: 0, 1: 1, 2: 0.5, 3: ABSENT_POSITION}
    assert objective["bucket"][3] == -1
    assert objective["bucket"][1] == 0


def test_an_absent_setting_has_its_own_level(make_study: Make) -> None:
    records = []
    for trial, loss in enumerate([{"name": "hinge"}, {"name": "wgan", "weight": 10.0}]):
        records += [*suggest(trial, {"loss": loss}), report(trial, 16, 1.0 + trial), end(trial)]
    study = make_study(records, parameters=[])
    table = lines(study, axes(study))
    weight = axes(study).set_index("name")["axis"]["loss.weight"]
    row = table[(table["axis"] == weight) & (table["trial"] == 0)].iloc[0]

    assert (row["position"], row["text"]) == (ABSENT_POSITION, "—")


def test_text_from_a_study_cannot_become_markup(make_study: Make) -> None:
    records = [*suggest(0, {"a": "<b>x</b>"}), report(0, 16, 1.0), end(0, "failed", "<a href=x>")]
    records += [*suggest(1, {"a": "y"}), report(1, 16, 2.0), end(1)]
    study = make_study(records, parameters=[])

    for figure in (draw_curves(study), draw_parallel(study)):
        shown = [note.text for note in figure.layout.annotations]
        shown += [str(trace.text) for trace in figure.data]
        assert not any("<b>x" in text or "<a href" in text for text in shown)
    assert any("&lt;b&gt;x" in note.text for note in figure.layout.annotations)
