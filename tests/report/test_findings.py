"""What the page says in words."""

from collections.abc import Callable

import pytest
from report.journals import end, report, suggest

from raygen.report.findings import findings, gain, verdict
from raygen.results import Study

Make = Callable[..., Study]
WIDTH = [{"name": "width", "kind": "int", "low": 16, "high": 64, "log": False, "choices": None}]


def trials(values: list[float], state: str = "completed", width: int = 30) -> list[dict]:
    records = []
    for trial, value in enumerate(values):
        records += [*suggest(trial, {"width": width + trial}), report(trial, 16, value)]
        records += [end(trial, state, "why" if state != "completed" else "")]
    return records


def said(study: Study) -> str:
    return " ".join(f"{finding.text} {finding.action}" for finding in findings(study))


def test_the_gain_is_measured_against_the_default_and_the_median(make_study: Make) -> None:
    found = verdict(make_study(trials([8, 6, 2])))

    assert found is not None
    assert (found.trial, found.value, found.default, found.median) == (2, 2, 8, 6)
    assert not found.provisional


def test_without_a_completed_trial_the_best_is_provisional(make_study: Make) -> None:
    found = verdict(make_study(trials([8, 6], "stopped")))

    assert found is not None
    assert found.provisional


@pytest.mark.parametrize(
    ("direction", "value", "other", "words"),
    [
        ("minimize", 2.0, 8.0, "75 % lower"),
        ("minimize", 8.0, 2.0, "300 % worse"),
        ("maximize", -800.0, -900.0, "100 higher"),
        ("maximize", 0.6, 0.5, "20 % higher"),
        ("minimize", 5.0, 5.0, "no difference"),
    ],
)
def test_a_gain_is_said_with_its_direction(
    make_study: Make, direction: str, value: float, other: float, words: str
) -> None:
    study = make_study([], objective={"metric": "m", "direction": direction})

    assert gain(study, value, other) == words


def test_a_best_value_on_the_bound_asks_for_a_wider_range(make_study: Make) -> None:
    study = make_study(trials([9, 8, 7], width=62), parameters=WIDTH)

    assert "width = 64 (upper end of 16 to 64)" in said(study)
    assert "Widen this range" in said(study)


def test_a_best_value_inside_asks_for_nothing(make_study: Make) -> None:
    assert "Widen" not in said(make_study(trials([9, 8, 7]), parameters=WIDTH))


def test_failures_are_told_with_their_reason(make_study: Make) -> None:
    study = make_study(trials([1, 2], "out_of_memory"))

    assert "100 % of the trials gave no usable result: 2 out of memory (mostly: why)" in said(study)


def test_one_seed_per_configuration_is_a_warning_and_a_repeat_is_not(make_study: Make) -> None:
    assert "one seed" in said(make_study(trials([3, 2, 1])))
    records = []
    for trial in range(2):
        records += [*suggest(trial, {"width": 16}), report(trial, 16, 1.0), end(trial)]
    assert "one seed" not in said(make_study(records, folder="again"))


def test_values_under_two_protocols_are_a_warning(make_study: Make) -> None:
    protocols = {key: {"metric": "fd_classifier"} for key in ("aa", "bb")}

    assert "2 protocols (aa, bb)" in said(make_study(trials([1]), protocols=protocols))


def test_an_empty_study_has_no_findings(make_study: Make) -> None:
    assert findings(make_study([])) == []
