"""Layers that two or more architectures use."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raygen.distributed import all_reduce_sum, rank, world_size
from raygen.image_shape import ImageShape

Norm = Literal["none", "batch", "layer"]
CriticNorm = Literal["none", "layer", "spectral"]  # of a discriminator that mixes no images


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the global batch: the statistics are those of all ranks together.

    torch's SyncBatchNorm refuses CPU tensors; this one runs on gloo and NCCL, so that two workers
    with batches of 32 equal one with 64 on every device.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        whole = input.float() if input.dtype == torch.bfloat16 else input
        own = torch.stack(torch.var_mean(whole, dim=(0, 2, 3), correction=0))
        # Those of every rank: the mean square less the squared mean has no digits left where
        # the mean is large.
        mine = [
            own if number == rank() else torch.zeros_like(own) for number in range(world_size())
        ]
        within, means = all_reduce_sum(torch.stack(mine)).unbind(dim=1)
        mean = means.mean(dim=0)
        var = within.mean(dim=0) + (means - mean).square().mean(dim=0)
        with torch.no_grad():
            count = input.numel() // input.shape[1] * world_size()
            unbiased = var * count / max(count - 1, 1)
            momentum = self.momentum or 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(unbiased, momentum)
        # By hand: torch's batch_norm does not differentiate through statistics it is given.
        scale = torch.rsqrt(var + self.eps)
        if self.affine:
            scale = self.weight * scale
        shift = -mean * scale
        if self.affine:
            shift = self.bias + shift
        return (input * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(input.dtype)


class SpectralNorm(nn.Module):
    """A convolution, linear layer or embedding: weight divided by its largest singular value.

    Miyato et al. 2018, algorithm 1, whose power iteration is made once in each step of training, by
    `iterate`. A pass changes nothing, so that several may come before their backward, compiled or
    not. A plain module and not a parametrisation, so that copies of it stack and compile.
    """

    vector: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear | nn.Embedding) -> None:
        super().__init__()
        self.layer = layer
        rows = layer.weight.shape[0]
        self.register_buffer("vector", torch.full((rows,), rows**-0.5))

    def forward(self, input: Tensor) -> Tensor:
        weight = self.layer.weight
        matrix = weight.flatten(1)
        # In bfloat16 the singular value would be known to 1%, and jump from step to step.
        with torch.autocast(input.device.type, enabled=False):
            left, right = self._singular_vectors(matrix)
            scaled = weight / torch.dot(left, matrix @ right)
        layer = self.layer
        if isinstance(layer, nn.Linear):
            return F.linear(input, scaled, layer.bias)
        if isinstance(layer, nn.Embedding):
            return F.embedding(input, scaled)
        return F.conv2d(input, scaled, layer.bias, layer.stride, layer.padding)  # pyright: ignore[reportArgumentType]

    def iterate(self) -> None:
        """Make the power iteration of a step."""
        # In place: a captured step keeps the address.
        self.vector.copy_(self._singular_vectors(self.layer.weight.flatten(1))[0])

    @torch.no_grad()
    def _singular_vectors(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        right = F.normalize(matrix.mT @ self.vector, dim=0)
        return F.normalize(matrix @ right, dim=0), right


def spectral_layers(network: nn.Module) -> list[SpectralNorm]:
    """Every layer whose power iteration a step of training has to make."""
    return [module for module in network.modules() if isinstance(module, SpectralNorm)]


class ResidualUp(nn.Module):
    """Twice the resolution: up(conv(x)) + conv(relu(norm(conv(up(relu(norm(x))))))).

    Miyato et al. 2018, appendix B.4. `norm` makes, for a number of channels, a module that is
    called with images and the condition.
    """

    def __init__(
        self, channels: int, out: int, norm: Callable[[int], nn.Module], spectral: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.conv1 = spectral_if(spectral, nn.Conv2d(channels, out, 3, padding=1))
        self.norm2 = norm(out)
        self.conv2 = spectral_if(spectral, nn.Conv2d(out, out, 3, padding=1))
        self.shortcut = spectral_if(spectral, nn.Conv2d(channels, out, 1))

    def forward(self, input: Tensor, condition: Tensor) -> Tensor:
        x = F.interpolate(F.relu(self.norm1(input, condition)), scale_factor=2)
        x = self.conv2(F.relu(self.norm2(self.conv1(x), condition)))
        # Copying pixels and a 1x1 convolution commute: before, it costs a quarter.
        return x + F.interpolate(self.shortcut(input), scale_factor=2)


class ResidualDown(nn.Module):
    """The discriminator's block: shortcut + conv(relu(norm(conv(relu(norm(x)))))), then halved.

    Miyato et al. 2018, appendix B.4. The `first` block reads pixels, which have no sign to cut.
    """

    def __init__(
        self, channels: int, out: int, norm: CriticNorm, halve: bool = True, first: bool = False
    ) -> None:
        super().__init__()
        spectral, kind = norm == "spectral", "layer" if norm == "layer" else "none"
        self.halve = halve
        self.before = (
            nn.Identity() if first else nn.Sequential(norm_layer(kind, channels), nn.ReLU())
        )
        self.conv1 = spectral_if(spectral, nn.Conv2d(channels, out, 3, padding=1))
        self.between = nn.Sequential(norm_layer(kind, out), nn.ReLU())
        self.conv2 = spectral_if(spectral, nn.Conv2d(out, out, 3, padding=1))
        same = channels == out and not halve
        self.shortcut = (
            nn.Identity() if same else spectral_if(spectral, nn.Conv2d(channels, out, 1))
        )

    def forward(self, input: Tensor) -> Tensor:
        x = self.conv2(self.between(self.conv1(self.before(input))))
        if not self.halve:
            return x + self.shortcut(input)
        # As in ResidualUp: averages and a 1x1 convolution commute.
        return F.avg_pool2d(x, 2) + self.shortcut(F.avg_pool2d(input, 2))


class ProjectionHead(nn.Module):
    """Features (n, c) and labels (n,) -> logits (n,), in float32; without classes, only linear.

    <weight + embedding(label), features> + bias. Miyato and Koyama 2018, section 3.
    """

    def __init__(self, features: int, classes: int, spectral: bool = False) -> None:
        super().__init__()
        self.linear = spectral_if(spectral, nn.Linear(features, 1))
        self.embedding = None
        if classes:
            embedding = nn.Embedding(classes, features)
            # From N(0, 1) a random class score would drown the other one for thousands of steps.
            nn.init.normal_(embedding.weight, 0.0, features**-0.5)
            self.embedding = spectral_if(spectral, embedding)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        logits = in_float32(self.linear, features).squeeze(1)
        if self.embedding is not None:
            logits = logits + (features * in_float32(self.embedding, labels)).sum(dim=1)
        return logits


def residual_widths(width: int, image: ImageShape) -> list[int]:
    """Channels of residual networks at 4x4, 8x8 and so on: `width`, beyond 32x32 half at each."""
    return [max(1, width >> max(0, doublings - 3)) for doublings in range(image.halvings + 1)]


def double(images: Tensor) -> Tensor:
    """Twice the resolution, bilinear: (n, c, h, w) -> (n, c, 2h, 2w).

    Copied pixels, averaged with their neighbours twice. torch's own bilinear resampling adds up
    gradients on CUDA in no fixed order.
    """
    x = F.interpolate(images, scale_factor=2)
    x = F.avg_pool2d(x, 2, stride=1, padding=1, count_include_pad=False)
    return F.avg_pool2d(x, 2, stride=1)


def halve(images: Tensor) -> Tensor:
    """Half the resolution, bilinear: each new pixel lies in the middle of four."""
    return F.avg_pool2d(images, 2)


def modulate(input: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Scale by 1 + gain and shift, per image and channel: (n, c, h, w), (n, c), (n, c).

    After a normalisation without weights this is a conditional one. de Vries et al. 2017.
    """
    return (input * (1 + gain[:, :, None, None]) + bias[:, :, None, None]).to(input.dtype)


def relu_sum(input: Tensor) -> Tensor:
    """Sum of the positive parts over all pixels: (n, c, h, w) -> (n, c)."""
    return F.relu(input).sum(dim=(2, 3))


def spectral_if(wanted: bool, layer: nn.Conv2d | nn.Linear | nn.Embedding) -> nn.Module:
    """Return the layer, with spectral normalisation if that is wanted."""
    return SpectralNorm(layer) if wanted else layer


def in_float32(layer: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    """Apply a layer outside of autocast: the last one of a network, whose output is not rounded."""
    with torch.autocast(input.device.type, enabled=False):
        return layer(input.float() if input.dtype == torch.bfloat16 else input)


def norm_layer(kind: Norm, channels: int, affine: bool = True) -> nn.Module:
    """Return the normalisation of that name; "layer" is one group over all channels."""
    if kind == "batch":
        return BatchNorm2d(channels, affine=affine)
    if kind == "layer":
        return nn.GroupNorm(1, channels, affine=affine)
    return nn.Identity()


def init_normal(module: nn.Module) -> None:
    """Draw convolution and linear weights from N(0, 0.02). Radford et al. 2016, section 3."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
