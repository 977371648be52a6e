"""The exponential moving average of a network's weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from raygen.schedules import value_at
from raygen.trial import Ema


class Average:
    """A copy of a network that follows its weights with a half-life counted in images.

    The half-life is capped at `rampup` times the images seen, so that early averages are not held
    back by the random start. Karras et al. 2020 (ADA), official schedule.
    """

    def __init__(self, network: nn.Module, ema: Ema, follows: bool = False) -> None:
        """`follows`: whether the weight is read on the device, as a captured step needs it."""
        self.follows = follows
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life_kimg, self.rampup = ema.half_life_kimg, ema.rampup

    def weight(self, images_seen: int, images_added: int, share: float = 0.0) -> float:
        """How far towards the network the average moves in a step: 0 to 1.

        `share` of the budget that is used before it, for a half-life that follows a schedule.
        """
        half_life = min(1000 * value_at(self.half_life_kimg, share), self.rampup * images_seen)
        return 1.0 if half_life == 0 else 1 - 0.5 ** (images_added / half_life)

    @torch.no_grad()
    def update(self, source: nn.Module, weight: Tensor) -> None:
        """Move towards `source` by a weight (); its buffers (running statistics) are copied."""
        averages, sources = list(self.network.parameters()), list(source.parameters())
        every: Any = torch  # one launch over all; torch's own optimisers are made of these
        if self.follows:
            steps = every._foreach_sub(sources, averages)
            every._foreach_mul_(steps, weight)
            every._foreach_add_(averages, steps)
        else:
            every._foreach_lerp_(averages, sources, float(weight))
        for buffer, other in zip(self.network.buffers(), source.buffers(), strict=True):
            buffer.copy_(other)


class Averaged:
    """A learner whose samples are those of the averaged weights."""

    average: Average

    @property
    def parameters(self) -> int:
        """Numbers in the averaged weights, those of sampling."""
        return sum(parameter.numel() for parameter in self.average.network.parameters())

    def weights(self) -> dict[str, Any]:
        """What sampling needs."""
        return {"average": self.average.network.state_dict()}

    def load_weights(self, state: dict[str, Any]) -> None:
        """Restore what sampling needs."""
        self.average.network.load_state_dict(state["average"])
