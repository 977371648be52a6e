"""Each optimiser against torch's own, with rates and betas that change from step to step."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raygen.image_shape import CIFAR10
from raygen.models.dcgan import Dcgan
from raygen.training.optimizer import Optimizer, hidden_weights, make_optimizer
from raygen.trial import GanOptimizer, VaeOptimizer

RATES = [1e-2, 3e-3, 1e-3, 0.0, 2e-3]
BETAS = [(0.5, 0.9), (0.6, 0.95), (0.7, 0.99), (0.7, 0.99), (0.7, 0.99)]


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 5, 3), nn.SiLU(), nn.Flatten(),
        nn.Linear(80, 9), nn.SiLU(), nn.Linear(9, 1),
    )  # fmt: skip


def images(step: int) -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))


def train(net: nn.Module, ours: Optimizer, steps: range) -> None:
    for step in steps:
        ours.set_rate(RATES[step])
        ours.set_betas(*BETAS[step])
        ours.zero_grad()
        net(images(step)).square().mean().backward()
        ours.step()


def train_by_torch(net: nn.Module, theirs: list[torch.optim.Optimizer], betas: bool) -> None:
    for step, rate in enumerate(RATES):
        for optimizer in theirs:
            for group in optimizer.param_groups:
                group["lr"] = rate
                if betas and "betas" in group:
                    group["betas"] = BETAS[step]
            optimizer.zero_grad()
        net(images(step)).square().mean().backward()
        for optimizer in theirs:
            optimizer.step()


def made(settings: Any, net: nn.Module, tensors: bool = False) -> Optimizer:
    return make_optimizer(settings, net, RATES[0], BETAS[0], tensors)


def settings_of(name: str, decay: float = 0.0) -> VaeOptimizer:
    """Settings of an optimiser with a schedule of betas, where it takes one."""
    beta2 = 0.999 if name == "adamax" else {"schedule": "linear", "from": 0.9, "to": 0.99}
    return VaeOptimizer.model_validate({"name": name, "weight_decay": decay, "beta2": beta2})


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "muon"])
def test_steps_are_those_of_torch(name: str, tensors: bool) -> None:
    net, other = network(), network()
    decay = 0.0 if name == "adam" else 0.1
    parameters = list(other.parameters())
    theirs: list[torch.optim.Optimizer]
    if name == "adam":
        theirs = [torch.optim.Adam(parameters)]
    elif name == "adamw":
        theirs = [torch.optim.AdamW(parameters, weight_decay=decay)]
    elif name == "adamax":
        theirs = [torch.optim.Adamax(parameters, betas=BETAS[0])]
    else:
        # Convolutions as matrices that share their memory with them, as torch's Muon wants them.
        hidden = [other[2].weight, other[5].weight]  # pyright: ignore[reportIndexIssue]
        rest = [p for p in parameters if all(p is not weight for weight in hidden)]
        matrices = [weight.detach().flatten(1).requires_grad_() for weight in hidden]
        muon = torch.optim.Muon(matrices, weight_decay=decay, adjust_lr_fn="match_rms_adamw")

        class Both(torch.optim.AdamW):
            def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
                for matrix, weight in zip(matrices, hidden, strict=True):
                    matrix.grad = weight.grad.flatten(1)
                muon.param_groups[0]["lr"] = self.param_groups[0]["lr"]
                muon.step()
                super().step()
                for weight in hidden:
                    weight.grad = None

        theirs = [Both(rest, weight_decay=decay)]

    # Adamax without a decay: torch's is not decoupled.
    ours = made(settings_of(name, 0.0 if name == "adamax" else decay), net, tensors)
    train(net, ours, range(len(RATES)))
    train_by_torch(other, theirs, betas=name != "adamax")

    for one, two in zip(net.parameters(), parameters, strict=True):
        torch.testing.assert_close(one, two, rtol=2e-4, atol=2e-6)


def test_weight_decay_is_decoupled_from_the_gradient() -> None:
    """Where no gradient is, a weight shrinks by 1 - rate * decay in a step."""
    for name in ("adamw", "adamax", "muon"):
        net = network()
        before = copy.deepcopy(net)
        ours = made(VaeOptimizer(name=name, weight_decay=0.5), net)  # pyright: ignore[reportArgumentType]
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        ours.step()
        for one, two in zip(net.parameters(), before.parameters(), strict=True):
            torch.testing.assert_close(one, two * (1 - RATES[0] * 0.5))


@pytest.mark.parametrize("tensors", [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "muon"])
def test_training_goes_on_from_a_state_as_if_it_had_not_stopped(
    name: str, tensors: tuple[bool, bool]
) -> None:
    settings = settings_of(name)
    whole = network()
    first = made(settings, whole, tensors[0])
    train(whole, first, range(3))
    part, state = copy.deepcopy(whole), copy.deepcopy(first.state_dict())
    second = made(settings, part, tensors[1])
    second.load_state_dict(state)
    train(whole, first, range(3, 5))
    train(part, second, range(3, 5))

    for one, two in zip(whole.parameters(), part.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)


def test_muon_takes_the_matrices_between_the_first_layer_and_the_last() -> None:
    nets = Dcgan(latent_dim=8, width=4, conditional=True).build(CIFAR10, 10)
    for net in nets:
        weights = dict(net.named_parameters())
        hidden = [name for name, p in weights.items() if any(p is h for h in hidden_weights(net))]
        ends = [name for name in weights if name.endswith("weight") and weights[name].ndim > 1]

        assert len(hidden) >= 2
        assert not {ends[0], ends[-1]} & set(hidden)
        assert not any("embedding" in name or "bias" in name for name in hidden)


def test_an_update_of_muon_moves_the_directions_of_a_matrix_nearly_alike() -> None:
    """By 0.2 times the root of the longer side and the rate, where gradients differ by far more."""
    net = network()
    hidden = hidden_weights(net)
    before = [weight.detach().clone().flatten(1) for weight in hidden]
    ours = make_optimizer(GanOptimizer(name="muon"), net, 1e-3, (0.0, 0.9), tensors=False)
    net(images(0)).square().mean().backward()
    gradients = [weight.grad.flatten(1).clone() for weight in hidden if weight.grad is not None]
    ours.step()

    for weight, old, gradient in zip(hidden, before, gradients, strict=True):
        moved = weight.detach().flatten(1) - old
        scale = 0.2 * max(moved.shape) ** 0.5 * 1e-3
        singular, steep = (torch.linalg.svdvals(matrix) for matrix in (moved / scale, gradient))
        assert 0.6 < singular.max() < 1.35
        # The stable rank: of a matrix whose singular values are all the same, its rank.
        update, slope = ((s / s.max()).square().sum() for s in (singular, steep))
        assert update > 1.3 * slope
