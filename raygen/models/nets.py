"""What an architecture builds."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor, nn

from raygen.image_shape import ImageShape
from raygen.spec import Spec


class GanSpec(Spec):
    """The settings of a GAN's architecture: typed fields that a YAML file may set and search.

    It has a field or property `latent_dim`.
    """

    conditional: bool = False  # whether images follow a label

    @property
    def mixes_images(self) -> bool:
        """Whether the discriminator's score of an image depends on all the rest of its batch.

        As with batch normalisation. It is refused beside a penalty, which scores real and generated
        images in one batch, as a function that changes no statistics, in each worker by itself.
        """
        return False

    @property
    def compared_images(self) -> int:
        """How many images, next to each other in a batch, the discriminator scores together.

        A penalty is of the gradient of the sum of their scores, and is allowed. Every part of a
        batch must divide by it, so that real and generated images or two workers never mix.
        """
        return 1

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        require_latent_dim(cls)

    @abstractmethod
    def build(self, image: ImageShape, classes: int) -> "GanNets":
        """Build both networks, untrained, for images of a shape and so many classes."""


class VaeSpec(Spec):
    """The settings of a VAE's architecture: typed fields that a YAML file may set and search."""

    @abstractmethod
    def build(self, image: ImageShape, outputs: int) -> Any:
        """Build a VaeNet; it ends in as many channels as its likelihood wants."""


class TrainerSpec(Spec):
    """The settings of a generator with its whole training, for `family: own`.

    Its typed fields are what a YAML file may set and search; it has a field or property
    `latent_dim`.
    """

    conditional: bool = False  # whether images follow a label
    if TYPE_CHECKING:
        latent_dim: int

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        require_latent_dim(cls)

    @abstractmethod
    def build(self, image: ImageShape, classes: int) -> nn.Module:
        """Build the generator: latents (n, latent_dim), labels (n,) -> images in [-1, 1]."""

    @abstractmethod
    def fit(self, run: Any) -> Iterator[Mapping[str, Tensor | float]]:
        """Train `run.generator` (raygen.training.own.Run), and yield the losses of each step."""


def require_latent_dim(kind: type[Spec]) -> None:
    """Refuse a class that does not say how long the noise is that its generator gets.

    Raises:
        TypeError: it has no field or property of that name.
    """
    if "latent_dim" not in kind.model_fields and not hasattr(kind, "latent_dim"):
        raise TypeError(
            f"{kind.__name__} needs a field latent_dim: the length of the noise that its generator "
            "gets, such as latent_dim: int = 128"
        )


class GanNets(NamedTuple):
    """generator(latents (n, d), labels (n,)) -> images; discriminator(images, labels) -> (n,).

    The generator has an attribute `latent_dim`.
    """

    generator: nn.Module
    discriminator: nn.Module


class Pass(NamedTuple):
    """What a VAE made of images: the output of the decoder, and each posterior by its prior.

    Latents are independent Gaussians given the layers above. Measured in the prior's own mean and
    standard deviation, the posterior of one is N(shift, exp(log_ratio)^2), and its prior N(0, 1).
    """

    output: Tensor  # (n, c, h, w), the parameters of the pixel likelihood
    shift: Tensor  # (n, d)
    log_ratio: Tensor  # (n, d)


class VaeNet(Protocol):
    """A module: images (n, c, h, w) and standard normal noise (n, d) -> Pass.

    Latents, shift and log_ratio are float32, also under autocast.
    """

    latent_dim: int  # d, over all layers
    layers: tuple[int, ...]  # latents of each stochastic layer, the topmost first; their sum is d
    to_parameters: nn.Conv2d  # the last convolution; its bias is where the likelihood starts

    def __call__(self, images: Tensor, noise: Tensor) -> Pass:
        """Encode, draw the latents with the noise, decode."""
        ...

    def decode(self, noise: Tensor) -> Tensor:
        """Draw the latents from the prior with the noise (n, d) and decode: (n, c, h, w)."""
        ...
