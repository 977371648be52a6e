"""Results on disk: whole or not at all, and the same bytes for the same result."""

import json
import math
from pathlib import Path
from typing import Any

from raygen.files import write_text


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result; numbers that are not finite become null.

    Raises:
        RaygenError: the folder cannot be written.
    """
    write_text(path, json.dumps(_plain(result), indent=1, sort_keys=True) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
