"""Checkpoints that are written while training goes on."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

Content = dict[str, Any]


class BackgroundWriter:
    """Writes one state at a time in a thread of its own, from a copy of it.

    Copies from a CUDA device are queued behind the steps so far, in pinned memory: neither the
    device nor the host waits. What went wrong is raised by the next call.
    """

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None

    def write(self, content: Content, write: Callable[[Content], None]) -> None:
        """Copy a state now, and call `write` with the copy, later.

        Raises:
            Exception: what the call before raised.
        """
        self.wait()
        copy = _copied(content)
        arrived = _recorded()

        def run() -> None:
            try:
                if arrived is not None:
                    arrived.synchronize()
                write(copy)
            except Exception as error:  # for the thread that trains, which ends the trial by it
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def wait(self) -> None:
        """Return when all is written.

        Raises:
            Exception: what `write` raised.
        """
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if (error := self.error) is not None:
            self.error = None
            raise error

    def abandon(self) -> None:
        """Return when all is written, or could not be: another error is more important."""
        with suppress(Exception):
            self.wait()


def _copied(value: Any) -> Any:
    """The same with every tensor copied to the CPU, without waiting for it to arrive."""
    if isinstance(value, dict):
        return {key: _copied(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        copies = [_copied(inside) for inside in value]
        return type(value)(*copies) if hasattr(value, "_fields") else type(value)(copies)
    if not isinstance(value, Tensor):
        return value
    if value.device.type != "cuda":
        return value.detach().clone()
    return torch.empty_like(value, device="cpu", pin_memory=True).copy_(value, non_blocking=True)


def _recorded() -> torch.cuda.Event | None:
    if not torch.cuda.is_initialized():
        return None
    event = torch.cuda.Event()
    event.record()
    return event
