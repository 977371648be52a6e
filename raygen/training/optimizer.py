"""Adam in one launch, with a learning rate that a captured step can follow."""

from typing import Any

import torch
from torch import Tensor, nn


class FusedAdam(torch.optim.Adam):
    """Kingma and Ba 2015. With `capturable`, the rate is a tensor on the device of the network.

    Checkpoints hold the rate as a number either way, so that one device goes on from another.
    """

    def __init__(
        self, network: nn.Module, lr: float, betas: tuple[float, float], capturable: bool
    ) -> None:
        parameters = list(network.parameters())
        self.device, self.follows, self.lr = parameters[0].device, capturable, lr
        # torch accepts `capturable` on accelerators only; elsewhere a rate in a tensor is enough.
        super().__init__(
            parameters, lr, betas, fused=True,
            capturable=capturable and self.device.type == "cuda",
        )  # fmt: skip
        if capturable:
            self.param_groups[0]["lr"] = torch.tensor(lr, device=self.device)

    def set_rate(self, lr: float) -> None:
        """Change the learning rate."""
        group, self.lr = self.param_groups[0], lr
        if self.follows:
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr

    def step_unless(self, skipped: Tensor) -> None:
        """Step; where `skipped` () is true, leave weights, moments and step counts as they are."""
        # What a GradScaler tells the fused kernels: they look at it on the device.
        self.found_inf = skipped.float()
        self.step()
        self.found_inf = None

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        (group,) = state["param_groups"]
        # Not read from the device, which would have to be waited for.
        return {**state, "param_groups": [{**group, "lr": self.lr, "capturable": False}]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        capturable = self.param_groups[0]["capturable"]
        super().load_state_dict(state_dict)
        group = self.param_groups[0]
        group["capturable"], self.lr = capturable, float(group["lr"])
        if self.follows:
            group["lr"] = torch.tensor(self.lr, device=self.device)
