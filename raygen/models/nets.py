"""What an architecture builds."""

from typing import NamedTuple, Protocol

from torch import Tensor, nn


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

    output: Tensor  # (n, c, 32, 32), the parameters of the pixel likelihood
    shift: Tensor  # (n, d)
    log_ratio: Tensor  # (n, d)


class VaeNet(Protocol):
    """A module: images (n, 3, 32, 32) and standard normal noise (n, d) -> Pass.

    Latents, shift and log_ratio are float32, also under autocast.
    """

    latent_dim: int  # d, over all layers
    layers: tuple[int, ...]  # latents of each stochastic layer, the topmost first; their sum is d
    to_parameters: nn.Conv2d  # the last convolution; its bias is where the likelihood starts

    def __call__(self, images: Tensor, noise: Tensor) -> Pass:
        """Encode, draw the latents with the noise, decode."""
        ...

    def decode(self, noise: Tensor) -> Tensor:
        """Draw the latents from the prior with the noise (n, d) and decode: (n, c, 32, 32)."""
        ...
