"""Waiting out a storage that does not answer for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

from raygen.errors import ClusterError
from raygen.words import duration

WAIT_SECONDS = 600.0  # below `recovery.hang_minutes`, or a trial that waits would be killed
FIRST, LONGEST = 0.5, 30.0  # seconds between two tries
T = TypeVar("T")
Say = Callable[[str], None]


def patiently(ask: Callable[[], T], seconds: float, say: Say = lambda text: None) -> T:
    """Ask until there is an answer, at growing intervals; say once what is waited for, and its end.

    Raises:
        ClusterError: there was none for so many seconds.
    """
    began, wait, waited = time.monotonic(), FIRST, False
    while True:
        try:
            answer = ask()
        except ClusterError as error:
            left = began + seconds - time.monotonic()
            if left <= 0:
                raise
            if not waited:
                say(f"{error}; trying again for {duration(seconds)}")
            waited = True
            time.sleep(min(wait, left))
            wait = min(2 * wait, LONGEST)
        else:
            if waited:
                say(f"the storage answers again after {duration(time.monotonic() - began)}")
            return answer
