"""What init makes of a cluster's surroundings: each thing can be looked at, made and removed."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol


class State(NamedTuple):
    """What is there: nothing, raygen's, the user's own bucket, or somebody else's."""

    status: Literal["absent", "ours", "brought", "foreign"]
    lacks: tuple[str, ...] = ()  # of what exists: what `make` adds or changes
    added: tuple[str, ...] = ()  # by hand, and left as it is

    @property
    def complete(self) -> bool:
        """Whether nothing has to be made."""
        return self.status in ("ours", "brought") and not self.lacks


class Resource(Protocol):
    """One thing in the account. `purpose` is what a plan says of it."""

    kind: str
    name: str
    purpose: str

    def look(self) -> State:
        """Return what is there now."""
        ...

    def make(self) -> None:
        """Make it, or add what it lacks."""
        ...

    def remove(self) -> str:
        """Take it away, and return what was left of it, and why; "" if nothing was."""
        ...


def tags_of(pairs: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return the tags of something, by their keys."""
    return {pair["Key"]: pair["Value"] for pair in pairs}
