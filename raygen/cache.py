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


def cache_folder() -> Path:
    """Return `$RAYGEN_CACHE`, or `~/.cache/raygen`."""
    return Path(os.environ.get("RAYGEN_CACHE", "~/.cache/raygen")).expanduser()


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
    try:
        replace_file(path, entry)
    except OSError:
        return entry
    return entry


def replace_file(path: Path, content: Any) -> None:
    """Write tensors and plain values to `path` so that a reader sees the old file or the new.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is as it was.
    """
    # Through memory: torch's own file writer turns a full disk into an opaque RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
