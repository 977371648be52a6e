"""The exponential moving average of a network's weights."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from raygen.config import Ema


class Average:
    """A copy of a network that follows its weights with a half-life counted in images.

    The half-life is capped at `rampup` times the images seen, so that early averages are not held
    back by the random start. Karras et al. 2020 (ADA), official schedule.
    """

    def __init__(self, network: nn.Module, ema: Ema) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life, self.rampup = ema.half_life_kimg * 1000, ema.rampup

    @torch.no_grad()
    def update(self, source: nn.Module, images_seen: int, images_added: int) -> None:
        """Move towards `source`; its buffers (running statistics) are copied."""
        half_life = min(self.half_life, self.rampup * images_seen)
        weight = 1.0 if half_life == 0 else 1 - 0.5 ** (images_added / half_life)
        average = get_ema_multi_avg_fn(1 - weight)  # one fused update for all parameters
        average(list(self.network.parameters()), list(source.parameters()), 0)
        for buffer, other in zip(self.network.buffers(), source.buffers(), strict=True):
            buffer.copy_(other)
