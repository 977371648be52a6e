"""The probability of augmentation, driven by how far the discriminator overfits (ADA)."""

from typing import Any

import torch
from torch import Tensor

from raygen.distributed import all_reduce_sum, world_size
from raygen.trial import Adaptive

EVERY = 4  # steps of the discriminator between two looks; Karras et al. 2020 b, appendix D


class AdaptiveProbability:
    """Karras et al. 2020 b, section 3.1, with r_t = E[sign(D(real))] as the sign of overfitting.

    All of it stays on the device, changed in place, so that a captured step can hold it.
    """

    def __init__(self, settings: Adaptive, batch_size: int, device: torch.device) -> None:
        """`batch_size`: images of one step of the discriminator, over all ranks."""
        self.target = settings.target
        self.move = EVERY * batch_size / (1000 * settings.kimg)
        self.p, self.signs, self.steps = (torch.zeros((), device=device) for _ in range(3))

    @torch.no_grad()
    def update(self, sign: Tensor) -> None:
        """Take in a step: the mean sign () of this rank's logits of real images."""
        self.signs.add_(all_reduce_sum(sign) / world_size())
        self.steps.add_(1)
        due = self.steps >= EVERY
        direction = torch.sign(self.signs / self.steps - self.target)
        self.p.add_(direction * due * self.move).clamp_(0, 1)
        self.signs.mul_(~due)
        self.steps.mul_(~due)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors ()."""
        return {"p": self.p, "signs": self.signs, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore everything."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(torch.as_tensor(state[name]))
