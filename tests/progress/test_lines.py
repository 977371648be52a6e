import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from raygen.config import Study
from raygen.config_file import load_space
from raygen.errors import InputError
from raygen.journal.records import (
    Close,
    End,
    Finals,
    Record,
    Report,
    Round,
    Start,
    Suggest,
)
from raygen.notices import Alive, Earlier, Notice
from raygen.progress import StudyProgress, plan_text
from raygen.progress.lines import EVERY, Loudness, milestone_line, shows_tables
from raygen.words import parse_duration


@pytest.fixture
def study(repository: Path) -> Study:
    return load_space(repository / "search_spaces" / "quickstart.yaml")


CLOSE = Close(state="finished", seconds=1.0)


def report(trial: int, value: float | None) -> Report:
    return Report(
        trial=trial, kimg=2.0, seconds=3.0, images_per_second=500.0,
        metrics={"fd_classifier": value}, protocols={"fd_classifier": "a"},
    )  # fmt: skip


def end(trial: int, state: str) -> End:
    return End(trial=trial, state=state, reason="because")


def suggest(trial: int, of: int | None = None) -> Suggest:
    return Suggest(trial=trial, config={}, params={}, seed=trial, of=of)


def whole(records: Sequence[Record | Notice]) -> list[Record | Notice]:
    """The records, each trial suggested before it reports or ends."""
    told: list[Record | Notice] = []
    known: set[int] = set()
    for record in records:
        if isinstance(record, Earlier):
            told.append(
                Earlier([each for each in whole(record.records) if isinstance(each, Record)])
            )
            known |= {each.trial for each in record.records if isinstance(each, Report | End)}
            continue
        if isinstance(record, Suggest):
            known.add(record.trial)
        elif isinstance(record, Report | End) and record.trial not in known:
            known.add(record.trial)
            told.append(suggest(record.trial))
        told.append(record)
    return told


def shown(
    study: Study,
    records: Sequence[Record | Notice],
    capsys: pytest.CaptureFixture[str],
    loudness: Loudness = "verbose",
) -> str:
    with StudyProgress(study, loudness) as progress:
        for record in whole(records):
            progress(record)
    captured = capsys.readouterr()
    assert captured.out == ""  # stdout is for the result
    return captured.err


def test_each_new_best_is_marked_and_nothing_else(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [50.0, 60.0, None, 40.0, 40.0, 39.0]

    text = shown(study, [report(n, value) for n, value in enumerate(values)], capsys)

    marked = ["★" in line for line in text.splitlines()]
    assert marked == [True, False, False, True, False, True]


def test_the_last_line_names_the_best_completed_trial_as_the_report_does(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [report(0, 30.0), end(0, "stopped"), report(1, 45.0), end(1, "completed")]

    text = shown(study, [*records, CLOSE], capsys)

    assert text.splitlines()[-1].endswith("best fd_classifier 45 by trial 1")


def test_the_best_is_provisional_but_named_when_nothing_has_completed(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(study, [report(3, 30.0), end(3, "interrupted"), CLOSE], capsys)

    assert text.splitlines()[-1].endswith("best fd_classifier 30 by trial 3")


def test_markup_in_a_reason_is_shown_as_it_is(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    record = replace(end(0, "failed"), reason="[red]KeyError[/red]")

    assert "[red]KeyError[/red]" in shown(study, [record], capsys)


@pytest.mark.parametrize("speed", [None, 0.0])
def test_a_milestone_without_a_speed_says_nothing_of_one(speed: float | None) -> None:
    line = milestone_line(2.0, {"fd_classifier": 9.0}, speed, 3.0)

    assert line == "     2 kimg  fd_classifier 9  3.0 s"
    assert milestone_line(2.0, {"fd_classifier": 9.0}, 500.4, 3.0).endswith("9  500 img/s  3.0 s")


def test_the_plan_bounds_the_cost_by_trials_times_budget(study: Study) -> None:
    text = plan_text(study, Path("runs/x"), "2 on this machine")

    assert "at most    180 kimg" in text
    assert "at once    2 on this machine" in text


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (("resources.workers={min: 1, max: 7}", "space.batch_size=64"),
         "each trial 1, 2 or 4 workers (those of 1 to 7 that divide the batch) x 1 CPU, 0 GPU"),
        (("resources.workers={min: 1, max: 2}",), "each trial 1 or 2 workers x 1 CPU, 0 GPU"),
        (("resources={gpus: 1, prices: {T4: 0.5, CPU: 0.1}}",), "each trial 1 worker x 1 CPU, "
         "1 GPU of any kind; prices are known of T4 ($0.5 per hour)"),
        (("resources={gpus: 1, accelerator: T4, prices: {T4: 0.5, L4: 0.7}}",),
         "note       not used: the prices of L4, which resources.accelerator does not name"),
        (("resources.prices={T4: 0.5, CPU: 0.1}",),
         "note       not used: the prices of T4, since trials without a GPU cost the price of CPU"),
        (("space={batch_size: {int: [4, 8], log: true}}", "start=[]"),
         "  batch_size: int from 4 to 8, on a log scale"),
        (("space={augment: {choice: [none, 'color,cutout']}}", "start=[]"),
         '  augment: one of none, "color,cutout"'),
        (("space={batch_size: 32}", "start=[]"),
         "searched   nothing: all trials have the same settings, each another seed"),
    ],
)  # fmt: skip
def test_the_plan_says_what_is_possible_and_what_is_used(
    repository: Path, settings: tuple[str, ...], line: str
) -> None:
    changed = load_space(repository / "search_spaces" / "quickstart.yaml", settings)

    assert line in plan_text(changed, Path("runs/x"), "2 on this machine").splitlines()


def test_without_a_wish_for_more_only_news_and_trouble_are_told(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [report(0, 30.0), end(0, "stopped"), report(1, 45.0), end(1, "completed")]
    records += [end(2, "failed"), report(3, 29.0)]

    lines = shown(study, records, capsys, "normal").splitlines()

    told = [line.split()[2:] for line in lines]  # after the time: "0.0 s"
    assert [words[words.index("trial") + 1] for words in told] == ["0", "2", "3"]
    assert [words[0] for words in told] == ["★", "trial", "★"]


def test_quiet_is_quiet(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    records = [report(0, 30.0), end(0, "failed"), CLOSE]

    assert shown(study, records, capsys, "quiet") == ""


def test_without_a_terminal_a_line_of_counts_comes_every_few_seconds(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("raygen.progress.lines.time.monotonic", lambda: clock[0])
    with StudyProgress(study) as progress:
        for record in (suggest(0), report(0, 30.0), end(0, "completed"), suggest(1)):
            progress(record)
        progress(Start(trial=1, node="n"))
        capsys.readouterr()
        seen = []
        for _ in range(100):  # a sign of life a second
            clock[0] += 1
            progress(Alive(1, 10))
            seen.append(capsys.readouterr().err)

    lines = [text for text in seen if text]
    assert len(lines) == 100 // (EVERY + 1)
    assert "1/10 ended: 1 completed; 1 running; best 30 by trial 0" in lines[0]
    # One of ten trials took 11 seconds so far, so nine more take 99; then the finalists.
    assert "left" in lines[0]


def test_going_on_knows_what_an_earlier_session_found(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier: list[Record] = [
        report(0, 30.0),
        end(0, "completed"),
        report(1, 50.0),
        end(1, "interrupted"),
    ]

    text = shown(study, [Earlier(earlier), report(2, 40.0)], capsys)

    assert "resuming: 1 of 10 trials have ended" in text
    assert "★" not in text
    assert len(text.splitlines()) == 2


def test_the_race_of_the_finalists_decides_the_last_line(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    means, best = {0: 45.0, 1: 41.5}, {0: 0.1, 1: 0.9}
    race = Round(seeds=2, means=means, best=best, dropped=[], settled=True)
    records = [report(0, 40.0), end(0, "completed"), report(1, 41.0), end(1, "completed")]
    records += [Finals(trials=[0, 1]), suggest(2, of=1), report(2, 1.0), end(2, "completed")]

    text = shown(study, [*records, race, CLOSE], capsys)

    assert "retraining the finalists with new seeds: trials 0, 1" in text
    assert "trial   2  completed, replicate of trial 1" in text
    assert "trial 1 41.5 (best with 90%)" in text
    assert text.splitlines()[-1].endswith("best fd_classifier 41.5 over new seeds by trial 1")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("1h30m", 5400), ("0.5h", 1800), ("2d", 172800)],
)
def test_a_duration_is_a_number_and_a_unit_or_several(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "8 hours", "h", "-1h", "1h x"])
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(InputError, match=r"is not a duration such as 90s, 45m, 1h30m, 8h or 2d"):
        parse_duration(text)


@pytest.mark.parametrize("widgets", [True, False])
def test_a_table_is_redrawn_on_terminals_and_in_notebooks_that_have_widgets(
    monkeypatch: pytest.MonkeyPatch, widgets: bool
) -> None:
    monkeypatch.setattr("raygen.progress.lines.find_spec", lambda name: widgets or None)

    assert shows_tables(Console(force_terminal=True))
    assert shows_tables(Console(force_jupyter=True)) == widgets
    assert not shows_tables(Console(file=io.StringIO()))
