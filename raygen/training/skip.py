"""Updates that are left out: those whose gradient is too large, or not finite.

Child 2021 (VDVAE), section 3: a very deep VAE meets a batch, once in thousands, whose gradient
would undo what it has learnt. All is decided on the device, so that no step waits for the norm and
a captured one decides anew each time it is played.
"""

import torch
from torch import Tensor, nn

from raygen.training.optimizer import FusedAdam


class Skip:
    """Steps of an optimiser, but where the norm of the gradient is not below a threshold.

    A step that is left out leaves weights, running statistics and the state of the optimiser as
    they were, bit for bit.
    """

    def __init__(
        self, network: nn.Module, threshold: float, losses: int, device: torch.device
    ) -> None:
        """`threshold`: in the units of the loss, for a VAE nats per image. `losses`: how many."""
        self.threshold = threshold
        self.buffers = list(network.buffers())
        self.before = [buffer.clone() for buffer in self.buffers]
        # NaN: where the very first step gives no finite loss, there is nothing to go on from.
        self.last = torch.full((losses,), torch.nan, device=device)

    @torch.no_grad()
    def begin(self) -> None:
        """Note the running statistics, which a pass over bad images changes."""
        for before, buffer in zip(self.before, self.buffers, strict=True):
            before.copy_(buffer)

    @torch.no_grad()
    def step(self, adam: FusedAdam, norm: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Update or not, by the norm () of the gradient before it is clipped.

        Returns the losses (k,), and 1 if it was skipped, else 0. Of a skipped step, a loss that is
        not finite is that of the step before: else it would end the trial that this is to save.
        """
        skipped = ~(norm < self.threshold)  # so also where it is NaN
        adam.step_unless(skipped)
        for before, buffer in zip(self.before, self.buffers, strict=True):
            buffer.copy_(torch.where(skipped, before, buffer))
        losses = torch.where(skipped & ~losses.isfinite(), self.last, losses)
        self.last.copy_(losses)
        return losses, skipped.float()

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed trial must remember."""
        return {"losses": self.last.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore; in place, where a captured step reads."""
        self.last.copy_(state["losses"])
