"""What a user can fix, as one line and one exit code.

RaygenError            1  failed
├── InputError         2  usage, configuration or data
└── ClusterError       4  cluster, storage or authentication unreachable
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RaygenError(Exception):
    """Something went wrong that its one-line message explains."""

    exit_code = 1


class InputError(RaygenError):
    """A file, a setting or a data set is not what it must be."""

    exit_code = 2


class ClusterError(RaygenError):
    """The cluster or the storage cannot be reached."""

    exit_code = 4


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known word, or "" if none is near."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
