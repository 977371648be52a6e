"""Optimisers whose rate a captured step can follow: Adam and AdamW, Adamax, Muon."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raygen.schedules import value_at
from raygen.training.rate import rate
from raygen.trial import GanOptimizer, VaeOptimizer

Rate = tuple[float, tuple[float, float]]  # and betas


class Optimizer(Protocol):
    """What a learner needs of its optimiser; checkpoints hold rates and betas as numbers."""

    def set_rate(self, lr: float) -> None:
        """Change the learning rate."""
        ...

    def set_betas(self, beta1: float, beta2: float) -> None:
        """Change how fast the moments forget."""
        ...

    def zero_grad(self) -> None: ...
    def step(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def make_optimizer(
    settings: GanOptimizer | VaeOptimizer,
    network: nn.Module,
    lr: float,
    betas: tuple[float, float],
    tensors: bool,
) -> Optimizer:
    """Make the optimiser of a network that `settings` name, at its first rate and betas.

    With `tensors`, what a schedule changes is read on the device of the network.
    """
    decay = settings.weight_decay

    def adam(parameters: list[nn.Parameter]) -> FusedAdam:
        if tensors and not settings.betas_are_numbers:
            return ScheduledAdam(parameters, lr, betas, decay)
        return FusedAdam(parameters, lr, betas, tensors, decay)

    if settings.name == "muon":
        hidden = hidden_weights(network)
        rest = [p for p in network.parameters() if all(p is not weight for weight in hidden)]
        muon = torch.optim.Muon(
            shadows := [torch.zeros_like(w.flatten(1)) for w in hidden], lr=1.0, weight_decay=0.0,
            momentum=settings.momentum, adjust_lr_fn="match_rms_adamw",
        )  # fmt: skip
        return Muon(adam(rest), RateApart(muon, hidden, shadows, lr, decay))
    if settings.name == "adamax":
        parameters = list(network.parameters())
        shadows = [torch.zeros_like(p) for p in parameters]
        capturable = tensors and parameters[0].device.type == "cuda"
        adamax = torch.optim.Adamax(shadows, 1.0, betas, foreach=True, capturable=capturable)
        return RateApart(adamax, parameters, shadows, lr, decay)
    return adam(list(network.parameters()))


def rates_at(settings: GanOptimizer | VaeOptimizer, share: float) -> list[Rate]:
    """Rate and betas of each optimiser after a share of the budget, 0 to 1."""
    factor = rate(settings.decay, share)
    betas = value_at(settings.beta1, share), value_at(settings.beta2, share)
    return [(factor * value_at(lr, share), betas) for lr in settings.rates]


def set_rates(
    settings: GanOptimizer | VaeOptimizer, optimizers: Sequence[Optimizer], share: float
) -> None:
    """Give optimisers, in the order of their rates, what they have after a share of the budget."""
    if settings.constant:
        return
    for optimizer, (lr, betas) in zip(optimizers, rates_at(settings, share), strict=True):
        optimizer.set_rate(lr)
        optimizer.set_betas(*betas)


class FusedAdam(torch.optim.Adam):
    """Kingma and Ba 2015; with a weight `decay` AdamW, Loshchilov and Hutter 2019. One launch.

    With `tensors`, the rate is a tensor on the device of the network.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float],
        tensors: bool,
        decay: float = 0.0,
    ) -> None:
        self.device, self.follows, self.lr = parameters[0].device, tensors, lr
        # torch accepts `capturable` on accelerators only; elsewhere a rate in a tensor is enough.
        super().__init__(
            parameters, lr, betas, fused=True, capturable=tensors and self.device.type == "cuda",
            weight_decay=decay, decoupled_weight_decay=decay > 0,
        )  # fmt: skip
        self._to_device()

    def set_rate(self, lr: float) -> None:
        """Change the learning rate."""
        group, self.lr = self.param_groups[0], lr
        if self.follows:
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr

    def set_betas(self, beta1: float, beta2: float) -> None:
        """Change how fast the moments forget; the correction of their bias goes with it."""
        self.param_groups[0]["betas"] = beta1, beta2

    def _to_device(self) -> None:
        if self.follows:
            self.param_groups[0]["lr"] = torch.tensor(self.lr, device=self.device)

    def step_unless(self, skipped: Tensor) -> None:
        """Step; where `skipped` () is true, leave weights, moments and step counts as they are."""
        # What a GradScaler tells the fused kernels: they look at it on the device.
        self.found_inf = skipped.float()
        self.step()
        self.found_inf = None

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        (group,) = state["param_groups"]
        # The rate is not read from the device, which would have to be waited for; and another
        # device goes on from here.
        return {**state, "param_groups": [{**group, "lr": self.lr, "capturable": False}]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        capturable = self.param_groups[0]["capturable"]
        super().load_state_dict(state_dict)
        group = self.param_groups[0]
        group["capturable"], self.lr = capturable, float(group["lr"])
        self._to_device()


class ScheduledAdam(FusedAdam):
    """Adam with its betas, too, as tensors that a captured step follows; a dozen launches.

    torch's kernels take betas as numbers: the fused one always, and what is left reads tensors
    back from the device, which a capture refuses.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float],
        decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, betas, tensors=True, decay=decay)
        # beta1, beta2, and their logarithms, which are taken at twice the precision.
        self.numbers = [torch.zeros((), device=self.device) for _ in range(4)]
        self.set_betas(*betas)

    def set_betas(self, beta1: float, beta2: float) -> None:
        super().set_betas(beta1, beta2)
        logs = (math.log(beta) if beta else -math.inf for beta in (beta1, beta2))
        for tensor, number in zip(self.numbers, (beta1, beta2, *logs), strict=True):
            tensor.fill_(number)

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every parameter that has a gradient."""
        every: Any = torch
        group = self.param_groups[0]
        beta1, beta2, *logs = self.numbers
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        grads = [parameter.grad for parameter in parameters]
        counts, means, squares = zip(*map(self._moments, parameters), strict=True)
        every._foreach_add_(counts, 1)
        every._foreach_mul_(means, beta1)
        every._foreach_add_(means, every._foreach_mul(grads, 1 - beta1))
        every._foreach_mul_(squares, beta2)
        every._foreach_addcmul_(squares, grads, every._foreach_mul(grads, 1 - beta2))
        # What moments lack that began at 0: beta^t - 1, exact also for a beta near 1.
        mean_bias, square_bias = (
            every._foreach_expm1(every._foreach_mul(counts, log)) for log in logs
        )
        every._foreach_neg_(square_bias)
        roots = every._foreach_sqrt(squares)
        every._foreach_div_(roots, every._foreach_sqrt(square_bias))
        every._foreach_add_(roots, group["eps"])
        every._foreach_mul_(roots, mean_bias)
        if group["weight_decay"]:
            every._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        updates = every._foreach_div(means, roots)
        every._foreach_mul_(updates, group["lr"])
        every._foreach_add_(parameters, updates)

    def _moments(self, parameter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The number of steps and both moments of a parameter, as torch's Adam keeps them."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=self.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state["step"], state["exp_avg"], state["exp_avg_sq"]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.set_betas(*self.param_groups[0]["betas"])


class RateApart:
    """An optimiser of torch's that takes its rate as a number, with the rate as a tensor.

    It runs at a rate of 1 on `shadows` that are zero and have the gradients of the parameters:
    what it makes of them is the update, which is then multiplied by the rate.
    """

    def __init__(
        self,
        inner: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        shadows: Sequence[Tensor],
        lr: float,
        decay: float,
    ) -> None:
        self.inner, self.parameters, self.shadows = inner, list(parameters), list(shadows)
        self.lr, self.decay = lr, decay
        self.rate = torch.tensor(lr, device=shadows[0].device)

    def set_rate(self, lr: float) -> None:
        """Change the learning rate."""
        self.lr = lr
        self.rate.fill_(lr)

    def set_betas(self, beta1: float, beta2: float) -> None:
        """Nothing: they are numbers here, and the same throughout."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        every: Any = torch
        for parameter, shadow in zip(self.parameters, self.shadows, strict=True):
            grad = parameter.grad
            shadow.grad = None if grad is None else grad.reshape(shadow.shape)
        self.inner.step()
        if self.decay:
            every._foreach_mul_(self.parameters, 1 - self.rate * self.decay)
        every._foreach_mul_(self.shadows, self.rate)
        updates = [s.view(p.shape) for s, p in zip(self.shadows, self.parameters, strict=True)]
        every._foreach_add_(self.parameters, updates)
        every._foreach_zero_(self.shadows)

    def state_dict(self) -> dict[str, Any]:
        """The state of the inner optimiser, and the rate."""
        return {**self.inner.state_dict(), "lr": self.lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it; what belongs to one device stays that of this one."""
        groups = self.inner.state_dict()["param_groups"]
        self.inner.load_state_dict({"state": state_dict["state"], "param_groups": groups})
        self.set_rate(state_dict["lr"])


class Muon:
    """Muon for the matrices of hidden layers, Adam for all else. Jordan et al. 2024.

    A convolution is the matrix of its output channels. Updates are scaled to the size of AdamW's
    (Liu et al. 2025, "Muon is scalable", section 2.2), so that one rate is that of both.
    """

    def __init__(self, adam: FusedAdam, hidden: RateApart) -> None:
        self.parts: dict[str, FusedAdam | RateApart] = {"adam": adam, "hidden": hidden}

    def set_rate(self, lr: float) -> None:
        """Change the learning rate."""
        for part in self.parts.values():
            part.set_rate(lr)

    def set_betas(self, beta1: float, beta2: float) -> None:
        """Change how fast Adam's moments forget."""
        self.parts["adam"].set_betas(beta1, beta2)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad()

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])


def hidden_weights(network: nn.Module) -> list[nn.Parameter]:
    """Weights that Muon is for: matrices and convolutions between the first layer and the last.

    Not biases, gains, embeddings and learnt constants. Jordan et al. 2024.
    """
    lookups = [m.weight for m in network.modules() if isinstance(m, nn.Embedding)]
    weights = [
        parameter
        for name, parameter in network.named_parameters()
        if name.endswith("weight")
        and parameter.ndim in (2, 4)
        and not any(parameter is lookup for lookup in lookups)
    ]
    return [weight for weight in weights[1:-1] if min(weight.flatten(1).shape) > 1]


def is_optimizer_state(state: Any) -> bool:
    """Whether it is what `state_dict` of one of these returns, as far as its shape tells."""
    if not isinstance(state, dict) or not state:
        return False
    if isinstance(state.get("state"), dict) and isinstance(state.get("param_groups"), list):
        return True
    return all(map(is_optimizer_state, state.values()))
