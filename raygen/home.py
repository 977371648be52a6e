"""The user's own places on this machine: a home, which not every process has, and one for Ray."""

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from raygen.errors import ClusterError

# A Unix socket's path holds 107 bytes; this is what Ray adds to its temporary folder.
SOCKET = len("/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.12345")
LONGEST = 107 - SOCKET


def home() -> Path | None:
    """Return the home folder, or None if there is none that can be written."""
    try:
        folder = Path("~").expanduser()
    except RuntimeError:  # HOME is not set, and the system does not know the user
        return None
    return folder if folder.is_absolute() and os.access(folder, os.W_OK | os.X_OK) else None


def token_file() -> Path | None:
    """Return where Ray keeps the token of its clusters; None without a home."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given:
        return Path(os.path.expanduser(given))
    folder = home()
    return None if folder is None else folder / ".ray" / "auth_token"


def has_token() -> bool:
    """Whether Ray would send a token with what it asks of a cluster."""
    path = token_file()
    kept = "RAY_AUTH_TOKEN" in os.environ or (path is not None and path.exists())
    return kept and os.environ.get("RAY_AUTH_MODE") != "disabled"


def protect_token() -> None:
    """Make sure that a token is there, which only the user can read.

    Without a home it is this process's, and its children's.
    """
    if "RAY_AUTH_TOKEN" in os.environ or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    path = token_file()
    if path is None:
        # Not RAY_AUTH_MODE: Ray, which read it as it was imported, sets it as it starts a cluster.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
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
        (folder / "r").mkdir(exist_ok=True)
        return str(folder / "r")
    raise ClusterError(f"no temporary folder for Ray: {'; '.join(tried)}; set RAY_TMPDIR")
