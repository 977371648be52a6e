"""The board says of a running search what its records say, and the table shows all of it."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from raygen.config import Study
from raygen.config_file import load_space
from raygen.journal.records import End, Record, Report, Retry, Start, Suggest
from raygen.notices import Alive, Machines, Notice
from raygen.progress.board import Board
from raygen.progress.live import ROWS, block_sparkline, counts, left, live_table


@pytest.fixture
def study(repository: Path) -> Study:
    ladder = ["evaluation={samples: 900, first_samples: 400}", "budget.hours=1"]
    return load_space(repository / "search_spaces" / "quickstart.yaml", ladder)


def report(trial: int, kimg: float, value: float | None) -> Report:
    metrics = {"fd_classifier": value}
    protocols = {"fd_classifier": "few" if kimg < 6 else "some" if kimg < 18 else "many"}
    return Report(
        trial=trial, kimg=kimg, seconds=3.0, images_per_second=512.0, metrics=metrics,
        protocols=protocols,
    )  # fmt: skip


def suggest(trial: int, of: int | None = None) -> Suggest:
    config = {"model": {"width": 8}, "optimizer": {"generator_lr": 1e-3}}
    return Suggest(trial=trial, config=config, params={}, seed=trial, of=of)


def start(trial: int) -> Start:
    return Start(trial=trial, node="n")


def begin(trial: int) -> list[Record | Notice]:
    return [suggest(trial), start(trial)]


def end(trial: int, state: str, reason: str = "") -> End:
    return End(trial=trial, state=state, reason=reason)


def told(study: Study, records: Sequence[Record | Notice], seconds: float = 10.0) -> Board:
    board = Board(study, now=0.0)
    for place, record in enumerate(records, start=1):
        board.hear(record, seconds * place / len(records))
    return board


def drawn(board: Board, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, height=24, color_system=None)
    console.print(live_table(board))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_value_from_fewer_samples_never_beats_one_from_more(study: Study) -> None:
    """At 2 kimg there are 400 samples, at 18 there are 900."""
    board = told(study, [*begin(0), report(0, 18, 50.0), *begin(1)])

    assert board.hear(report(1, 2, 10.0), 11.0) is False
    assert board.best() == (0, 50.0)
    assert board.hear(report(1, 18, 40.0), 12.0) is True
    assert board.best() == (1, 40.0)
    assert board.trend == [50.0, 40.0]


def test_what_is_left_is_the_pace_so_far_times_the_trials_that_are_missing(study: Study) -> None:
    records = [*begin(0), end(0, "completed"), *begin(1), end(1, "stopped")]
    board = told(study, records, seconds=30)

    assert board.left() == pytest.approx(8 * 30 / 2)
    assert board.budget_left() == pytest.approx(3570)
    assert left(board) == "about 2 min left, 59 min 30 s by budget"


def test_finalists_count_in_what_is_left_at_the_cost_of_a_whole_training(study: Study) -> None:
    """2 finalists with 2 seeds each, two at once, of 3 s each; three trials are missing."""
    records = []
    for trial in range(7):
        records += [*begin(trial), report(trial, 18, 50.0), end(trial, "completed")]
    board = told(study, [*begin(8), *begin(9), *records], seconds=70)
    seeds = study.spec.finalists.count * study.spec.finalists.seeds

    assert board.left() == pytest.approx(3 * 70 / 7 + seeds * 3.0 / board.most_at_once)


def test_trials_of_an_earlier_session_say_nothing_of_the_pace_of_this_one(study: Study) -> None:
    board = Board(study, now=0.0)
    earlier = [suggest(0), start(0), end(0, "completed"), suggest(1), start(1)]
    board.recall([*earlier, end(1, "interrupted")], 0.0)

    assert (board.ended, board.left()) == (1, None)
    board.hear(end(1, "completed"), 20.0)
    assert board.left() == pytest.approx(8 * 20)


def test_signs_of_life_move_a_trial_on_and_never_back(study: Study) -> None:
    board = told(study, begin(0))
    for images, kimg in ((1500, 1.5), (1200, 1.5), (4000, 4.0)):
        board.hear(Alive(0, images), 11.0)
        assert board.running[0].kimg == kimg
    board.hear(Retry(trial=0, reason="gone", attempt=2, wait=1.0, kimg=4.0), 12.0)
    assert board.running == {}


def test_reasons_are_counted_without_their_numbers(study: Study) -> None:
    records = [
        *begin(0), end(0, "diverged", "collapse: the objective rose from 3 to 9"),
        *begin(1), end(1, "diverged", "collapse: samples vary 1% as much"),
        *begin(2), end(2, "completed"), *begin(3),
    ]  # fmt: skip

    assert counts(told(study, records)) == (
        "3/10 ended: 2 diverged, 1 completed (2 collapse); 1 running"
    )


def test_the_table_names_all_that_runs_and_what_leads(study: Study) -> None:
    records = [*begin(0), report(0, 6, 31.5), Machines("2 CPU, 0 GPU")]

    text = drawn(told(study, [*records, suggest(1, of=0), start(1)]))

    assert "best    31.5  trial 0" in text
    assert "optimizer.generator_lr 0.001" in text
    assert "2 CPU, 0 GPU" in text
    row = next(line for line in text.splitlines() if "6/18" in line)
    assert row.split()[:2] == ["0", "2/3"]
    assert "512" in row
    assert "1 (of 0)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_hundred_running_trials_fit_on_the_screen(study: Study) -> None:
    text = drawn(told(study, [record for trial in range(100) for record in begin(trial)]))

    assert len(text.splitlines()) <= 24
    assert f"and {100 - ROWS} more" in text


def test_a_sparkline_is_tallest_at_the_best_in_either_direction() -> None:
    assert block_sparkline([3.0, 2.0, 1.0], minimise=True) == "▁▅█"[0] + "▅█"
    assert block_sparkline([1.0, 2.0, 3.0], minimise=False)[-1] == "█"
    assert block_sparkline([1.0], minimise=True) == ""
    assert set(block_sparkline([2.0, 2.0], minimise=True)) == {"▁"}
