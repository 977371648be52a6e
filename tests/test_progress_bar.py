"""Long work tells how far it is, to whoever listens, and is not changed by it."""

import sys

import pytest

from raygen import progress_bar
from raygen.progress_bar import Bars, heard_by, ticking


def test_a_listener_hears_of_every_part_and_of_no_work_outside() -> None:
    heard: list[tuple[str, int, int]] = []
    with heard_by(lambda *told: heard.append(told)):
        assert list(ticking("abc", "reading", 3)) == ["a", "b", "c"]
    assert list(ticking("abc", "reading", 3)) == ["a", "b", "c"]

    assert heard == [("reading", done, 3) for done in range(4)]


def test_a_part_counts_once_it_is_done_with() -> None:
    heard: list[int] = []
    with heard_by(lambda what, done, total: heard.append(done)):
        for _ in ticking(range(2), "work", 2):
            heard.append(-1)

    assert heard == [0, -1, 1, -1, 2]


def test_a_bar_comes_after_a_moment_on_a_terminal_only_and_goes_when_the_work_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: clock[0])
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        shown = Bars()
        shown("work", 0, 100)
        shown("work", 1, 100)
        assert not shown.bars
        clock[0] += progress_bar.DELAY + 0.1
        shown("work", 2, 100)
        assert bool(shown.bars) == terminal
        shown("work", 100, 100)
        assert not shown.bars
        assert shown.display is None
