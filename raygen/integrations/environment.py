"""What a callback needs of its surroundings, asked for before a search starts."""

import os
from importlib.util import find_spec

from raygen.callbacks import VARIABLE
from raygen.errors import InputError


def expanded(address: str) -> str:
    """Return an address, or what the variable holds that it names.

    Raises:
        InputError: the variable is not set.
    """
    match = VARIABLE.fullmatch(address)
    if match is None:
        return address
    if not os.environ.get(match["name"]):
        raise InputError(f"callbacks: {address} is not set in the environment")
    return os.environ[match["name"]]


def need(package: str) -> None:
    """Make sure that a package is installed.

    Raises:
        InputError: it is not.
    """
    if find_spec(package) is None:
        raise InputError(f"callbacks: {package} is not installed: uv sync --extra {package}")
