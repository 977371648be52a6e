"""Each callback has a thread and a queue: a dead server may not slow a search, nor end it."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from queue import Empty, Full, Queue
from threading import Thread

from raygen.callbacks import Callback, Event
from raygen.integrations.events import Events
from raygen.journal.records import Record
from raygen.notices import Earlier, Notice
from raygen.plugins import place_of

MOST_WAITING = 10_000  # events, of one callback
MOST_ERRORS = 5  # in a row
USER = re.compile(r"://[^/\s@]+@")  # and password, in an address that an error repeats
PATIENCE = 30.0  # seconds that all callbacks together have after the search


class Dispatcher:
    """Passes the records of a search on to callbacks, as events."""

    def __init__(
        self, events: Events, callbacks: Mapping[str, Callback], tell: Callable[[str], None]
    ) -> None:
        """`callbacks`: by what messages call them; `tell` hears of errors."""
        self.events = events
        self.lines = [_Line(name, callback, tell) for name, callback in callbacks.items()]

    def __call__(self, record: Record | Notice) -> None:
        """Take in a record of the journal, or those of earlier sessions."""
        if isinstance(record, Earlier):
            for earlier in record.records:
                for _ in self.events.of(earlier):
                    pass  # who listened then has heard it
        elif isinstance(record, Record):
            for event in self.events.of(record):
                for line in self.lines:
                    line.put(event)

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until callbacks have heard everything, but not for longer than `patience`."""
        until = time.monotonic() + patience
        for line in self.lines:
            line.end()
        for line in self.lines:
            line.wait(max(0.0, until - time.monotonic()))


class _Line:
    """The queue and the thread of one callback."""

    def __init__(self, name: str, callback: Callback, tell: Callable[[str], None]) -> None:
        self.name, self.callback, self.tell = name, callback, tell
        self.errors: Counter[str] = Counter()  # in a row, by hook
        self.told = False
        self.waiting: Queue[Event | None] = Queue(MOST_WAITING)
        self.dropped = 0
        self.thread = Thread(target=self._run, name=f"raygen-{name}", daemon=True)
        self.thread.start()

    def put(self, event: Event) -> None:
        hook = getattr(self.callback, f"on_{event.hook}")
        if getattr(hook, "__func__", None) is getattr(Callback, f"on_{event.hook}"):
            return  # it does not hear these
        try:
            self.waiting.put_nowait(event)
        except Full:
            self.dropped += 1

    def end(self) -> None:
        """Let it end after what waits; what is in the way of that is dropped."""
        try:
            self.waiting.put_nowait(None)
        except Full:
            self._drop()
            self.waiting.put_nowait(None)

    def wait(self, seconds: float) -> None:
        self.thread.join(seconds)
        busy = self.thread.is_alive()
        lost = self.dropped + (self.waiting.qsize() if busy else 0)
        if busy or lost:
            why = f"still busy after {seconds:.0f} s" if busy else "too slow"
            self.tell(f"callback {self.name}: {why}; {lost} events were not delivered")

    def _drop(self) -> None:
        try:
            while True:
                self.waiting.get_nowait()
                self.dropped += 1
        except Empty:
            return

    def _run(self) -> None:
        while (event := self.waiting.get()) is not None:
            if self.errors[event.hook] >= MOST_ERRORS:
                continue
            try:
                getattr(self.callback, f"on_{event.hook}")(event)
                self.errors[event.hook] = 0
            # Whatever a network or a user's class raises: sys.exit ends its thread, nothing else.
            except BaseException as error:
                self._failed(event.hook, error)

    def _failed(self, hook: str, error: BaseException) -> None:
        """Say the first error; leave out what fails again and again."""
        self.errors[hook] += 1
        if not self.told:
            self.told = True
            text = USER.sub("://…@", place_of(error))
            self.tell(f"callback {self.name}: {text}; the search continues")
        if self.errors[hook] == MOST_ERRORS:
            self.tell(f"callback {self.name}: {MOST_ERRORS} errors in a row; on_{hook} is left out")
