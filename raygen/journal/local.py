"""The append-only log of a study: everything else is a function of it."""

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from raygen.errors import RaygenError, cannot_write
from raygen.journal.records import Record, as_json, stamped


class Journal:
    """One writer, one JSON object a line, on the disk before its effect.

    The lock belongs to the open file, so it dies with its process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        """Open for appending; what a crash left of a last line is cut off.

        Raises:
            RaygenError: another process is writing this study.
            StorageError: the disk is full.
        """
        self.path, self.locked = path, True
        try:
            self._file = path.open("ab+", buffering=0)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise RaygenError(f"{path}: another raygen is running this study") from error
        except OSError:
            # A file system without locks, such as Lustre mounted without flock. Two searches of one
            # study are then kept apart by their user only; `raygen doctor` says so.
            self.locked = False
        self._time = 0.0  # of the last record: set by what follows
        self._length = self._mend()

    def append(self, record: Record) -> Record:
        """Write a record and wait until it is on the disk; return it with its time.

        Raises:
            StorageError: the disk is full; the journal is as it was.
        """
        written, line = self.line(record)
        self.write(line)
        return written

    def line(self, record: Record) -> tuple[Record, bytes]:
        """Return a record with its time, and the line that holds it."""
        # Never before the record before it, though a clock is set back, or that of the next head
        # is behind: what follows from times, such as durations, then needs no care.
        self._time = max(self._time, time.time())
        written = stamped(record, self._time)
        text = json.dumps(as_json(written), separators=(",", ":"), allow_nan=False)
        return written, text.encode() + b"\n"

    def write(self, line: bytes) -> None:
        """Write a line and wait until it is on the disk.

        Raises:
            StorageError: the disk is full; the journal is as it was.
        """
        try:
            rest = memoryview(line)
            while rest:  # a raw write may take a part only, and say so
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._length)
            raise cannot_write(self.path, error) from error
        self._length += len(line)

    def copy(self, line: bytes) -> None:
        """Write a line of this journal that was first written elsewhere; as `write`."""
        self.write(line)
        self._time = _time_of(line)

    def close(self) -> None:
        """Let another process write."""
        self._file.close()

    def _mend(self) -> int:
        """Finish or cut a last line without an end; return the length of the journal in bytes."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        self._time = _time_of(content[:whole].rstrip(b"\n").rpartition(b"\n")[2])
        if whole == len(content):
            return whole
        try:
            json.loads(content[whole:])
        except (ValueError, RecursionError):
            self._file.truncate(whole)
            return whole
        self._file.write(b"\n")
        self._time = _time_of(content[whole:])
        return len(content) + 1

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()


def _time_of(line: bytes) -> float:
    """When a record was written; 0 of what is none, which whoever reads the journal refuses."""
    try:
        time = json.loads(line)["time"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return 0.0
    return time if isinstance(time, float | int) else 0.0
