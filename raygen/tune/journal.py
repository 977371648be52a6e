"""The append-only log of a study: everything else is a function of it."""

import fcntl
import json
import math
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from raygen.errors import RaygenError


class Journal:
    """One writer, one JSON object a line, on the disk before its effect.

    The lock belongs to the open file, so it dies with its process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        """Open for appending.

        Raises:
            RaygenError: another process is writing this study.
        """
        self.path = path
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise RaygenError(f"{path}: another raygen is running this study") from error

    def append(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Write one record and wait until it is on the disk; return it.

        Raises:
            RaygenError: the disk is full.
        """
        record = {"kind": kind, "time": time.time(), **fields}
        line = json.dumps(_plain(record), separators=(",", ":"), allow_nan=False) + "\n"
        try:
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RaygenError(f"{self.path}: cannot be written: {error.strerror}") from error
        return record

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _plain(value: Any) -> Any:
    """Replace what JSON cannot say: a float that is not finite becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inside) for inside in value]
    return value
