"""Early against final values, by hand."""

import math
from collections.abc import Callable

import pytest

from raygen.report.budget import early_values, rung_pairs, rung_savings, word
from raygen.report.figures import draw_budget
from raygen.results import Study
from report.journals import end, report, suggest

Make = Callable[..., Study]


def trial(number: int, values: list[float], state: str = "completed") -> list[dict]:
    """A trial that reports at the rungs 2, 6 and 16, as far as it gets."""
    reports = [report(number, kimg, value) for kimg, value in zip((2, 6, 16), values, strict=False)]
    return [*suggest(number, {"width": 16 + number}), *reports, end(number, state)]


def test_an_early_value_is_the_best_until_that_rung_and_stopped_trials_have_none(
    make_study: Make,
) -> None:
    study = make_study(trial(0, [5, 7, 3]) + trial(1, [9], "stopped"))

    assert early_values(study).to_dict("records") == [
        {"trial": 0, "state": "completed", "kimg": 2.0, "early": 5.0, "value": 3.0},
        {"trial": 0, "state": "completed", "kimg": 6.0, "early": 5.0, "value": 3.0},
    ]


def test_the_same_order_at_every_rung_correlates_fully_and_a_reversed_one_against(
    make_study: Make,
) -> None:
    records = []
    for number in range(6):
        records += trial(number, [20 - number, 10 - number, 1 + 0.1 * number])
    pairs = rung_pairs(make_study(records)).set_index(["early", "late"])

    assert pairs["rho"][2.0, 6.0] == pytest.approx(1)
    # The best until 16 kimg is the last value, in the other order.
    assert pairs["rho"][2.0, 16.0] == pytest.approx(-1)
    assert pairs["trials"].tolist() == [6, 6, 6]


def test_four_trials_are_too_few_for_a_correlation(make_study: Make) -> None:
    records = [record for n in range(4) for record in trial(n, [9.0 - n, 8.0 - n, 7.0 - n])]

    assert rung_pairs(make_study(records))["rho"].isna().all()
    assert word(math.nan) == "unknown"


def test_a_rung_saves_what_its_stopped_trials_did_not_train(make_study: Make) -> None:
    study = make_study(
        trial(0, [9], "stopped") + trial(1, [9, 8], "stopped") + trial(2, [9], "stopped")
    )

    assert rung_savings(study).to_numpy().tolist() == [[2.0, 2, 28.0], [6.0, 1, 10.0]]


@pytest.mark.parametrize(
    ("rho", "text"), [(0.7, "very strong"), (0.5, "strong"), (0.25, "weak"), (-0.9, "none")]
)
def test_a_correlation_has_a_word(rho: float, text: str) -> None:
    assert word(rho) == text


def test_the_figure_has_a_panel_per_rung_with_its_points(make_study: Make) -> None:
    records = [record for n in range(5) for record in trial(n, [9.0 - n, 8.0 - n, 7.0 - n])]
    figure = draw_budget(make_study(records))
    points = [trace for trace in figure.data if trace.meta.get("linked")]

    assert [sorted(trace.x) for trace in points] == [[5, 6, 7, 8, 9], [4, 5, 6, 7, 8]]
    assert all(sorted(trace.y) == [3, 4, 5, 6, 7] for trace in points)
