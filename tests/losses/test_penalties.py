"""Penalties by a directional derivative are those of differentiating twice, for every network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raygen.compute import Compute
from raygen.losses.adversarial import PENALTIES
from raygen.training.gan import GanLearner
from raygen.trial import GanTrial, parse_trial

CPU = torch.device("cpu")
MODELS: dict[str, dict[str, Any]] = {
    "dcgan": {"name": "dcgan", "width": 8, "discriminator_norm": "layer"},
    "dcgan, spectral": {"name": "dcgan", "width": 8, "discriminator_norm": "spectral"},
    "sngan": {"name": "sngan", "width": 8, "discriminator_width": 8},
    "biggan": {"name": "biggan", "width": 8, "discriminator_width": 8},
    "r3gan": {"name": "r3gan", "width": 8, "growth": 1, "blocks": 1},
    "style_gan": {"name": "style_gan", "width": 8, "latent_dim": 8, "minibatch_std": 2},
    "style_gan, classes": {
        "name": "style_gan",
        "width": 8,
        "latent_dim": 8,
        "conditional": True,
        "residual": False,
    },
}
IMAGES = 4


def trial_of(model: str, penalty: str, **settings: Any) -> GanTrial:
    loss = {"name": "nonsaturating", "penalty": penalty, "penalty_weight": 1.0}
    trial = parse_trial({"family": "gan", "model": MODELS[model], "loss": loss, **settings})
    assert isinstance(trial, GanTrial)
    return trial


def make_inputs(kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    real, fake = torch.randn(2, IMAGES, 3, 32, 32, generator=random, dtype=torch.float64).to(kind)
    mix = torch.rand(IMAGES, 1, generator=random, dtype=torch.float64).to(kind)
    return real, fake, torch.arange(IMAGES) % 10, mix


def differentiated_twice(
    name: str, critic: Callable[[Tensor, Tensor], Tensor], *inputs: Tensor
) -> Tensor:
    """The penalties as their papers define them, by torch's own second derivatives."""
    real, fake, labels, mix = inputs
    mix = mix.view(-1, 1, 1, 1)

    def gradient(points: Tensor) -> Tensor:
        points = points.detach().requires_grad_()
        total = critic(points, labels).sum()
        return torch.autograd.grad(total, points, create_graph=True)[0].flatten(1)

    if name == "gradient_penalty":
        return (gradient(real + mix * (fake - real)).norm(dim=1) - 1).square().mean()
    sides = {"r1": [real], "r2": [fake], "r1_r2": [real, fake]}[name]
    return sum((gradient(side).square().sum(dim=1).mean() / 2 for side in sides), torch.zeros(()))


def gradients(value: Tensor, network: nn.Module) -> Tensor:
    """All of a network's gradients in one row, in float64."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    parts = torch.autograd.grad(value, weights, materialize_grads=True)
    return torch.cat([gradient.double().flatten() for gradient in parts])


def both(
    model: str, penalty: str, kind: torch.dtype, compute: Compute | None = None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Value and gradient of a penalty, as raygen computes it and differentiated twice."""
    learner = GanLearner(trial_of(model, penalty), 10, CPU, seed=0, compute=compute)
    network = learner.discriminator.to(kind)
    with torch.no_grad():
        for weight in network.parameters():  # gains of attention are 0 at first, and hide it
            weight.add_(torch.full_like(weight, 0.01))
    inputs = make_inputs(kind)
    assert learner.penalty is not None
    ours = learner.penalty(*inputs).value
    result = ours.detach(), gradients(ours, network)
    network.eval()
    theirs = differentiated_twice(penalty, network, *inputs)
    return result, (theirs.detach(), gradients(theirs, network))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("model", MODELS)
def test_value_and_gradient_are_those_of_differentiating_twice(model: str, penalty: str) -> None:
    (value, gradient), (expected, expected_gradient) = both(model, penalty, torch.float64)

    assert float(expected) > 0
    assert float(expected_gradient.norm()) > 0
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    assert (gradient - expected_gradient).norm() <= 1e-10 * expected_gradient.norm()


@pytest.mark.parametrize("penalty", ["r1", "r2", "r1_r2"])
@pytest.mark.parametrize("model", MODELS)
def test_what_a_penalty_scores_on_the_way_is_what_the_discriminator_says(
    model: str, penalty: str
) -> None:
    learner = GanLearner(trial_of(model, penalty), 10, CPU, seed=0)
    network = learner.discriminator.double()
    real, fake, labels, mix = make_inputs(torch.float64)
    assert learner.penalty is not None
    scored = learner.penalty(real, fake, labels, mix)
    expected = {"r1": [real], "r2": [fake], "r1_r2": [real, fake]}[penalty]
    found = [logits for logits in scored[1:] if logits is not None]

    assert (scored.real_logits is None, scored.fake_logits is None) == (
        penalty == "r2",
        penalty == "r1",
    )
    wanted = [network(images, labels) for images in expected]
    for logits, same in zip(found, wanted, strict=True):
        torch.testing.assert_close(logits, same, rtol=1e-12, atol=1e-12)
    ours, theirs = (gradients(torch.cat(x).square().sum(), network) for x in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_float32_rounds_no_more_than_float32_does(model: str) -> None:
    (_, gradient), (_, twice) = both(model, "r1_r2", torch.float32)
    _, (_, exact) = both(model, "r1_r2", torch.float64)

    error = (gradient - exact).norm() / exact.norm()
    assert error < 5e-6
    assert error < 3 * (twice - exact).norm() / exact.norm()
