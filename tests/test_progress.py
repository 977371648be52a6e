from pathlib import Path
from typing import Any

import pytest

from raygen.config import Study, load_study
from raygen.progress import StudyProgress, plan


@pytest.fixture
def study(repository: Path) -> Study:
    return load_study(repository / "search_spaces" / "quickstart.yaml")


def report(trial: int, value: float | None) -> dict[str, Any]:
    return {
        "kind": "report", "trial": trial, "kimg": 2.0, "seconds": 3.0,
        "images_per_second": 500.0, "metrics": {"fd_classifier": value},
    }  # fmt: skip


def end(trial: int, state: str) -> dict[str, Any]:
    return {"kind": "end", "trial": trial, "state": state, "reason": "because"}


def shown(study: Study, records: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> str:
    progress = StudyProgress(study, quiet=False)
    for record in records:
        progress(record)
    captured = capsys.readouterr()
    assert captured.out == ""  # stdout is for the result
    return captured.err


def test_each_new_best_is_marked_and_nothing_else(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [50.0, 60.0, None, 40.0, 40.0, 39.0]

    text = shown(study, [report(n, value) for n, value in enumerate(values)], capsys)

    marked = ["best so far" in line for line in text.splitlines()]
    assert marked == [True, False, False, True, False, True]


def test_the_last_line_names_the_best_completed_trial_as_the_report_does(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [report(0, 30.0), end(0, "stopped"), report(1, 45.0), end(1, "completed")]

    text = shown(study, [*records, {"kind": "close"}], capsys)

    assert text.splitlines()[-1].endswith("best fd_classifier 45 by trial 1")


def test_the_best_is_provisional_but_named_when_nothing_has_completed(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(study, [report(3, 30.0), end(3, "interrupted"), {"kind": "close"}], capsys)

    assert text.splitlines()[-1].endswith("best fd_classifier 30 by trial 3")


def test_markup_in_a_reason_is_shown_as_it_is(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {**end(0, "failed"), "reason": "[red]KeyError[/red]"}

    assert "[red]KeyError[/red]" in shown(study, [record], capsys)


def test_the_plan_bounds_the_cost_by_trials_times_budget(study: Study) -> None:
    assert "at most    180 kimg" in plan(study, Path("runs/x"))
