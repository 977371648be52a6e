"""A search on the terminal: a live table, and above it (or instead of it) one calm line a change.

All on stderr. Without a terminal a line of counts comes every few seconds, and nothing moves.
"""

import re
import time
from typing import Any, Literal

from rich.console import Console
from rich.live import Live

from raygen.config import Study
from raygen.errors import InputError
from raygen.progress.board import Board
from raygen.progress.live import counts, left, live_table
from raygen.untrusted import visible

EVERY = 10.0  # seconds between two lines of counts
Loudness = Literal["quiet", "normal", "verbose"]  # verbose: every milestone and every end


class StudyProgress:
    """Shows journal records as they are written; a context, at whose end the table is gone."""

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

    def __call__(self, record: dict[str, Any]) -> None:
        """Show one journal record, or a phase before there is a journal."""
        now = time.monotonic()
        if record["kind"] == "earlier":
            self.board.recall(record["records"], now)
            trials = self.board.spec.budget.trials
            self._say(f"going on: {self.board.ended} of {trials} trials have ended", "dim")
            return
        news = self.board.hear(record, now)
        repeats = record.get("trial") in self.board.repeats
        match record["kind"]:
            case "phase":
                self._say(record["text"], "dim")
            case "open" | "reopen":
                spec = self.board.spec
                rungs = ", ".join(f"{kimg:g}" for kimg in spec.rungs)
                self._say(f"{spec.budget.trials} trials, rungs at {rungs} kimg", "dim")
                self._show()
            case "finals":
                numbers = ", ".join(str(number) for number in record["trials"])
                self._say(f"finalists, again with other seeds: trials {numbers}", "bold")
            case "race":
                self._race(record)
            case "final":
                from raygen.status import measured  # and with it pandas

                text = measured(record["values"])
                self._say(f"trial {record['trial']:>3}  in full: {text}", "bold")
            case "report" if not repeats and (news or self.verbose):
                self._milestone(record, news)
            case "retry":
                text = f"lost, tried again in {record['wait']:g} s: {record['reason']}"
                self._say(f"trial {record['trial']:>3}  {text}", "yellow")
            case "end":
                self._end(record)
            case "close":
                self._close()
            case _:
                pass  # the other records follow from these, or are for the report
        if self.live is None and now - self.counted > EVERY and self.board.running:
            self.counted = now
            best, estimate = self.board.best(), left(self.board)
            told = f"; best {best[1]:.5g} by trial {best[0]}" if best else ""
            self._say(f"{counts(self.board)}{told}{'; ' * bool(estimate)}{estimate}", "dim")

    def _show(self) -> None:
        if self.console.is_terminal and not self.console.quiet and self.live is None:
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

    def _milestone(self, record: dict[str, Any], news: bool) -> None:
        line = milestone_line(
            record["kimg"], record["metrics"], record["images_per_second"], record["seconds"]
        )
        mark = "  * best so far" if news else ""
        self._say(f"trial {record['trial']:>3}  {line}{mark}", "green" * news)

    def _race(self, record: dict[str, Any]) -> None:
        shares = [
            f"trial {number} {mean:.5g} (best with {_share(record['best'].get(number))})"
            for number, mean in record["means"].items()
        ]
        self._say(f"after {record['seeds']} more seeds: {', '.join(shares)}", "bold")

    def _end(self, record: dict[str, Any]) -> None:
        trial, state = record["trial"], record["state"]
        troubled = state in ("failed", "lost", "out_of_memory")
        if trial in self.board.repeats:
            if self.verbose or troubled:
                again = f"again trial {self.board.repeats[trial]}"
                self._say(f"trial {trial:>3}  {state}, {again}", "dim")
        elif self.verbose or troubled:
            done = f"{self.board.ended}/{self.board.spec.budget.trials}"
            reason = f": {record['reason']}" if record["reason"] else ""
            style = "red" if troubled else "dim"
            self._say(f"trial {trial:>3}  {state} [{done}]{reason}", style)

    def _close(self) -> None:
        self._hide()
        if self.board.states:
            self._say(f"trials {counts(self.board)}", "dim")
        best = self.board.best()
        if best is not None:
            over = " over its new seeds" if self.board.means else ""
            useless = "; it draws one image: do not use it" * (best[0] in self.board.failed)
            text = f"best {self.board.metric} {best[1]:.5g}{over} by trial {best[0]}{useless}"
            self._say(text, "bold")

    def _say(self, text: str, style: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        line = f"{minutes:>3}:{seconds:02d}  {visible(text)}"
        self.console.print(line, style=style, markup=False)


def milestone_line(
    kimg: float, metrics: dict[str, float | None], speed: float, seconds: float
) -> str:
    """Return one milestone in words."""
    values = [
        f"{name} {'not finite' if value is None else f'{value:.5g}'}"
        for name, value in metrics.items()
    ]
    return f"{kimg:>6g} kimg  {'  '.join(values)}  {speed:.0f} img/s  {seconds:.0f} s"


def _share(value: float | None) -> str:
    return "an unknown chance" if value is None else f"{value:.0%}"


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float:
    """Return the seconds in "90s", "45m", "1h30m", "8h" or "2d".

    Raises:
        InputError: it is none of these.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InputError(f"--time {text}: is not a time such as 90s, 45m, 1h30m, 8h or 2d")
    return sum(float(number) * UNITS[unit] for number, unit in parts)
