"""The list of architectures: a new one is a new file and one line here."""

from raygen.models.conv_vae import ConvVae
from raygen.models.dcgan import Dcgan
from raygen.models.nets import GanNets, VaeNets

# With a second architecture: Annotated[Dcgan | Other, Field(discriminator="name")].
GanModel = Dcgan
VaeModel = ConvVae

__all__ = ["GanModel", "GanNets", "VaeModel", "VaeNets"]
