"""What is costly to make and follows from its name: decoded pixels, a classifier, its statistics.

Entries are named by the content they follow from, so they are never out of date, and replaced in
one step, so concurrent writers and crashes leave a whole entry or none.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from raygen.errors import RaygenError
from raygen.files import write_bytes
from raygen.home import home


def cache_folder() -> Path:
    """Return `$RAYGEN_CACHE`, or `~/.cache/raygen`; without a home one of this user's in /tmp."""
    given = os.environ.get("RAYGEN_CACHE")
    if given:
        return Path(os.path.expanduser(given))
    folder = home()
    if folder is None:
        return Path(tempfile.gettempdir()) / f"raygen-cache-{os.getuid()}"
    return folder / ".cache" / "raygen"


def cached(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the entry `name`: tensors and plain values, read back or made now.

    A damaged entry, or a cache that cannot be written, costs time and nothing else.
    """
    path = cache_folder() / f"{name}.pt"
    if path.exists():
        # Exception: on a damaged file torch.load raises anything, UnpicklingError to KeyError.
        with contextlib.suppress(Exception):
            return torch.load(path, weights_only=True)
    entry = make()
    with contextlib.suppress(RaygenError):
        replace_file(path, entry)
    return entry


def replace_file(path: Path, content: Any) -> None:
    """Write tensors and plain values to `path` so that a reader sees the old file or the new.

    Raises:
        StorageError: the disk is full; `path` is as it was.
        RaygenError: the folder cannot be written.
    """
    # Through memory: torch's own file writer turns a full disk into an opaque RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer(), flush=True)
