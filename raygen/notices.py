"""What a search tells its terminal and nobody else: it is in no journal."""

from collections.abc import Callable
from typing import NamedTuple

from raygen.journal.records import Record


class Phase(NamedTuple):
    """What the search is doing."""

    text: str


class Machines(NamedTuple):
    """What it runs on."""

    text: str


class Earlier(NamedTuple):
    """What earlier sessions wrote, before this one goes on."""

    records: list[Record]


class Alive(NamedTuple):
    """A sign of life: how many images a trial has seen."""

    trial: int
    images: int


Notice = Phase | Machines | Earlier | Alive
Notify = Callable[[Record | Notice], None]  # what a search tells whoever shows it
