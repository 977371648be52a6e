"""Data sets of the Hugging Face hub: downloaded once, then read as any folder."""

import re
from importlib.util import find_spec
from pathlib import Path

from raygen.errors import InputError, first_line

HUB = "hf://"
NAME = re.compile(r"hf://(?:datasets/)?(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")


def fetch_dataset(path: str) -> Path:
    """Return the folder of `hf://USER/NAME` or `hf://USER/NAME@REVISION` in the hub's own cache.

    Raises:
        InputError: no such name, the package huggingface_hub is missing, or the hub says no.
    """
    match = NAME.fullmatch(path)
    if match is None:
        raise InputError(f"data.path: {path}: must be hf://USER/NAME, or hf://USER/NAME@REVISION")
    if find_spec("huggingface_hub") is None:
        raise InputError(
            f"data.path: {path} needs huggingface_hub: uv pip install huggingface_hub (or datasets)"
        )
    from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]

    try:
        return Path(
            snapshot_download(match["repo"], repo_type="dataset", revision=match["revision"])
        )
    except Exception as error:  # of the network, of the hub, of the package
        kind = type(error).__name__
        raise InputError(f"data.path: {path}: {kind}: {first_line(error)}") from error
