"""What a worker needs to know of the trial that it is to train."""

from typing import Any, NamedTuple


class Assignment(NamedTuple):
    """A trial to run now."""

    number: int
    config: dict[str, Any]
    seed: int
    reported: float  # kimg that the journal knows already, so that nothing is reported twice
    losses: int = 0  # times it was lost since it last reported
    parent: int | None = None  # whose last checkpoint it begins with, unless it has its own
