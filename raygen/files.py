"""How every file is written: it appears whole or not at all, with a reason if it cannot."""

import json
import math
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from raygen.errors import InputError, cannot_write


@contextmanager
def replacing(path: Path, flush: bool = False) -> Iterator[Path]:
    """Yield an empty file beside `path`, which takes its place when the block has ended well.

    It has the rights of any new file (those of the umask). With `flush` its content is on the disk
    before its name is, so that it survives the machine.

    Raises:
        InputError: `path` is a link, a folder or a device: only a plain file is ever replaced.
        StorageError: the disk is full; `path` is as it was.
        RaygenError: the folder cannot be written.
    """
    check_plain(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Exclusive: a link that somebody put there is not followed.
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield partial
        if flush:
            _flush(partial)
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text in one step.

    Raises:
        InputError, StorageError, RaygenError: as `replacing`.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes | memoryview, flush: bool = False) -> None:
    """Write a file in one step.

    Raises:
        InputError, StorageError, RaygenError: as `replacing`.
    """
    with replacing(path, flush) as partial:
        partial.write_bytes(content)


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result in one step: the same bytes for the same result, no NaN and no infinity.

    Raises:
        InputError, StorageError, RaygenError: as `replacing`.
    """
    write_text(path, json.dumps(json_values(result), indent=1, sort_keys=True) + "\n")


def json_values(value: Any, digits: int | None = None) -> Any:
    """Numpy and nested values as JSON values; nan and infinity become null."""
    if isinstance(value, dict):
        return {str(key): json_values(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(item, digits) for item in value]
    if hasattr(value, "tolist"):  # numpy scalar or array
        return json_values(value.tolist(), digits)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{digits}g}") if digits else value
    return value if isinstance(value, bool | int | str | None) else str(value)


def check_plain(path: Path, option: str = "") -> None:
    """Make sure that a path is that of a plain file or of none; `option` is what named it.

    Raises:
        InputError: it is a link, a folder or a device.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there, or said by what writes it
    if stat.S_ISREG(mode):
        return
    kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device"
    named = f"{option} {path}".strip()
    raise InputError(f"{named}: is {kind}; give a file name")


def check_target(path: Path, option: str, endings: tuple[str, ...] = ()) -> None:
    """Make sure, before long work, that a file can be written; nothing is.

    Raises:
        InputError: it has another ending than asked for, is not a plain file, or its folder cannot
            be made or written.
    """
    if endings and path.suffix.lower() not in endings:
        raise InputError(f"{option} {path}: must end in {' or '.join(endings)}")
    check_plain(path, option)
    named = f"{option} {path}".strip()
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise InputError(f"{named}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{named}: {folder} cannot be written")


class _Tried(Exception):
    """A file could be written, and is not to be kept."""


def try_write(path: Path, text: str) -> None:
    """Make sure, before what cannot be undone, that a text can be written; only its folder is made.

    Raises:
        InputError, StorageError, RaygenError: as `replacing`.
    """
    with suppress(_Tried), replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
        raise _Tried


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
