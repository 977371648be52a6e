"""SIGINT, SIGTERM, SIGHUP (a closed terminal) and SIGUSR1 (Slurm: the job's time is almost over),
from a command's first second to its last.

The first stops a search gracefully: its trials save, its page is made. Before there is a search to
stop, it is an exception. The second quits immediately; nothing that was reported is lost, since the
journal is on disk.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


_unwinding_aborts = threading.Event()  # set while an exception would end in an abort


@contextmanager
def quitting_on_signals() -> Iterator[None]:
    """End this process at the first signal inside, instead of raising Interrupted.

    For native code that an exception from a signal handler leaves half made: taken down so, Ray's
    core aborts (std::terminate), and the exit code would be SIGABRT's.
    """
    _unwinding_aborts.set()
    try:
        yield
    finally:
        _unwinding_aborts.clear()


class Interrupted(BaseException):
    """A signal came while there was no search to end; the exit code says which."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


class Interrupts:
    """Handles the signals of this process; leaving the context restores the old handlers."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._end: Callable[[str], None] | None = None
        self._before: dict[int, Any] = {}

    @contextmanager
    def ended_by(self, end: Callable[[str], None]) -> Iterator[None]:
        """Call `end` with the name of the first signal inside, instead of raising Interrupted."""
        self._end = end
        try:
            yield
        finally:
            self._end = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # nohup: who started this wants a closed terminal to be ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *ended: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is not None:
            _say(f"{name} again: quitting now")
            os._exit(128 + number)
        self.received = number
        if self._end is None:
            if _unwinding_aborts.is_set():
                _say(f"{name}: stopped before the search started")
                os._exit(128 + number)
            raise Interrupted(number)
        _say(f"{name}: saving and stopping; again to quit now")
        self._end(name)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be what is gone
        os.write(2, f"\n{text}\n".encode())
