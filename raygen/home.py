"""The home folder of the user, which not every process has: containers run as unknown users."""

import os
from pathlib import Path


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
