"""The Ray that a search starts for itself: on loopback, behind a token, in a folder of its user's.

By itself Ray listens on every interface, leaves its token readable to everybody, and writes the
environment of its workers to a log under /tmp/ray that everybody can read, too.
"""

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import ray._private.utils
import ray._private.worker
from ray._private import ray_constants
from ray.tune.execution import class_cache

from raygen.errors import ClusterError
from raygen.home import home, token_file

# A Unix socket's path holds 107 bytes; this is what Ray adds to its temporary folder.
SOCKET = len("/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.12345")
LONGEST = 107 - SOCKET

# Ray Tune puts these into the runtime environment of its actors, which is logged. Processes of this
# machine inherit them, and those of others are sent them with the study (raygen.storage).
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
)


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


def protect_token() -> None:
    """Make sure that a token is there, which only the user can read.

    Without a home it is this process's, and its children's.
    """
    if "RAY_AUTH_TOKEN" in os.environ or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    path = token_file()
    if path is None:
        os.environ.update(RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_AUTH_MODE="token")
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        if path.stat().st_uid == os.getuid():
            path.chmod(0o600)
    except OSError as error:
        raise ClusterError(f"{path}: Ray's token cannot be kept there: {error.strerror}") from error


def temporary_folder() -> str | None:
    """Return a folder for Ray's sockets and logs that only the user can enter.

    None where RAY_TMPDIR names one.

    Raises:
        ClusterError: no temporary folder is short enough for a socket and can be written.
    """
    if "RAY_TMPDIR" in os.environ:
        return None
    tried = []
    for place in dict.fromkeys((tempfile.gettempdir(), "/tmp", str(home() or "/tmp"))):
        folder = Path(place) / f"raygen-{os.getuid()}"
        if len(os.fsencode(folder)) > LONGEST:
            tried.append(f"{place} is too long for a socket ({LONGEST} bytes)")
            continue
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            facts = folder.lstat()
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
                tried.append(f"{folder} is another user's")
                continue
            folder.chmod(0o700)
        except OSError as error:
            tried.append(f"{folder}: {error.strerror}")
            continue
        # Below it, because Ray lets everybody into its own folder.
        return str(folder / "r")
    raise ClusterError(f"no temporary folder for Ray: {'; '.join(tried)}; set RAY_TMPDIR")
