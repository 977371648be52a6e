"""What a command prints: its result on stdout, its progress on stderr, as loudly as it was asked.

Only click is imported here, so that `raygen --help` answers at once.
"""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, Literal, NamedTuple

import click

from raygen.untrusted import visible

LOUDNESS = "raygen.loudness"


class Loudness(NamedTuple):
    """The options that every command takes."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False

    @property
    def level(self) -> Literal["quiet", "normal", "verbose"]:
        return "quiet" if self.quiet else "verbose" if self.verbose else "normal"


def loudness() -> Loudness:
    """Return the options of the running command."""
    return click.get_current_context().meta.get(LOUDNESS, Loudness())


def say(text: object, err: bool = False) -> None:
    """Print a result, or with `err` a message: as text, whatever a study puts into it."""
    click.echo(visible(str(text)), err=err)


def tell(text: str) -> None:
    """Print a line of progress on stderr, unless the command is to be quiet."""
    if not loudness().quiet:
        say(text, err=True)


class GivenUp(io.TextIOBase):
    """A stream that is given up once it cannot be written.

    A closed pipe, a full disk under a log or a terminal that is gone ends no search.
    """

    def __init__(self, stream: Any) -> None:
        self.stream, self.lost = stream, False

    def write(self, text: str) -> int:
        """Write, or do as if."""
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush, or do as if."""
        self._try(self.stream.flush)

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return not self.lost and self.stream.isatty()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.stream.encoding

    def _try(self, do: Callable[..., Any], *given: str) -> None:
        if self.lost:
            return
        try:
            do(*given)
        except OSError:
            self.lost = True
            # What is buffered would fail again as Python ends, with another exit code.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let no output that cannot be written end what runs inside."""
    with redirect_stdout(GivenUp(sys.stdout)), redirect_stderr(GivenUp(sys.stderr)):
        yield
