"""A small BigGAN for 32x32 images. Brock, Donahue and Simonyan 2019."""

from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from raygen.models.layers import (
    BatchNorm2d,
    ProjectionHead,
    ResidualDown,
    ResidualUp,
    SpectralNorm,
    in_float32,
    modulate,
    relu_sum,
)
from raygen.models.nets import GanNets
from raygen.spec import Spec

BLOCKS = 3  # of the generator: 4x4 to 32x32


class Biggan(Spec):
    """Residual blocks with spectral normalisation in both networks, and self-attention at 16x16.

    The latent is cut into four: one part is the 4x4 start, each of the others, beside the class
    embedding, makes the gains and biases of one block. Blocks have 4 `width` channels (generator)
    and 2 `discriminator_width`, as in StudioGAN's network for CIFAR-10 (Kang et al. 2023).
    """

    name: Literal["biggan"] = "biggan"
    latent_dim: Annotated[int, Field(ge=BLOCKS + 1)] = 80
    width: PositiveInt = 64
    discriminator_width: PositiveInt = 64
    embedding_dim: PositiveInt = 128
    attention: bool = True
    conditional: bool = False

    @property
    def mixes_images(self) -> bool:
        """Whether the discriminator's score of an image depends on the rest of its batch."""
        return False

    def build(self, classes: int) -> GanNets:
        """Build both networks, untrained."""
        labels = classes if self.conditional else 0
        return GanNets(
            Generator(self.latent_dim, 4 * self.width, self.embedding_dim, self.attention, labels),
            Discriminator(2 * self.discriminator_width, self.attention, labels),
        )


class Generator(nn.Module):
    """Latents (n, latent_dim) and labels (n,) -> images (n, 3, 32, 32) in [-1, 1]."""

    def __init__(
        self, latent_dim: int, width: int, embedding_dim: int, attention: bool, classes: int
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(classes, embedding_dim) if classes else None
        first, *others = (len(part) for part in _parts(torch.zeros(latent_dim)))
        self.project = SpectralNorm(nn.Linear(first, width * 4 * 4))
        shared = embedding_dim if classes else 0
        self.blocks = nn.ModuleList(
            ResidualUp(width, width, partial(LatentNorm, part + shared), spectral=True)
            for part in others
        )
        self.attention = Attention(width) if attention else nn.Identity()
        self.norm = BatchNorm2d(width)
        self.to_rgb = SpectralNorm(nn.Conv2d(width, 3, 3, padding=1))
        self.apply(_init_orthogonal)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        first, *others = _parts(latents)
        x = self.project(first).view(len(latents), -1, 4, 4)
        for resolution, block, part in zip((8, 16, 32), self.blocks, others, strict=True):
            if self.embedding is not None:
                part = torch.cat([self.embedding(labels), part], dim=1)
            x = block(x, part)
            if resolution == 16:
                x = self.attention(x)
        return torch.tanh(in_float32(self.to_rgb, F.relu(self.norm(x))))


class Discriminator(nn.Module):
    """Images (n, 3, 32, 32) and labels (n,) -> logits (n,); large means "real"."""

    def __init__(self, width: int, attention: bool, classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualDown(3, width, "spectral", first=True),
            Attention(width) if attention else nn.Identity(),
            ResidualDown(width, width, "spectral"),
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


def _parts(latents: Tensor) -> tuple[Tensor, ...]:
    """Cut the last dimension into four parts, as equal as can be."""
    return latents.tensor_split(BLOCKS + 1, dim=-1)


def _init_orthogonal(module: nn.Module) -> None:
    """Saxe et al. 2014, for every weight; biases are zero."""
    if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
        nn.init.orthogonal_(module.weight)
        bias = getattr(module, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)
