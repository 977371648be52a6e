"""What the tests of readers share: a path as a search reads it, or the line that refuses it."""

from pathlib import Path
from typing import Any

import pytest

from raygen.data import DataSpec, ImageData, load_data
from raygen.errors import InputError


def load(path: Path, **settings: Any) -> ImageData:
    return load_data(DataSpec(path=str(path), **settings))


def refusal(path: Path, root: Path, **settings: Any) -> str:
    """The one line, its paths beginning below `root`."""
    with pytest.raises(InputError) as caught:
        load(path, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{root}/", "")
