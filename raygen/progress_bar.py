"""A bar with an estimate for work that takes longer than a moment, on a terminal only.

Long work reports its progress (`ticking`); listeners decide whether it is shown.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from raygen.words import duration

DELAY = 1.0  # seconds before a bar appears: most work is over by then

T = TypeVar("T")
Listener = Callable[[str, int, int], None]  # what is done, how many parts are, of how many
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def ticking(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass on the items, of which there are `total`, and tell of each when it is done with."""
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    listener(what, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        listener(what, done, total)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Let a listener hear of all work that is done inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Bars:
    """Listens to `ticking`; nothing is imported or shown before there is something to show."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.bars: dict[str, Any] = {}
        self.display: Any = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how much of the work is done."""
        now = time.monotonic()
        if done == 0:
            self.began[what] = now
        elif done >= total:
            self._finish(what)
        elif what in self.bars:
            self.display.update(self.bars[what], completed=done)
        elif now - self.began.setdefault(what, now) > DELAY and sys.stderr.isatty():
            self.bars[what] = self._display().add_task(what, total=total, completed=done)

    def close(self) -> None:
        """Take everything away, however far it was."""
        for what in list(self.bars):
            self._finish(what)

    def _finish(self, what: str) -> None:
        self.began.pop(what, None)
        if what in self.bars:
            self.display.remove_task(self.bars.pop(what))
            if not self.bars:
                self.display.stop()
                self.display = None

    def _display(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.text import Text

        class TimeLeft(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(duration(task.time_remaining))

        if self.display is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeLeft(),
            )
            self.display = Progress(*columns, console=Console(stderr=True), transient=True)
            self.display.start()
        return self.display
