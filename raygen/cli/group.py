"""What all commands share: one-line errors with exit codes, and verbosity options."""

import errno
import functools
import inspect
import traceback
from pathlib import Path
from typing import Any

import click

from raygen.errors import RaygenError, did_you_mean
from raygen.terminal import LOUDNESS, Loudness, say

LONGEST = 120  # characters of an argument that a message repeats
# A name that cannot be that of a file: too long, links in a circle, a file where a folder must be.
NO_SUCH_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)


SECTIONS = {
    "Search": ("init", "validate", "tune", "status", "ls"),
    "Understand": ("report", "best", "ablate", "note", "replay"),
    "Use": ("generate", "evaluate", "augment", "audit", "export", "train"),
    "Set up": ("doctor", "cluster", "completion"),
}
SYNONYMS = {
    "search": "tune", "run": "tune", "resume": "tune", "list": "ls", "stop": "status --stop",
    "show": "report", "sample": "generate", "fit": "train",
}  # fmt: skip
EXAMPLES = """  raygen tune quickstart          search: no GPU, no download, minutes
  raygen report                   the page of the newest study
  raygen generate quickstart      draw from its best model"""


class StudyPath(click.Path):
    """A path; the name of a study in runs/; or the URI of one on object storage (downloaded)."""

    def __init__(self, weights: bool = False, exists: bool = False) -> None:
        super().__init__(exists=exists, path_type=Path)
        self.weights = weights

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            from raygen.storage import fetch

            return fetch(value, self.weights)
        from raygen.study_folder import named_study

        path = named_study(Path(value))
        return super().convert(path if self.exists else str(path), param, ctx)


class Command(click.Command):
    """A command with -q, -v and --debug, whose long work shows a bar on a terminal."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # click keeps the lines after a backspace: an example is there to be pasted.
        self.help = inspect.cleandoc(self.help or "").replace("\n\nE.g.:", "\n\n\b\nE.g.:")
        self.params += [
            click.Option(["-q", "--quiet"], is_flag=True, help="Print no progress."),
            click.Option(["-v", "--verbose"], is_flag=True, help="Print more progress."),
            click.Option(["--debug"], is_flag=True, help="Print a traceback with every error."),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; all options that are missing are one mistake."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            values, _, _ = self.make_parser(ctx).parse_args(given)
            missing = [
                f"{'/'.join(param.opts)} {param.make_metavar(ctx)}"
                for param in self.get_params(ctx)
                if param.required and param.name not in values
            ]
            if len(missing) < 2:
                raise
            raise click.UsageError(f"missing: {', '.join(missing)}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run it with a progress bar for long work."""
        chosen = Loudness(*(ctx.params.pop(name) for name in Loudness._fields))
        # Options between the program and the command count as well.
        before = ctx.meta.get(LOUDNESS, Loudness())
        both = zip(chosen, before, strict=True)
        ctx.meta[LOUDNESS] = said = Loudness(*(given or other for given, other in both))
        if said.quiet:
            return super().invoke(ctx)
        from raygen.progress_bar import Bars, heard_by

        bars = Bars()
        try:
            with heard_by(bars):
                return super().invoke(ctx)
        finally:
            bars.close()


command = functools.partial(click.command, cls=Command)


class Subcommands(click.Group):
    """A group whose commands take -q, -v and --debug, and which suggests misspelt ones."""

    command_class = Command
    group_class = type  # groups in it are of this class

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            raise click.UsageError(f"no such command {args[0]!r}{self.hint(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """In the order of use, each with its whole first sentence."""
        self.write_commands("Commands", tuple(self.commands), formatter)

    def write_commands(
        self, title: str, names: tuple[str, ...], formatter: click.HelpFormatter
    ) -> None:
        with formatter.section(title):
            rows = [(name, self.commands[name].get_short_help_str(200)) for name in names]
            formatter.write_dl(rows, col_max=12)

    def hint(self, name: str) -> str:
        """What may have been meant by a name that no command has."""
        return did_you_mean(name, self.commands) or f"; choose from {', '.join(self.commands)}"


class CommandGroup(Subcommands):
    """The program: prints a RaygenError as one line and exits with its code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reject arguments that no file could have as its name."""
        for word in args:
            if "\0" in word:
                raise click.UsageError(
                    f"{word[:LONGEST]!r}: an argument cannot contain a null byte", ctx
                )
            if any("\ud800" <= sign <= "\udfff" for sign in word):
                raise click.UsageError(f"{word[:LONGEST]!r}: an argument must be UTF-8 text", ctx)
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
        if args[:1] == ["help"]:
            args = [*args[1:2], "--help"]
            if args == ["--help"]:
                say(ctx.get_help())
                ctx.exit()
        return super().resolve_command(ctx, args)

    def hint(self, name: str) -> str:
        meant = SYNONYMS.get(name)
        return f"; did you mean {meant}?" if meant else did_you_mean(name, self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            self.write_commands(title, names, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A few commands to begin with."""
        formatter.write(f"\nExamples:\n{EXAMPLES}\n")
