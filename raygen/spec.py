"""The frozen, closed pydantic base of every configuration."""

from collections.abc import Callable, Iterable

from pydantic import BaseModel, ConfigDict

from raygen.document import shown
from raygen.errors import did_you_mean


class Spec(BaseModel):
    """A configuration: immutable, unknown keys are errors, every default is validated."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


def key_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a validator that accepts only the given names, and suggests the nearest one."""
    choices = sorted(names)

    def check(name: str) -> str:
        if name not in choices:
            hint = did_you_mean(name, choices)
            raise ValueError(f"unknown name {shown(name)}, choose from {', '.join(choices)}{hint}")
        return name

    return check
