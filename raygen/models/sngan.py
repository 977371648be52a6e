"""A residual GAN. Miyato, Kataoka, Koyama and Yoshida 2018, appendix B.4."""

from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from raygen.image_shape import ImageShape
from raygen.models.layers import (
    CriticNorm,
    Norm,
    ProjectionHead,
    ResidualDown,
    ResidualUp,
    in_float32,
    modulate,
    norm_layer,
    relu_sum,
    residual_widths,
)
from raygen.models.nets import GanNets, GanSpec


class Sngan(GanSpec):
    """Generator: residual blocks up from 4x4. Discriminator: blocks down to 8x8, and two more.

    Every block has `width` channels (generator) or `discriminator_width`; above 32x32, half as many
    at each doubling. With `conditional`,
    gain and bias after each normalisation are those of the class, and the discriminator projects
    on it (Miyato and Koyama 2018). `discriminator_norm` none or layer is for gradient penalties.
    """

    name: Literal["sngan"] = "sngan"
    latent_dim: PositiveInt = 128
    width: PositiveInt = 256
    discriminator_width: PositiveInt = 128
    generator_norm: Norm = "batch"
    discriminator_norm: CriticNorm = "spectral"

    def build(self, image: ImageShape, classes: int) -> GanNets:
        """Build both networks, untrained."""
        labels = classes if self.conditional else 0
        return GanNets(
            Generator(self.latent_dim, self.width, self.generator_norm, image, labels),
            Discriminator(self.discriminator_width, self.discriminator_norm, image, labels),
        )


class Generator(nn.Module):
    """Latents (n, latent_dim) and labels (n,) -> images (n, c, h, w) in [-1, 1]."""

    def __init__(
        self, latent_dim: int, width: int, norm: Norm, image: ImageShape, classes: int
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        widths = residual_widths(width, image)
        self.project = nn.Linear(latent_dim, widths[0] * 4 * 4)
        normed = partial(ClassNorm, norm, classes)
        self.blocks = nn.ModuleList(ResidualUp(a, b, normed) for a, b in pairwise(widths))
        self.norm = norm_layer(norm, widths[-1])
        self.to_rgb = nn.Conv2d(widths[-1], image.channels, 3, padding=1)
        self.apply(_init)
        nn.init.xavier_uniform_(self.to_rgb.weight)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = self.project(latents).view(len(latents), -1, 4, 4)
        for block in self.blocks:
            x = block(x, labels)
        return torch.tanh(in_float32(self.to_rgb, F.relu(self.norm(x))))


class Discriminator(nn.Module):
    """Images (n, c, h, w) and labels (n,) -> logits (n,); large means "real"."""

    def __init__(self, width: int, norm: CriticNorm, image: ImageShape, classes: int) -> None:
        super().__init__()
        # Of the halving blocks, from the full resolution down to 8x8.
        widths = residual_widths(width, image)[:1:-1]
        self.blocks = nn.Sequential(
            ResidualDown(image.channels, widths[0], norm, first=True),
            *(ResidualDown(a, b, norm) for a, b in pairwise(widths)),
            ResidualDown(width, width, norm, halve=False),
            ResidualDown(width, width, norm, halve=False),
        )
        self.head = ProjectionHead(width, classes, norm == "spectral")
        self.apply(_init)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.head(in_float32(relu_sum, self.blocks(images)), labels)


class ClassNorm(nn.Module):
    """A normalisation whose gain and bias are those of the class, if there are classes."""

    def __init__(self, kind: Norm, classes: int, channels: int) -> None:
        super().__init__()
        self.norm = norm_layer(kind, channels, affine=not classes)
        self.gain = nn.Embedding(classes, channels) if classes else None  # beyond 1
        self.bias = nn.Embedding(classes, channels) if classes else None
        for embedding in (self.gain, self.bias):
            if embedding is not None:
                nn.init.zeros_(embedding.weight)

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        if self.gain is None or self.bias is None:
            return self.norm(input)
        return modulate(self.norm(input), self.gain(labels), self.bias(labels))


def _init(module: nn.Module) -> None:
    """Glorot and Bengio 2010, with twice the variance in the blocks' 3x3 convolutions."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        rectified = isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
        nn.init.xavier_uniform_(module.weight, 2**0.5 if rectified else 1.0)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
