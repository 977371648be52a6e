"""DCGAN for 32x32 images. Radford, Metz and Chintala 2016."""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from raygen.models.layers import (
    Norm,
    ProjectionHead,
    SpectralNorm,
    in_float32,
    init_normal,
    norm_layer,
)
from raygen.models.nets import GanNets
from raygen.spec import Spec


class Dcgan(Spec):
    """Generator: linear to 4x4, three transposed convolutions. Discriminator: its mirror.

    `width` is the channel count at 32x32 (generator) and 16x16 (discriminator); it doubles at
    each halving of the resolution. With `conditional`, a class embedding multiplies the latent,
    and the discriminator projects on it (Miyato and Koyama 2018).
    """

    name: Literal["dcgan"] = "dcgan"
    latent_dim: PositiveInt = 128
    width: PositiveInt = 64
    generator_norm: Norm = "batch"
    discriminator_norm: Literal["none", "batch", "layer", "spectral"] = "none"
    conditional: bool = False

    @property
    def mixes_images(self) -> bool:
        """Whether the discriminator's score of an image depends on the rest of its batch."""
        return self.discriminator_norm == "batch"

    def build(self, classes: int) -> GanNets:
        """Build both networks, untrained."""
        labels = classes if self.conditional else 0
        return GanNets(
            Generator(self.latent_dim, self.width, self.generator_norm, labels),
            Discriminator(self.width, self.discriminator_norm, labels),
        )


class Generator(nn.Module):
    """Latents (n, latent_dim) and labels (n,) -> images (n, 3, 32, 32) in [-1, 1]."""

    def __init__(self, latent_dim: int, width: int, norm: Norm, classes: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(classes, latent_dim) if classes else None
        self.project = nn.Linear(latent_dim, 8 * width * 4 * 4)
        self.start = nn.Sequential(norm_layer(norm, 8 * width), nn.ReLU())
        self.blocks = nn.Sequential(
            *(_up(width * 2 * factor, width * factor, norm) for factor in (4, 2, 1))
        )
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1)
        self.apply(init_normal)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        if self.embedding is not None:
            latents = latents * self.embedding(labels)
        x = self.project(latents).view(len(latents), -1, 4, 4)
        return torch.tanh(in_float32(self.to_rgb, self.blocks(self.start(x))))


class Discriminator(nn.Module):
    """Images (n, 3, 32, 32) and labels (n,) -> logits (n,); large means "real"."""

    def __init__(self, width: int, norm: str, classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _down(3, width, "spectral" if norm == "spectral" else "none"),
            _down(width, 2 * width, norm),
            _down(2 * width, 4 * width, norm),
        )
        self.head = ProjectionHead(4 * width * 4 * 4, classes, norm == "spectral")
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
