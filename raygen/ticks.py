"""Long work says how far it is; whether anybody shows it is decided elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, int, int], None]  # what is done, how many parts are, of how many
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def ticking(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Pass on the items, of which there are `total`, and tell of each when it is done with."""
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    listener(what, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        listener(what, done, total)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Let a listener hear of all work that is done inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
