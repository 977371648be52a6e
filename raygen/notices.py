"""Notices of a search that are only for the terminal and not in the journal."""

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
    """What earlier sessions wrote, before this one continues."""

    records: list[Record]


class Alive(NamedTuple):
    """A sign of life: how many images a trial has seen."""

    trial: int
    images: int


Notice = Phase | Machines | Earlier | Alive
Notify = Callable[[Record | Notice], None]  # what a search tells whoever shows it
