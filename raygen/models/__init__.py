"""The list of architectures: a new one is a new file and one line here."""

from collections.abc import Callable
from functools import cache, partial
from inspect import isabstract
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer, WrapValidator, create_model

from raygen.errors import InputError
from raygen.models.biggan import Biggan
from raygen.models.conv_vae import ConvVae
from raygen.models.dcgan import Dcgan
from raygen.models.ladder_vae import LadderVae
from raygen.models.nets import GanNets, GanSpec, Pass, TrainerSpec, VaeNet, VaeSpec
from raygen.models.r3gan import R3gan
from raygen.models.sngan import Sngan
from raygen.models.style_gan import StyleGan
from raygen.plugins import is_reference, resolve
from raygen.spec import Spec

Model = TypeVar("Model", bound=Spec)


def named(default: str) -> Callable[[Any], Any]:
    """Return a validator that gives settings without a name the default one."""

    def add(model: Any) -> Any:
        return {"name": default, **model} if isinstance(model, dict) else model

    return add


def own_model(reference: str, kind: type[Model]) -> type[Model]:
    """Return the settings of an architecture outside of raygen, with its reference as its name.

    Raises:
        InputError: it cannot be imported, is of another kind, or lacks a method.
    """
    spec = resolve(reference)
    if not isinstance(spec, type) or not issubclass(spec, kind):
        raise InputError(f"{reference}: must be a class derived from raygen.models.{kind.__name__}")
    if isabstract(spec):
        missing = " and ".join(sorted(spec.__abstractmethods__))
        raise InputError(f"{reference}: has no {missing}: see raygen.models.{kind.__name__}")
    return _named(spec, reference)


@cache
def _named(spec: type[Model], reference: str) -> type[Model]:
    name: Any = (Literal[reference], reference)
    return create_model(spec.__name__, __base__=spec, name=name)  # pyright: ignore[reportCallIssue]


def _own_or(kind: type[Spec], model: Any, listed: Callable[[Any], Any]) -> Any:
    """Validate the settings of an architecture of one's own, or of a listed one."""
    name = model.get("name") if isinstance(model, dict) else None
    if isinstance(model, kind) or not isinstance(name, str) or not is_reference(name):
        return model if isinstance(model, kind) else listed(model)
    try:
        return own_model(name, kind).model_validate(model)
    except InputError as error:
        raise ValueError(str(error)) from error


def _only_own(model: Any) -> Any:
    """Refuse settings that name nothing of the user's."""
    raise ValueError("name must be a class of your own, as file.py:Class")


def _dumped(model: Spec) -> dict[str, Any]:
    return model.model_dump()


GanModel = Annotated[
    Annotated[Dcgan | Sngan | Biggan | R3gan | StyleGan, Field(discriminator="name")],
    WrapValidator(partial(_own_or, GanSpec)),
    BeforeValidator(named("dcgan")),
    PlainSerializer(_dumped),
]
VaeModel = Annotated[
    Annotated[ConvVae | LadderVae, Field(discriminator="name")],
    WrapValidator(partial(_own_or, VaeSpec)),
    BeforeValidator(named("conv_vae")),
    PlainSerializer(_dumped),
]
OwnModel = Annotated[
    TrainerSpec,
    WrapValidator(lambda model, _: _own_or(TrainerSpec, model, _only_own)),
    PlainSerializer(_dumped),
]

__all__ = [
    "ConvVae", "Dcgan", "GanModel", "GanNets", "GanSpec", "OwnModel", "Pass", "Spec",
    "TrainerSpec", "VaeModel", "VaeNet", "VaeSpec", "own_model",
]  # fmt: skip
