"""A callback that does one thing with the events it is asked to hear."""

from abc import abstractmethod
from collections.abc import Sequence

from raygen.callbacks import Callback, Event, Hook


class Notable(Callback):
    """Passes the chosen events on to `send`."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        for hook in hooks:
            setattr(self, f"on_{hook}", self.send)

    @abstractmethod
    def send(self, event: Event) -> None:
        """Do it."""
