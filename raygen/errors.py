"""What a user can fix, as one line and one exit code.

RaygenError            1  failed
├── InputError         2  usage, configuration or data
└── ClusterError       4  cluster, storage or authentication unreachable
    └── StorageError   4  what must be written cannot be: a full disk, a folder without rights
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class RaygenError(Exception):
    """Something went wrong that its one-line message explains."""

    exit_code = 1


class InputError(RaygenError):
    """A file, a setting or a data set is not what it must be."""

    exit_code = 2


class ClusterError(RaygenError):
    """The cluster or the storage cannot be reached."""

    exit_code = 4


class StorageError(ClusterError):
    """A file cannot be written; what was there before is intact."""


# The disk is full, over its quota, too small for the file, read-only or broken: as for any file.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def cannot_write(path: Path, error: OSError) -> RaygenError:
    """Return what to raise from an OSError: a StorageError if no other file could be written."""
    kind = StorageError if error.errno in DISK else RaygenError
    return kind(f"{path}: could not be written: {error.strerror}")


def refuse(mistakes: Iterable[str]) -> None:
    """Raise an InputError with a line for each mistake, if there are any."""
    if lines := list(mistakes):
        raise InputError("\n".join(lines))


def first_line(error: BaseException) -> str:
    """What an error of a library says, without what it adds in further lines."""
    return str(error).strip().partition("\n")[0]


def our_bug(error: BaseException) -> str:
    """What a user sees of an unexpected exception, where work continues without it."""
    return f"{type(error).__name__}: {str(error)[:300]} (please report this)"


def nearest(word: str, names: Iterable[str]) -> str:
    """The known word that is nearest, in capitals or not; "" if none is near."""
    known = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), known, n=1)
    return known[near[0]] if near else ""


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known word, or "" if none is near."""
    near = nearest(word, names)
    return f"; did you mean {near!r}?" if near else ""
