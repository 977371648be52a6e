"""A small R3GAN. Huang, Gokaslan, Kuleshov and Tompkin 2024, config E."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise, starmap
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from raygen.image_shape import ImageShape
from raygen.models.layers import ProjectionHead, double, halve, in_float32
from raygen.models.nets import GanNets, GanSpec

MOST = 3  # halvings from which the channel count grows no further


class R3gan(GanSpec):
    """Residual blocks with grouped convolutions and no normalisation; networks mirror each other.

    `width` is the channel count at the full resolution and grows by the factor `growth` at each of
    the first three halvings. There are `blocks` per resolution, between their 1x1 convolutions
    `expansion` times as wide, in groups of `group_width` (rounded up to whole groups). The paper's
    network for CIFAR-10 has a width of 768 everywhere. With `conditional`, a class embedding stands
    beside the latent, and the discriminator projects on it (Miyato and Koyama 2018).
    """

    name: Literal["r3gan"] = "r3gan"
    latent_dim: PositiveInt = 64
    width: PositiveInt = 64
    growth: Literal[1, 2] = 2
    group_width: PositiveInt = 16
    expansion: PositiveInt = 2
    blocks: PositiveInt = 2

    def build(self, image: ImageShape, classes: int) -> GanNets:
        """Build both networks, untrained."""
        labels = classes if self.conditional else 0
        widths = [self.width * self.growth ** min(k, MOST) for k in range(image.halvings + 1)]
        depth = len(widths) * self.blocks
        stage = partial(_stage, self.blocks, self.expansion, self.group_width, depth)
        return GanNets(
            Generator(self.latent_dim, widths[::-1], stage, image.channels, labels),
            Discriminator(widths, stage, image.channels, labels),
        )


class Generator(nn.Module):
    """Latents (n, latent_dim) and labels (n,) -> images (n, c, h, w) in [-1, 1].

    Starts from a learned 4x4 picture per channel, weighted by the latent. Unlike the paper's it
    ends in tanh, as every generator here does.
    """

    def __init__(
        self,
        latent_dim: int,
        widths: list[int],
        stage: Callable[[int], nn.Module],
        channels: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(classes, latent_dim) if classes else None
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.weigh = nn.Linear(2 * latent_dim if classes else latent_dim, widths[0], bias=False)
        self.stages = nn.ModuleList(map(stage, widths))
        self.changes = nn.ModuleList(starmap(_change, pairwise(widths)))
        self.to_rgb = nn.Conv2d(widths[-1], channels, 1)
        for layer in (self.weigh, self.to_rgb):
            _init_linear(layer)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels)], dim=1)
        weights = self.weigh(latents)[:, :, None, None]
        first, *others = self.stages
        x = first(self.basis.to(weights.dtype) * weights)
        for change, stage in zip(self.changes, others, strict=True):
            x = stage(double(change(x)))
        return torch.tanh(in_float32(self.to_rgb, x))


class Discriminator(nn.Module):
    """Images (n, c, h, w) and labels (n,) -> logits (n,); large means "real".

    Ends in one learned 4x4 picture per channel, against which the channel is measured.
    """

    def __init__(
        self, widths: list[int], stage: Callable[[int], nn.Module], channels: int, classes: int
    ) -> None:
        super().__init__()
        self.from_rgb = nn.Conv2d(channels, widths[0], 1)
        self.stages = nn.ModuleList(map(stage, widths))
        self.changes = nn.ModuleList(starmap(_change, pairwise(widths)))
        self.basis = nn.Conv2d(widths[-1], widths[-1], 4, groups=widths[-1], bias=False)
        self.head = ProjectionHead(widths[-1], classes)
        for layer in (self.from_rgb, self.basis, self.head.linear):
            _init_linear(layer)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        first, *others = self.stages
        x = first(self.from_rgb(images))
        for change, stage in zip(self.changes, others, strict=True):
            x = stage(change(halve(x)))
        return self.head(in_float32(self.basis, x).flatten(1), labels)


class Block(nn.Module):
    """x + conv1x1(act(grouped conv3x3(act(conv1x1(x))))), whose last weights start at zero.

    Fix-up (Zhang, Dauphin and Ma 2019) for `depth` blocks of three convolutions each: the others
    start smaller by depth^(-1/4), so that no normalisation is needed.
    """

    def __init__(self, width: int, groups: int, group_width: int, depth: int) -> None:
        super().__init__()
        hidden = groups * group_width  # groups: the cardinality of Xie et al. 2017
        self.widen = nn.Conv2d(width, hidden, 1)
        self.grouped = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups)
        self.narrow = nn.Conv2d(hidden, width, 1, bias=False)
        for layer in (self.widen, self.grouped):
            _init_linear(layer, gain=math.sqrt(2 / (1 + 0.2**2)) * depth**-0.25)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, input: Tensor) -> Tensor:
        x = F.leaky_relu(self.grouped(F.leaky_relu(self.widen(input), 0.2)), 0.2)
        return self.narrow(x) + input  # a sum has the memory format of its first part


def _stage(blocks: int, expansion: int, group_width: int, depth: int, width: int) -> nn.Sequential:
    groups = math.ceil(expansion * width / group_width)
    return nn.Sequential(*(Block(width, groups, group_width, depth) for _ in range(blocks)))


def _change(before: int, width: int) -> nn.Module:
    if before == width:
        return nn.Identity()
    layer = nn.Conv2d(before, width, 1, bias=False)
    _init_linear(layer)
    return layer


def _init_linear(layer: nn.Module, gain: float = 1.0) -> None:
    """He et al. 2015: outputs of the variance of the inputs, times gain^2; biases zero."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    nn.init.normal_(layer.weight, 0.0, gain * layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
