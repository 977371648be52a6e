"""The Ray that a search starts for itself: on loopback, behind a token, in a private folder.

By itself Ray listens on every interface, leaves its token readable to everybody, and writes the
environment of its workers to a log under /tmp/ray that everybody can read, too.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import ray._private.utils
import ray._private.worker
from ray._private import ray_constants


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray that is started inside listen on 127.0.0.1 only, as it does on macOS."""
    with patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextmanager
def as_a_library() -> Iterator[None]:
    """Keep Ray from what is its caller's: it would exit on SIGTERM, and print to stdout."""
    with (
        patch.object(ray._private.utils, "set_sigterm_handler", lambda handler: None),
        patch.object(ray._private.worker, "print_to_stdstream", lambda *_, **__: None),
    ):
        yield


def rearm_sigterm() -> None:
    """Let Python hear SIGTERM again, which Ray's core takes as it connects and as it disconnects.

    While connected, its handler (absl's, for crashes) passes the signal on and aborts the process
    3 s later, whatever is being saved; afterwards it leaves the default action, which is to end.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def inside_of(folder: str) -> Iterator[None]:
    """Work in another folder for a while.

    Ray's processes stay where their driver was as it started them, and import from there first: a
    random.py or a raygen/ among the user's files would take the place of the real one.
    """
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
