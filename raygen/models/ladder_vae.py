"""A VAE with a ladder of latents: the prior of each layer is drawn from the layers above.

Sonderby et al. 2016; bottom-up features that join a top-down path: Kingma et al. 2016; very deep,
and without tricks to get there: Child 2021.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from raygen.errors import InputError
from raygen.image_shape import BASE, ImageShape
from raygen.models.conv_vae import Residual
from raygen.models.layers import Norm, in_float32, norm_layer
from raygen.models.nets import Pass, VaeSpec

# Log-scales stay within: a factor of 150 to either side. Vahdat and Kautz 2020, soft clamping.
BOUND = 5.0
NARROWER = 4  # times, the channels within a bottleneck: 0.25 of the width in VDVAE

Block = Literal["residual", "bottleneck"]


class LadderVae(VaeSpec):
    """`layers` stochastic layers at each of 4x4, 8x8 and so on up to `finest`, coarse to fine.

    Images are at least as large as `finest`; from larger ones, convolutions lead down to it. Each
    layer has `latent_channels` at every position of its scale, and `depth` residual blocks after
    it; the encoder has `depth` blocks at each scale. `width` is the channel count everywhere, but
    within the blocks of `block: bottleneck`, where it is a quarter, as in VDVAE (Child 2021).
    """

    name: Literal["ladder_vae"] = "ladder_vae"
    width: PositiveInt = 64
    latent_channels: Annotated[int, Field(ge=1, le=64)] = 8
    layers: Annotated[int, Field(ge=1, le=16)] = 2
    finest: Literal[8, 16, 32, 64] = 16
    depth: Annotated[int, Field(ge=0, le=8)] = 1
    norm: Norm = "none"
    block: Block = "residual"

    def build(self, image: ImageShape, outputs: int) -> "LadderVaeNet":
        """Build the network; it ends in as many channels as its likelihood wants.

        Raises:
            InputError: images are smaller than the finest scale.
        """
        if self.finest > image.size:
            raise InputError(f"model.finest: {self.finest}, but images are {image}")
        return LadderVaeNet(
            self.finest, self.width, self.latent_channels, self.layers, self.depth, self.norm,
            self.block, image, outputs,
        )  # fmt: skip


class LadderVaeNet(nn.Module):
    """Images up to features at every scale; from a learnt constant down through all latents."""

    def __init__(
        self,
        finest: int,
        width: int,
        latent_channels: int,
        layers: int,
        depth: int,
        norm: Norm,
        block: Block,
        image: ImageShape,
        outputs: int,
    ) -> None:
        super().__init__()
        scales = [BASE << k for k in range((finest // BASE).bit_length())]
        halvings = (image.size // finest).bit_length() - 1  # from images down to the finest scale
        self.layers = tuple(latent_channels * s * s for s in scales for _ in range(layers))
        self.latent_dim = sum(self.layers)
        self.rise = nn.ModuleList(
            nn.Sequential(
                *(
                    _entry(image.channels, width, halvings)
                    if scale == finest
                    else [HALVES[block](width)]
                ),
                *(BLOCKS[block](width, norm) for _ in range(depth)),
            )
            for scale in reversed(scales)
        )
        self.top = nn.Parameter(torch.zeros(1, width, 4, 4))
        self.enlarge = nn.ModuleList(
            nn.Identity() if scale == 4 else DOUBLES[block](width) for scale in scales
        )
        self.descent = nn.ModuleList(
            nn.ModuleList(Rung(width, latent_channels, depth, norm, block) for _ in range(layers))
            for _ in scales
        )
        self.last = nn.Sequential(*_exit(width, halvings), norm_layer(norm, width), nn.SiLU())
        self.to_parameters = nn.Conv2d(width, outputs, 3, padding=1)
        # A sum of N terms, each of the variance of the first, would grow with N. Child 2021, 3.3.
        for path in (self.rise, self.descent):
            _shrink([m.body[-1] for m in path.modules() if isinstance(m, Residual | Bottleneck)])
        _shrink([m.join for m in self.descent.modules() if isinstance(m, Rung)])
        if block == "bottleneck":
            # As in VDVAE: as many biases as there are blocks would add up to most of the state.
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, noise: Tensor) -> Pass:
        features = [images]
        for stage in self.rise:
            features.append(stage(features[-1]))
        shifts, log_ratios = [], []
        x, number, parts = self._start(noise), 0, self._parts(noise)
        for enlarge, rungs in zip(self.enlarge, self.descent, strict=True):
            x, number = enlarge(x), number + 1
            for rung in _rungs(rungs):
                shift, log_ratio = rung.posterior(x, features[-number])
                draws = next(parts).view_as(shift)
                x = rung(x, shift + torch.exp(log_ratio) * draws)
                shifts.append(shift.flatten(1))
                log_ratios.append(log_ratio.flatten(1))
        return Pass(self._end(x), torch.cat(shifts, dim=1), torch.cat(log_ratios, dim=1))

    def decode(self, noise: Tensor) -> Tensor:
        """Draw all latents from their priors: (n, latent_dim) -> parameters of the likelihood."""
        x, parts = self._start(noise), self._parts(noise)
        for enlarge, rungs in zip(self.enlarge, self.descent, strict=True):
            x = enlarge(x)
            for rung in _rungs(rungs):
                x = rung(x, next(parts).view(len(x), -1, *x.shape[2:]))
        return self._end(x)

    def _start(self, noise: Tensor) -> Tensor:
        return self.top.expand(len(noise), -1, -1, -1)

    def _parts(self, noise: Tensor) -> Iterator[Tensor]:
        return iter(noise.split(self.layers, dim=1))

    def _end(self, x: Tensor) -> Tensor:
        return in_float32(self.to_parameters, self.last(x))


class Rung(nn.Module):
    """One stochastic layer of the way down, and the residual blocks after it.

    Latents come and go in the prior's own mean and standard deviation, so that a posterior whose
    two numbers are zero is the prior (the residual parametrisation of Vahdat and Kautz 2020).
    """

    def __init__(
        self, width: int, latent_channels: int, depth: int, norm: Norm, block: Block
    ) -> None:
        super().__init__()
        # Last layers from zero: training starts at a divergence of zero, however many layers.
        if block == "bottleneck":
            inner = _inner(width)
            self.prior = nn.Sequential(*_narrow(width, inner, norm))
            self.to_prior = _zero(nn.Conv2d(inner, 2 * latent_channels, 1))
            self.compare = nn.Sequential(*_narrow(2 * width, inner, norm))
            self.to_posterior = _zero(nn.Conv2d(inner, 2 * latent_channels, 1))
        else:
            self.prior = nn.Sequential(norm_layer(norm, width), nn.SiLU())
            self.to_prior = _zero(nn.Conv2d(width, 2 * latent_channels, 3, padding=1))
            self.compare = nn.Sequential(
                norm_layer(norm, 2 * width),
                nn.SiLU(),
                nn.Conv2d(2 * width, width, 3, padding=1),
                norm_layer(norm, width),
                nn.SiLU(),
            )
            self.to_posterior = _zero(nn.Conv2d(width, 2 * latent_channels, 3, padding=1))
        self.join = nn.Conv2d(latent_channels, width, 1)
        self.blocks = nn.Sequential(*(BLOCKS[block](width, norm) for _ in range(depth)))

    def posterior(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """State and features (n, width, s, s) -> shift and log_ratio (n, latent_channels, s, s)."""
        seen = self.compare(torch.cat([x, features], dim=1))
        shift, log_ratio = in_float32(self.to_posterior, seen).chunk(2, dim=1)
        return shift, _bounded(log_ratio)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """State and latents in the prior's units -> the next state."""
        mean, log_scale = in_float32(self.to_prior, self.prior(x)).chunk(2, dim=1)
        return self.blocks(x + self.join(mean + torch.exp(_bounded(log_scale)) * latents))


class Bottleneck(nn.Module):
    """x + a 1x1 convolution to a quarter of the channels, two 3x3, and a 1x1 back: (n, c, s, s).

    Pre-activated, and 1.625 c^2 weights in place of the 18 c^2 of Residual. Child 2021, figure 3.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        inner = _inner(channels)
        self.body = nn.Sequential(
            *_narrow(channels, inner, norm),
            nn.Conv2d(inner, channels, 1),
        )

    def forward(self, input: Tensor) -> Tensor:
        return input + self.body(input)


def _inner(channels: int) -> int:
    return max(1, channels // NARROWER)


def _narrow(channels: int, inner: int, norm: Norm) -> list[nn.Module]:
    """All of a bottleneck but its last convolution: (n, channels, s, s) -> (n, inner, s, s)."""
    layers: list[nn.Module] = []
    for width, kernel in ((channels, 1), (inner, 3), (inner, 3)):
        conv = nn.Conv2d(width, inner, kernel, padding=kernel // 2)
        layers += [norm_layer(norm, width), nn.SiLU(), conv]
    layers += [norm_layer(norm, inner), nn.SiLU()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            # He et al. 2015. After three of torch's default, what is left is a fifteenth of this:
            # posteriors begin nearly blind, and learn later (docs/train.md).
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layers


def _bounded(log_scale: Tensor) -> Tensor:
    return BOUND * torch.tanh(log_scale / BOUND)


def _entry(channels: int, width: int, halvings: int) -> list[nn.Module]:
    """Read images, halving their resolution so often."""
    if not halvings:
        return [nn.Conv2d(channels, width, 3, padding=1)]
    more = [layer for _ in range(halvings - 1) for layer in (nn.SiLU(), _down(width))]
    return [nn.Conv2d(channels, width, 4, stride=2, padding=1), *more]


def _exit(width: int, doublings: int) -> list[nn.Module]:
    """Double the resolution so often."""
    if not doublings:
        return [nn.Identity()]
    return [_up(width), *(layer for _ in range(doublings - 1) for layer in (nn.SiLU(), _up(width)))]


def _down(width: int) -> nn.Module:
    return nn.Conv2d(width, width, 4, stride=2, padding=1)


def _up(width: int) -> nn.Module:
    return nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)


def _pool(_: int) -> nn.Module:
    return nn.AvgPool2d(2)


def _repeat(_: int) -> nn.Module:
    return nn.Upsample(scale_factor=2)  # to the nearest neighbour


BLOCKS: dict[Block, type[Residual | Bottleneck]] = {
    "residual": Residual,
    "bottleneck": Bottleneck,
}
# Between scales. A convolution of 16 c^2 weights would be ten bottlenecks; VDVAE has none there.
HALVES = {"residual": _down, "bottleneck": _pool}
DOUBLES = {"residual": _up, "bottleneck": _repeat}


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _shrink(layers: list[nn.Module]) -> None:
    """Divide the weights of N summands by the root of N."""
    with torch.no_grad():
        for layer in layers:
            assert isinstance(layer, nn.Conv2d)
            layer.weight /= len(layers) ** 0.5


def _rungs(group: nn.Module) -> Iterator[Rung]:
    assert isinstance(group, nn.ModuleList)
    for rung in group:
        assert isinstance(rung, Rung)
        yield rung
