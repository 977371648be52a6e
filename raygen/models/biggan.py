"""A small BigGAN. Brock, Donahue and Simonyan 2019."""

from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from raygen.errors import InputError
from raygen.image_shape import ImageShape
from raygen.models.layers import (
    BatchNorm2d,
    ProjectionHead,
    ResidualDown,
    ResidualUp,
    SpectralNorm,
    in_float32,
    modulate,
    relu_sum,
    residual_widths,
)
from raygen.models.nets import GanNets, GanSpec

ATTENTION = 16  # the resolution


class Biggan(GanSpec):
    """Residual blocks with spectral normalisation in both networks, and self-attention at 16x16.

    The latent is cut into equal parts: one is the 4x4 start, each of the others, beside the class
    embedding, makes the gains and biases of one block. Blocks have 4 `width` channels (generator)
    and 2 `discriminator_width`, as in StudioGAN's network for CIFAR-10 (Kang et al. 2023); above
    32x32, half as many at each doubling.
    """

    name: Literal["biggan"] = "biggan"
    latent_dim: Annotated[int, Field(ge=4)] = 80
    width: PositiveInt = 64
    discriminator_width: PositiveInt = 64
    embedding_dim: PositiveInt = 128
    attention: bool = True

    def build(self, image: ImageShape, classes: int) -> GanNets:
        """Build both networks, untrained.

        Raises:
            InputError: the latent has fewer numbers than parts.
        """
        if self.latent_dim <= image.halvings:
            raise InputError(
                f"model.latent_dim: {self.latent_dim}, but for {image} images biggan cuts the "
                f"latent into {image.halvings + 1} parts; give that many or more"
            )
        labels = classes if self.conditional else 0
        return GanNets(
            Generator(
                self.latent_dim, 4 * self.width, self.embedding_dim, self.attention, image, labels
            ),
            Discriminator(2 * self.discriminator_width, self.attention, image, labels),
        )


class Generator(nn.Module):
    """Latents (n, latent_dim) and labels (n,) -> images (n, c, h, w) in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        width: int,
        embedding_dim: int,
        attention: bool,
        image: ImageShape,
        classes: int,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        widths = residual_widths(width, image)
        self.embedding = nn.Embedding(classes, embedding_dim) if classes else None
        first, *others = (len(part) for part in _parts(torch.zeros(latent_dim), len(widths)))
        self.project = SpectralNorm(nn.Linear(first, widths[0] * 4 * 4))
        shared = embedding_dim if classes else 0
        self.blocks = nn.ModuleList(
            ResidualUp(before, after, partial(LatentNorm, part + shared), spectral=True)
            for part, (before, after) in zip(others, pairwise(widths), strict=True)
        )
        self.attention = Attention(width) if attention else nn.Identity()
        self.norm = BatchNorm2d(widths[-1])
        self.to_rgb = SpectralNorm(nn.Conv2d(widths[-1], image.channels, 3, padding=1))
        self.apply(_init_orthogonal)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        first, *others = _parts(latents, len(self.blocks) + 1)
        x = self.project(first).view(len(latents), -1, 4, 4)
        for block, part in zip(self.blocks, others, strict=True):
            if self.embedding is not None:
                part = torch.cat([self.embedding(labels), part], dim=1)
            x = block(x, part)
            if x.shape[2] == ATTENTION:
                x = self.attention(x)
        return torch.tanh(in_float32(self.to_rgb, F.relu(self.norm(x))))


class Discriminator(nn.Module):
    """Images (n, c, h, w) and labels (n,) -> logits (n,); large means "real"."""

    def __init__(self, width: int, attention: bool, image: ImageShape, classes: int) -> None:
        super().__init__()
        # Of the halving blocks, from the full resolution down to 8x8.
        widths = residual_widths(width, image)[:1:-1]
        halving = [ResidualDown(image.channels, widths[0], "spectral", first=True)]
        halving += [ResidualDown(before, after, "spectral") for before, after in pairwise(widths)]
        # Behind the block that ends at its resolution, or else behind the first one.
        before = max(1, len(halving) - 1)
        self.blocks = nn.Sequential(
            *halving[:before],
            Attention(widths[before - 1]) if attention else nn.Identity(),
            *halving[before:],
            ResidualDown(width, width, "spectral", halve=False),
            ResidualDown(width, width, "spectral", halve=False),
        )
        self.head = ProjectionHead(width, classes, spectral=True)
        self.apply(_init_orthogonal)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.head(in_float32(relu_sum, self.blocks(images)), labels)


class LatentNorm(nn.Module):
    """Batch normalisation whose gain and bias are linear in a condition (n, d)."""

    def __init__(self, condition_dim: int, channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, affine=False)
        self.gain = SpectralNorm(nn.Linear(condition_dim, channels, bias=False))  # beyond 1
        self.bias = SpectralNorm(nn.Linear(condition_dim, channels, bias=False))

    def forward(self, input: Tensor, condition: Tensor) -> Tensor:
        gain, bias = in_float32(self.gain, condition), in_float32(self.bias, condition)
        return modulate(self.norm(input), gain, bias)


class Attention(nn.Module):
    """x + gamma * attention over all pixels, gamma 0 at the start. Zhang et al. 2019, section 3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query, self.key, self.value = (
            SpectralNorm(nn.Conv2d(channels, inner, 1, bias=False)) for _ in range(3)
        )
        self.out = SpectralNorm(nn.Conv2d(inner, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, input: Tensor) -> Tensor:
        query, key, value = (f(input).flatten(2) for f in (self.query, self.key, self.value))
        weights = softmax(query.mT @ key)  # (n, pixel that asks, pixel that answers)
        mixed = (value @ weights.mT).unflatten(2, input.shape[2:])
        return (input + self.gamma * self.out(mixed)).to(input.dtype)


def softmax(scores: Tensor) -> Tensor:
    """Softmax over the last dimension, in float32 at least.

    Spelled out, because a penalty differentiates a tangent of it: torch's own formula for the
    tangent changes in place what its derivative needs.
    """
    scores = scores.float() if scores.dtype == torch.bfloat16 else scores
    powers = (scores - scores.detach().amax(dim=-1, keepdim=True)).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def _parts(latents: Tensor, count: int) -> tuple[Tensor, ...]:
    """Cut the last dimension into parts that are as equal as can be."""
    return latents.tensor_split(count, dim=-1)


def _init_orthogonal(module: nn.Module) -> None:
    """Saxe et al. 2014, for every weight; biases are zero."""
    if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
        nn.init.orthogonal_(module.weight)
        bias = getattr(module, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)
