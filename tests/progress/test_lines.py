from pathlib import Path
from typing import Any

import pytest

from raygen.config import Study, load_study
from raygen.errors import InputError
from raygen.progress import StudyProgress, parse_duration, plan
from raygen.progress.lines import EVERY, Loudness


@pytest.fixture
def study(repository: Path) -> Study:
    return load_study(repository / "search_spaces" / "quickstart.yaml")


def report(trial: int, value: float | None) -> dict[str, Any]:
    return {
        "kind": "report", "trial": trial, "kimg": 2.0, "seconds": 3.0,
        "images_per_second": 500.0, "metrics": {"fd_classifier": value}, "losses": {},
    }  # fmt: skip


def end(trial: int, state: str) -> dict[str, Any]:
    return {"kind": "end", "trial": trial, "state": state, "reason": "because"}


def shown(
    study: Study,
    records: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    loudness: Loudness = "verbose",
) -> str:
    with StudyProgress(study, loudness) as progress:
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
    text = plan(study, Path("runs/x"), "2 on this machine")

    assert "at most    180 kimg" in text
    assert "at once    2 on this machine" in text


def test_without_a_wish_for_more_only_news_and_trouble_are_told(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [report(0, 30.0), end(0, "stopped"), report(1, 45.0), end(1, "completed")]
    records += [end(2, "failed"), report(3, 29.0)]

    lines = shown(study, records, capsys, "normal").splitlines()

    assert [line.split()[:3] for line in lines] == [["0:00", "trial", n] for n in "023"]


def test_quiet_is_quiet(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    records = [report(0, 30.0), end(0, "failed"), {"kind": "close"}]

    assert shown(study, records, capsys, "quiet") == ""


def test_without_a_terminal_a_line_of_counts_comes_every_few_seconds(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("raygen.progress.lines.time.monotonic", lambda: clock[0])
    with StudyProgress(study) as progress:
        progress(report(0, 30.0))
        progress(end(0, "completed"))
        progress({"kind": "suggest", "trial": 1, "config": {}})
        progress({"kind": "start", "trial": 1, "kimg": 0.0})
        capsys.readouterr()
        seen = []
        for _ in range(100):  # a sign of life a second
            clock[0] += 1
            progress({"kind": "alive", "trial": 1, "images": 10})
            seen.append(capsys.readouterr().err)

    lines = [text for text in seen if text]
    assert len(lines) == 100 // (EVERY + 1)
    assert "1/10 ended: 1 completed; 1 running; best 30 by trial 0" in lines[0]
    # One of ten trials took 11 seconds so far, so nine more take 99.
    assert "about 99s left by trend" in lines[0]


def test_going_on_knows_what_an_earlier_session_found(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = [report(0, 30.0), end(0, "completed"), report(1, 50.0), end(1, "interrupted")]

    text = shown(study, [{"kind": "earlier", "records": earlier}, report(2, 40.0)], capsys)

    assert "going on: 1 of 10 trials have ended" in text
    assert "best so far" not in text
    assert len(text.splitlines()) == 2


def test_the_race_of_the_finalists_decides_the_last_line(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    race = {"kind": "race", "seeds": 2, "means": {"0": 45.0, "1": 41.5}, "settled": True}
    repeat = {"kind": "suggest", "trial": 2, "of": 1, "config": {}}
    records = [report(0, 40.0), end(0, "completed"), report(1, 41.0), end(1, "completed")]
    records += [{"kind": "finals", "trials": [0, 1]}, repeat, report(2, 1.0), end(2, "completed")]

    text = shown(
        study, [*records, {**race, "best": {"0": 0.1, "1": 0.9}}, {"kind": "close"}], capsys
    )

    assert "finalists, again with other seeds: trials 0, 1" in text
    assert "trial   2  completed, again trial 1" in text
    assert "trial 1 41.5 (best with 90%)" in text
    assert text.splitlines()[-1].endswith("best fd_classifier 41.5 over its new seeds by trial 1")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("1h30m", 5400), ("0.5h", 1800), ("2d", 172800)],
)
def test_a_duration_is_a_number_and_a_unit_or_several(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "8 h", "h", "-1h", "1h x"])
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(InputError, match=r"is not a time such as 90s, 45m, 1h30m, 8h or 2d"):
        parse_duration(text)
