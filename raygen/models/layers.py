"""Layers that two or more architectures use."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raygen.distributed import all_reduce_sum, world_size

Norm = Literal["none", "batch", "layer"]


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
        moments = torch.stack([input.mean(dim=(0, 2, 3)), input.square().mean(dim=(0, 2, 3))])
        mean, square = all_reduce_sum(moments) / world_size()
        var = square - mean.square()
        with torch.no_grad():
            count = input.numel() // input.shape[1] * world_size()
            unbiased = var * count / max(count - 1, 1)
            momentum = self.momentum or 0.1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(unbiased, momentum)
        # By hand: torch's batch_norm does not differentiate through statistics it is given.
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return input * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


class SpectralNorm(nn.Module):
    """A convolution or linear layer whose weight is divided by its largest singular value.

    One power iteration per training step. Miyato et al. 2018, algorithm 1. A plain module and
    not a parametrisation, so that copies of it stack and compile.
    """

    vector: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        rows = layer.weight.shape[0]
        self.register_buffer("vector", torch.full((rows,), rows**-0.5))

    def forward(self, input: Tensor) -> Tensor:
        weight = self.layer.weight
        matrix = weight.flatten(1)
        with torch.no_grad():
            right = F.normalize(matrix.mT @ self.vector, dim=0)
            left = F.normalize(matrix @ right, dim=0)
            if self.training:
                self.vector.copy_(left)
        scaled = weight / torch.dot(left, matrix @ right)
        if isinstance(self.layer, nn.Linear):
            return F.linear(input, scaled, self.layer.bias)
        layer = self.layer
        return F.conv2d(input, scaled, layer.bias, layer.stride, layer.padding)  # pyright: ignore[reportArgumentType]


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """Return the normalisation of that name; "layer" is one group over all channels."""
    if kind == "batch":
        return BatchNorm2d(channels)
    if kind == "layer":
        return nn.GroupNorm(1, channels)
    return nn.Identity()


def init_normal(module: nn.Module) -> None:
    """Draw convolution and linear weights from N(0, 0.02). Radford et al. 2016, section 3."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
