"""What a signal does while native code runs that no exception may leave half made."""

import subprocess
import sys

import pytest

INSIDE = """
import os, signal
from raygen.interrupts import Interrupts, quitting_on_signals
with Interrupts():
    try:
        with quitting_on_signals():
            os.kill(os.getpid(), signal.{name})
            sum(range(1000))
    finally:
        print("unwound")
"""
AFTER = """
import os, signal
from raygen.interrupts import Interrupted, Interrupts, quitting_on_signals
with Interrupts():
    with quitting_on_signals():
        pass
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Interrupted as error:
        print(error)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_inside_ends_the_process_with_its_own_code_and_unwinds_nothing(
    name: str, code: int
) -> None:
    done = run(INSIDE.format(name=name))

    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.strip() == f"{name}: stopped before the search started"


def test_afterwards_a_signal_is_an_exception_again() -> None:
    assert run(AFTER).stdout == "SIGTERM\n"
