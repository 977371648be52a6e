"""raygen: distributed hyperparameter search for image generators."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from raygen.api import Callback, Event, Generator, LoadedStudy, evaluate, load, train, tune

__all__ = ["Callback", "Event", "Generator", "LoadedStudy", "evaluate", "load", "train", "tune"]


def __getattr__(name: str) -> Any:
    """Import what is used of raygen.api: `import raygen` alone loads nothing."""
    if name in __all__:
        from raygen import api

        return getattr(api, name)
    raise AttributeError(f"module 'raygen' has no attribute {name!r}")
