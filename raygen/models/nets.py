"""What an architecture builds."""

from typing import NamedTuple

from torch import nn


class GanNets(NamedTuple):
    """generator(latents (n, d), labels (n,)) -> images; discriminator(images, labels) -> (n,).

    The generator has an attribute `latent_dim`.
    """

    generator: nn.Module
    discriminator: nn.Module


class VaeNets(NamedTuple):
    """encoder(images) -> mean and log-variance, each (n, d); decoder(latents) -> (n, c, 32, 32).

    The decoder has the attributes `latent_dim` and `to_parameters`, its last convolution.
    """

    encoder: nn.Module
    decoder: nn.Module
