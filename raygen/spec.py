"""The frozen, closed pydantic base of every configuration."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from raygen.errors import InputError, did_you_mean
from raygen.plugins import Registry, is_reference, resolve

IMAGE = 0.001  # kimg: nothing happens more often than once an image
Kimg = Annotated[float, Field(ge=IMAGE, le=1e9)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Spec(BaseModel):
    """A configuration: immutable, unknown keys are errors, every default is validated."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


def mistake_at(rule: str, value: Any, *at: str | int) -> ValidationError:
    """Return the error of a setting inside of what a validator checks, for it to raise."""
    error = PydanticCustomError("value_error", "{rule}", {"rule": rule})
    return ValidationError.from_exception_data(
        "Spec", [InitErrorDetails(type=error, loc=at, input=value)]
    )


def imported(reference: str) -> Any:
    """Import what a reference names, as a validator: an error is one of the setting."""
    try:
        return resolve(reference)
    except InputError as error:
        raise ValueError(str(error)) from error


def key_of(names: Iterable[str]) -> Callable[[str], str]:
    """Return a validator that accepts only the given names, and suggests the nearest one.

    Of a Registry it also accepts what a reference names.
    """
    choices = sorted(names)

    def check(name: str) -> str:
        if isinstance(names, Registry) and is_reference(name):
            try:
                _ = names[name]
            except InputError as error:
                raise ValueError(str(error)) from error
        elif name not in choices:
            hint = did_you_mean(name, choices)
            raise ValueError(f"unknown name, choose from {', '.join(choices)}{hint}")
        return name

    return check
