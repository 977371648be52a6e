"""One command, in this process, under limits: what it answered, and what is wrong with that."""

import re
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from click.testing import CliRunner

from raygen.cli import main
from raygen.errors import RaygenError

HANG = 20  # seconds
MEMORY = 1 << 30  # bytes by which a command may grow
SPACE = 6 << 30  # of address space: before the machine suffers
ANYWHERE = "."  # the place of what was wrong with an argument
LONGEST = 2000  # characters of one line of an error


class Hang(BaseException):
    """Raised in what does not come to its end; no `except Exception` catches it."""


class Answer(NamedTuple):
    """What a command said and did."""

    code: int
    output: str
    problem: str  # "" if none, else what went wrong: traceback, hang, memory
    detail: str
    seconds: float


def command(arguments: Sequence[str]) -> Answer:
    """Run `raygen ARGUMENTS`."""

    def run() -> tuple[int, str, BaseException | None]:
        result = CliRunner().invoke(main, list(arguments))
        return result.exit_code, result.output, result.exception

    return _limited(run)


def call(function: Callable[[], Any]) -> Answer:
    """Run a function that may raise a RaygenError, as a command would."""

    def run() -> tuple[int, str, BaseException | None]:
        try:
            function()
        except RaygenError as error:
            return error.exit_code, "".join(f"error: {x}\n" for x in str(error).splitlines()), None
        except Exception as error:
            return 1, "", error
        return 0, "", None

    return _limited(run)


def unplaced(answer: Answer, place: str) -> list[str]:
    """The lines of an error that do not begin with the place, a pattern, or are too long to read.

    With exit code 2 there is at least one line.
    """
    if answer.code != 2:
        return []
    lines = [line for line in answer.output.splitlines() if line.lower().startswith("error:")]
    if not lines:
        return ["(no line that says what is wrong)"]
    pattern = re.compile(rf"error: {place}", re.IGNORECASE)
    most = LONGEST if place != ANYWHERE else 10**6  # click repeats an argument in full
    return [line for line in lines if not pattern.match(line) or len(line) > most]


def _limited(run: Callable[[], tuple[int, str, BaseException | None]]) -> Answer:
    before, began = _reset_peak(), time.monotonic()
    problem = detail = output = ""
    code = 1
    try:
        with _limits():
            code, output, error = run()
        if error is not None and not isinstance(error, SystemExit):
            problem, detail = "traceback", f"{type(error).__name__}: {error}"[:300]
        elif "Traceback (most recent call last)" in output:
            problem, detail = "traceback", output[-300:]
    except Hang:
        problem = "hang"
    seconds = time.monotonic() - began
    grown = _status("VmHWM") - before
    if not problem and grown > MEMORY:
        problem, detail = "memory", f"{grown / 1e9:.1f} GB"
    return Answer(code, output, problem, detail, seconds)


@contextmanager
def _limits() -> Iterator[None]:
    """An alarm, and a bound on the address space."""

    def ring(number: int, frame: Any) -> None:
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + SPACE, hard))
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _reset_peak() -> int:
    """Let the peak of this process's memory be what it has now; return that, in bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmHWM")


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
