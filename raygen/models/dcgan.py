"""DCGAN. Radford, Metz and Chintala 2016."""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from raygen.image_shape import ImageShape
from raygen.models.layers import (
    Norm,
    ProjectionHead,
    SpectralNorm,
    in_float32,
    init_normal,
    norm_layer,
)
from raygen.models.nets import GanNets, GanSpec

MOST = 16  # times `width`: channels grow no further at the smallest resolutions of large images


class Dcgan(GanSpec):
    """Generator: linear to 4x4, a transposed convolution per doubling. Discriminator: its mirror.

    `width` is the channel count at the full resolution (generator) and half of it (discriminator);
    it doubles at each halving of the resolution, up to 16 times. With `conditional`, a class
    embedding multiplies the latent, and the discriminator projects on it (Miyato and Koyama 2018).
    """

    name: Literal["dcgan"] = "dcgan"
    latent_dim: PositiveInt = 128
    width: PositiveInt = 64
    generator_norm: Norm = "batch"
    discriminator_norm: Literal["none", "batch", "layer", "spectral"] = "none"

    @property
    def mixes_images(self) -> bool:
        """Whether the discriminator's score of an image depends on all the rest of its batch."""
        return self.discriminator_norm == "batch"

    def build(self, image: ImageShape, classes: int) -> GanNets:
        """Build both networks, untrained."""
        labels = classes if self.conditional else 0
        widths = [self.width * min(2**k, MOST) for k in range(image.halvings + 1)]
        return GanNets(
            Generator(self.latent_dim, widths[::-1], self.generator_norm, image.channels, labels),
            Discriminator(widths[:-1], self.discriminator_norm, image.channels, labels),
        )


class Generator(nn.Module):
    """Latents (n, latent_dim) and labels (n,) -> images (n, c, h, w) in [-1, 1]."""

    def __init__(
        self, latent_dim: int, widths: list[int], norm: Norm, channels: int, classes: int
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(classes, latent_dim) if classes else None
        self.project = nn.Linear(latent_dim, widths[0] * 4 * 4)
        self.start = nn.Sequential(norm_layer(norm, widths[0]), nn.ReLU())
        self.blocks = nn.Sequential(
            *(_up(before, width, norm) for before, width in pairwise(widths))
        )
        self.to_rgb = nn.Conv2d(widths[-1], channels, 3, padding=1)
        self.apply(init_normal)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        if self.embedding is not None:
            latents = latents * self.embedding(labels)
        x = self.project(latents).view(len(latents), -1, 4, 4)
        return torch.tanh(in_float32(self.to_rgb, self.blocks(self.start(x))))


class Discriminator(nn.Module):
    """Images (n, c, h, w) and labels (n,) -> logits (n,); large means "real"."""

    def __init__(self, widths: list[int], norm: str, channels: int, classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _down(channels, widths[0], "spectral" if norm == "spectral" else "none"),
            *(_down(before, width, norm) for before, width in pairwise(widths)),
        )
        self.head = ProjectionHead(widths[-1] * 4 * 4, classes, norm == "spectral")
        self.apply(init_normal)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.head(self.blocks(images).flatten(1), labels)


def _up(channels: int, out: int, norm: Norm) -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1), norm_layer(norm, out), nn.ReLU()
    )


def _down(channels: int, out: int, norm: str) -> nn.Module:
    conv = nn.Conv2d(channels, out, 4, stride=2, padding=1)
    if norm == "spectral":
        return nn.Sequential(SpectralNorm(conv), nn.LeakyReLU(0.2))
    kind: Norm = "batch" if norm == "batch" else "layer" if norm == "layer" else "none"
    return nn.Sequential(conv, norm_layer(kind, out), nn.LeakyReLU(0.2))
