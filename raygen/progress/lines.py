"""A search on the terminal: a live table, and above it (or instead of it) one line per change.

All on stderr. Without a terminal, a line of counts is printed every few seconds instead.
"""

import time
from importlib.util import find_spec
from typing import Literal

from rich.console import Console
from rich.live import Live

from raygen.config import Study
from raygen.journal.records import (
    Close,
    End,
    Final,
    Finals,
    Open,
    Record,
    Reopen,
    Report,
    Retry,
    Round,
)
from raygen.notices import Earlier, Notice, Phase
from raygen.progress.board import Board
from raygen.progress.live import counts, left, live_table
from raygen.untrusted import visible
from raygen.words import counted, duration, kimg_text

EVERY = 10.0  # seconds between two lines of counts
Loudness = Literal["quiet", "normal", "verbose"]  # verbose: every milestone and every end


class StudyProgress:
    """Shows journal records as they are written; leaving the context removes the table."""

    def __init__(self, study: Study, loudness: Loudness = "normal") -> None:
        quiet = loudness == "quiet"
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.verbose = loudness == "verbose"
        self.began = self.counted = time.monotonic()
        self.board = Board(study, self.began)
        self.live: Live | None = None

    def __enter__(self) -> "StudyProgress":
        return self

    def __exit__(self, *ended: object) -> None:
        self._hide()

    def __call__(self, record: Record | Notice) -> None:
        """Show one journal record, or a notice that is only for the terminal."""
        now = time.monotonic()
        if isinstance(record, Earlier):
            self.board.recall(record.records, now)
            trials = self.board.spec.budget.trials
            self._say(f"resuming: {self.board.ended} of {trials} trials have ended", "dim")
            return
        news = self.board.hear(record, now)
        match record:
            case Phase():
                self._say(record.text, "dim")
            case Open() | Reopen():
                spec = self.board.spec
                rungs = ", ".join(map(kimg_text, spec.rungs))
                self._say(f"{counted(spec.budget.trials, 'trial')}, rungs at {rungs} kimg", "dim")
                self._show()
            case Finals():
                numbers = ", ".join(str(number) for number in record.trials)
                which = "trial" if len(record.trials) == 1 else "trials"
                self._say(f"retraining the finalists with new seeds: {which} {numbers}", "bold")
            case Round():
                self._race(record)
            case Final():
                from raygen.status import measured  # and with it pandas

                self._say(f"trial {record.trial:>3}  in full: {measured(record.values)}", "bold")
            case Report():
                replicate = self.board.trials[record.trial].of is not None
                if not replicate and (news or self.verbose):
                    self._milestone(record, news)
            case Retry():
                text = f"lost, retrying in {duration(record.wait)}: {record.reason}"
                text = f"saved, goes on elsewhere: {record.reason}" if record.moved else text
                self._say(f"trial {record.trial:>3}  {text}", "yellow")
            case End():
                self._end(record)
            case Close():
                self._close()
            case _:
                pass  # the other records follow from these or are only for the report
        if self.live is None and now - self.counted > EVERY and self.board.running:
            self.counted = now
            best, estimate = self.board.best(), left(self.board)
            parts = [counts(self.board)]
            if best:
                parts.append(f"best {best[1]:.5g} by trial {best[0]}{self.board.provisional}")
            if estimate:
                parts.append(estimate)
            self._say("; ".join(parts), "dim")

    def _show(self) -> None:
        if shows_tables(self.console) and not self.console.quiet and self.live is None:
            self.live = Live(
                get_renderable=lambda: live_table(self.board),
                console=self.console,
                refresh_per_second=4,
                transient=True,
            )
            self.live.start()

    def _hide(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _milestone(self, record: Report, news: bool) -> None:
        line = milestone_line(record.kimg, record.metrics, record.images_per_second, record.seconds)
        mark = "★" if news else " "  # the best at this rung; the last line says the best of all
        self._say(f"{mark} trial {record.trial:>3}  {line}", "green" if news else "")

    def _race(self, record: Round) -> None:
        shares = [
            f"trial {number} {_value(mean)} (best with {_share(record.best.get(number))})"
            for number, mean in record.means.items()
        ]
        self._say(f"after {counted(record.seeds, 'new seed')}: {', '.join(shares)}", "bold")

    def _end(self, record: End) -> None:
        number, state = record.trial, record.state
        troubled = state in ("failed", "lost", "out_of_memory", "diverged")
        if not (self.verbose or troubled):
            return
        finalist = self.board.trials[number].of
        if finalist is not None:
            self._say(f"trial {number:>3}  {state}, replicate of trial {finalist}", "dim")
        else:
            done = f"{self.board.ended}/{self.board.spec.budget.trials}"
            reason = f": {record.reason}" if record.reason else ""
            style = "red" if troubled else "dim"
            self._say(f"trial {number:>3}  {state} [{done}]{reason}", style)

    def _close(self) -> None:
        self._hide()
        if self.board.states:
            self._say(f"trials: {counts(self.board)}", "dim")
        best = self.board.best()
        if best is not None:
            over = " over new seeds" if self.board.means else ""
            text = f"best {self.board.metric} {best[1]:.5g}{over} by trial {best[0]}"
            if self.board.drew_one_image(self.board.trials[best[0]]):
                text += "; it draws one image: do not use it"
            self._say(text, "bold")

    def _say(self, text: str, style: str) -> None:
        line = f"{duration(time.monotonic() - self.began):>11}  {visible(text)}"
        self.console.print(line, style=style, markup=False, emoji=False)


def shows_tables(console: Console) -> bool:
    """Whether a table can be redrawn: on a terminal, or in a notebook that has widgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def milestone_line(
    kimg: float, metrics: dict[str, float | None], speed: float | None, seconds: float
) -> str:
    """Return one milestone in words; no speed where no step led to it, or none is recorded."""
    values = [f"{name} {_value(value)}" for name, value in metrics.items()]
    values += [f"{speed:.0f} img/s"] if speed else []
    return f"{kimg_text(kimg):>6} kimg  {'  '.join(values)}  {duration(seconds)}"


def _value(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.5g}"


def _share(value: float | None) -> str:
    return "unknown probability" if value is None else f"{value:.0%}"
