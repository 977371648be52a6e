"""Each check passes, warns or stays open for the reason it says."""

from collections.abc import Callable
from typing import Any

import pytest

from raygen.report.findings import MOST, findings
from raygen.report.health_checks import health
from raygen.report.page import render_page
from raygen.results import Results
from report.journals import close, end, finals, replicate, report, suggest

Make = Callable[..., Results]


def trials(states: list[str], value: float = 5.0, sd: float | None = None) -> list[Any]:
    records: list[Any] = []
    for trial, state in enumerate(states):
        measured = report(trial, 16, value + trial)
        if sd is not None:
            measured["sd"] = {"fd_classifier": sd}
        records += [*suggest(trial, {"width": 20 + trial}), measured, end(trial, state)]
    return [*records, close()]


def state(study: Results, name: str) -> str:
    return next(check.state for check in health(study) if check.name == name)


@pytest.mark.parametrize(
    ("states", "name", "expected"),
    [
        (["completed"] * 4, "Failures", "pass"),
        (["completed"] * 4, "Collapse", "pass"),
        (["completed", "failed"], "Failures", "warn"),
        (["completed", "diverged"], "Collapse", "warn"),
        (["completed"] * 19 + ["lost"], "Failures", "pass"),
        (["completed"] * 4, "Still improving", "open"),
        (["completed"] * 12, "Still improving", "pass"),
        (["completed", "stopped"], "Rung correlation", "open"),
    ],
)
def test_a_check_says_what_the_trials_say(
    make_study: Make, states: list[str], name: str, expected: str
) -> None:
    assert state(make_study(trials(states)), name) == expected


def test_a_study_that_is_not_finished_is_not_complete(make_study: Make) -> None:
    assert state(make_study(trials(["completed"])), "Finished") == "pass"
    assert state(make_study(trials(["completed"])[:-1], folder="open"), "Finished") == "warn"


def test_few_samples_for_fid_and_a_runner_up_within_two_errors_are_warnings(
    make_study: Make,
) -> None:
    evaluation = {"samples": 2000}
    near = make_study(trials(["completed"] * 3, sd=0.6), folder="near", evaluation=evaluation)
    far = make_study(trials(["completed"] * 3, sd=0.2), folder="far", evaluation=evaluation)

    assert state(near, "Sample count") == "warn"
    assert state(far, "Sample count") == "pass"
    fid = {"metric": "fid", "direction": "minimize"}
    records = [*suggest(0, {"a": 1}), report(0, 16, 3.0, metric="fid"), end(0)]
    study = make_study(records, folder="fid", objective=fid, evaluation=evaluation)
    assert state(study, "Sample count") == "warn"


def test_finalists_that_diverge_with_other_seeds_are_a_collapse(make_study: Make) -> None:
    records = trials(["completed"] * 2)[:-1]
    study = make_study([*records, finals(0), *replicate(9, 0, None, "diverged")])

    assert state(study, "Collapse") == "warn"


def test_the_verdict_has_three_to_five_findings_with_the_warnings_in_them(
    make_study: Make,
) -> None:
    many = ["completed", "diverged", "failed", "stopped", "completed", "lost"] * 3
    for number, states in enumerate((["completed"], many)):
        study = make_study(trials(states), folder=f"s{number}")
        assert 3 <= len(findings(study)) <= MOST
    assert any("gave no usable result" in finding.text for finding in findings(study))


def test_the_section_counts_its_checks(make_study: Make) -> None:
    study = make_study(trials(["completed", "failed"]))
    html = render_page(study)
    section = html[html.index('id="health"') : html.index('id="best"')]

    assert section.count("</b> PASS") == sum(check.state == "pass" for check in health(study))
    assert section.count("</b> WARN") == sum(check.state == "warn" for check in health(study))
