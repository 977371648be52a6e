"""What all commands share: one-line errors with exit codes, and how loud they are.

Only click is imported here, so that `raygen --help` answers at once.
"""

import traceback
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from raygen.errors import RaygenError, did_you_mean

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


def tell(text: str) -> None:
    """Print a line of progress on stderr, unless the command is to be quiet."""
    if not loudness().quiet:
        click.echo(text, err=True)


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
        ctx.meta[LOUDNESS] = said = Loudness(*(mine or other for mine, other in both))
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


class Group(click.Group):
    """Prints a RaygenError as one line and exits with its code; suggests misspelt commands."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(130)
        except RaygenError as error:
            if ctx.meta.get(LOUDNESS, Loudness()).debug:
                traceback.print_exc()
            for line in str(error).splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(error.exit_code)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            hint = did_you_mean(args[0], self.commands)
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)
