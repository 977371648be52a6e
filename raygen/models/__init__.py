"""The list of architectures: a new one is a new file and one line here."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from raygen.models.biggan import Biggan
from raygen.models.conv_vae import ConvVae
from raygen.models.dcgan import Dcgan
from raygen.models.ladder_vae import LadderVae
from raygen.models.nets import GanNets, Pass, VaeNet
from raygen.models.r3gan import R3gan
from raygen.models.sngan import Sngan


def named(default: str) -> Callable[[Any], Any]:
    """Return a validator that gives settings without a name the default one."""

    def add(model: Any) -> Any:
        return {"name": default, **model} if isinstance(model, dict) else model

    return add


GanModel = Annotated[
    Annotated[Dcgan | Sngan | Biggan | R3gan, Field(discriminator="name")],
    BeforeValidator(named("dcgan")),
]
VaeModel = Annotated[
    Annotated[ConvVae | LadderVae, Field(discriminator="name")], BeforeValidator(named("conv_vae"))
]

__all__ = ["ConvVae", "Dcgan", "GanModel", "GanNets", "Pass", "VaeModel", "VaeNet"]
