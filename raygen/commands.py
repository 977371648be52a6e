"""What all commands share: one-line errors with exit codes, and how loud they are.

Only click is imported here, so that `raygen --help` answers at once.
"""

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from raygen.errors import RaygenError, did_you_mean
from raygen.untrusted import visible

LOUDNESS = "raygen.loudness"
LONGEST = 120  # characters of an argument that a message repeats
# A name that cannot be that of a file: too long, links in a circle, a file where a folder must be.
NO_SUCH_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)


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


class StudyPath(click.Path):
    """A path, or the URI of a study on object storage, which is fetched."""

    def __init__(self, weights: bool = False, exists: bool = False) -> None:
        super().__init__(exists=exists, path_type=Path)
        self.weights = weights

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            from raygen.storage import fetch

            return fetch(value, self.weights)
        return super().convert(value, param, ctx)


class Command(click.Command):
    """A command with -q, -v and --debug, whose long work shows a bar on a terminal."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["-q", "--quiet"], is_flag=True, help="No progress."),
            click.Option(["-v", "--verbose"], is_flag=True, help="More progress."),
            click.Option(["--debug"], is_flag=True, help="Print a traceback with every error."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, its long work heard."""
        chosen = Loudness(*(ctx.params.pop(name) for name in Loudness._fields))
        # Between the name of the program and that of the command counts, too.
        before = ctx.meta.get(LOUDNESS, Loudness())
        both = zip(chosen, before, strict=True)
        ctx.meta[LOUDNESS] = said = Loudness(*(given or other for given, other in both))
        if said.quiet:
            return super().invoke(ctx)
        from raygen.bars import Bars
        from raygen.ticks import heard_by

        bars = Bars()
        try:
            with heard_by(bars):
                return super().invoke(ctx)
        finally:
            bars.close()


class CommandGroup(click.Group):
    """Prints a RaygenError as one line and exits with its code; suggests misspelt commands."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what no file can be called and no file can hold, wherever it stands."""
        for word in args:
            if "\0" in word:
                raise click.UsageError(f"{word[:LONGEST]!r}: an argument has no null byte", ctx)
            if any("\ud800" <= sign <= "\udfff" for sign in word):
                raise click.UsageError(f"{word[:LONGEST]!r}: an argument is UTF-8 text", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)
        except OSError as error:
            if error.errno not in NO_SUCH_PATH or not isinstance(error.filename, str):
                raise
            if ctx.meta.get(LOUDNESS, Loudness()).debug:
                traceback.print_exc()
            name = error.filename
            name = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
            say(f"error: {name}: {error.strerror}", err=True)
            ctx.exit(2)
        except RuntimeError as error:  # what pathlib makes of ELOOP
            if not str(error).startswith("Symlink loop"):
                raise
            say(f"error: {error}", err=True)
            ctx.exit(2)
        except RaygenError as error:
            if ctx.meta.get(LOUDNESS, Loudness()).debug:
                traceback.print_exc()
            for line in str(error).split("\n"):
                say(f"error: {line}", err=True)
            ctx.exit(error.exit_code)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            hint = did_you_mean(args[0], self.commands)
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)
