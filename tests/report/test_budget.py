"""Early against final values, by hand."""

import math
from collections.abc import Callable

import pytest

from raygen.report.charts.budget import (
    CHART,
    budget_sentence,
    budget_table,
    rung_pairs,
    rung_savings,
)
from raygen.report.health_checks import health as checks
from raygen.results import Results, judgement, rung_agreement
from report.journals import end, report, suggest

Make = Callable[..., Results]


def trial(number: int, values: list[float], state: str = "completed") -> list[dict]:
    """A trial that reports at the rungs 2, 6 and 16, as far as it gets."""
    reports = [report(number, kimg, value) for kimg, value in zip((2, 6, 16), values, strict=False)]
    return [*suggest(number, {"width": 16 + number}), *reports, end(number, state)]


def test_an_early_value_is_the_best_until_that_rung_and_stopped_trials_have_none(
    make_study: Make,
) -> None:
    study = make_study(trial(0, [5, 7, 3]) + trial(1, [9], "stopped"))

    assert budget_table(study).to_dict("records") == [
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
    assert judgement(math.nan, 4) == "unknown"


def test_a_rung_saves_what_its_stopped_trials_did_not_train(make_study: Make) -> None:
    study = make_study(
        trial(0, [9], "stopped") + trial(1, [9, 8], "stopped") + trial(2, [9], "stopped")
    )

    assert rung_savings(study).to_numpy().tolist() == [[2.0, 2, 28.0], [6.0, 1, 10.0]]


@pytest.mark.parametrize(
    ("rho", "text"),
    [(0.7, "good"), (0.5, "fair"), (0.49, "too weak to stop by"), (-0.9, "too weak to stop by")],
)
def test_a_correlation_has_a_word(rho: float, text: str) -> None:
    assert judgement(rho, 8) == text
    assert judgement(rho, 7) == "undecided with 7 trials"


@pytest.mark.parametrize("growing", [False, True])
def test_health_and_budget_say_the_same_of_the_same_rung(make_study: Make, growing: bool) -> None:
    records = []
    for number in range(9):
        # What was measured with fewer samples at 2 kimg does not count at 6.
        records += trial(number, [number % 3, 10 + (number * 5) % 9, 20 - number])
    evaluation = {"samples": 1000, **({"first_samples": 500} if growing else {})}
    study = make_study(records, evaluation=evaluation)

    pairs = rung_pairs(study)
    final = pairs[pairs["late"] == 16].set_index("early")["rho"]
    health = rung_agreement(study).set_index("kimg")["rho"]

    assert health.to_dict() == pytest.approx(final.to_dict())
    assert f"{final[2.0]:.2f}" in budget_sentence(study)[0]
    (check,) = (check for check in checks(study) if check.name == "Rung correlation")
    assert f"{final[2.0]:.2f}" in check.text
    assert judgement(final[2.0], 9) in check.text
    assert judgement(final[2.0], 9) in budget_sentence(study)[0]


def test_the_figure_has_a_panel_per_rung_with_its_points(make_study: Make) -> None:
    records = [record for n in range(5) for record in trial(n, [9.0 - n, 8.0 - n, 7.0 - n])]
    figure = CHART.draw(make_study(records))
    points = [trace for trace in figure.data if trace.meta.get("linked")]

    assert [sorted(trace.x) for trace in points] == [[5, 6, 7, 8, 9], [4, 5, 6, 7, 8]]
    assert all(sorted(trace.y) == [3, 4, 5, 6, 7] for trace in points)
