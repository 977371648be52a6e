"""GAN losses and gradient penalties. Logits are unbounded scores (n,); large means "real"."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, PositiveFloat, model_validator
from torch import Tensor

from raygen.spec import Spec, key_of

Critic = Callable[[Tensor], Tensor]  # images (n, 3, 32, 32) -> logits (n,)


class GanLoss(NamedTuple):
    """Two scalar losses, both minimised."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # (real logits, fake logits)
    generator: Callable[[Tensor], Tensor]  # (fake logits)


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), with D = sigmoid(logit). Goodfellow et al. 2014, eq. 1."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def minimax_generator(fake: Tensor) -> Tensor:
    """E log(1 - D(G(z))), the generator's side of the same game. Goodfellow et al. 2014, eq. 1."""
    return -F.softplus(fake).mean()


def nonsaturating_generator(fake: Tensor) -> Tensor:
    """-E log D(G(z)): same fixed point, gradient where D wins. Goodfellow et al. 2014, sec. 3."""
    return F.softplus(-fake).mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Lim and Ye 2017; Miyato et al. 2018, eq. 16."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Mao et al. 2017, eq. 9, with targets 1 (real) and 0 (fake)."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def least_squares_generator(fake: Tensor) -> Tensor:
    """Mao et al. 2017, eq. 9."""
    return 0.5 * (fake - 1).square().mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) - E D(x). Arjovsky et al. 2017, eq. 2; D must be kept Lipschitz."""
    return fake.mean() - real.mean()


def linear_generator(fake: Tensor) -> Tensor:
    """-E D(G(z)): the generator's side of the hinge and the Wasserstein loss."""
    return -fake.mean()


ADVERSARIAL = {
    "minimax": GanLoss(logistic_discriminator, minimax_generator),
    "nonsaturating": GanLoss(logistic_discriminator, nonsaturating_generator),
    "hinge": GanLoss(hinge_discriminator, linear_generator),
    "least_squares": GanLoss(least_squares_discriminator, least_squares_generator),
    "wasserstein": GanLoss(wasserstein_discriminator, linear_generator),
}


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E (||grad D(x')|| - 1)^2, x' between real and fake. Gulrajani et al. 2017, eq. 3.

    `mix` (n,) in [0, 1] says where between them.
    """
    mix = mix.view(-1, 1, 1, 1)
    norms = _input_gradient(critic, real + mix * (fake - real)).flatten(1).norm(dim=1)
    return (norms - 1).square().mean()


def r1(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E ||grad D(x)||^2 / 2 at real images. Mescheder et al. 2018, eq. 9 (without gamma)."""
    return 0.5 * _input_gradient(critic, real).square().flatten(1).sum(dim=1).mean()


PENALTIES = {"gradient_penalty": gradient_penalty, "r1": r1}


def _input_gradient(critic: Critic, images: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    return torch.autograd.grad(critic(images).sum(), images, create_graph=True)[0]


class AdversarialLoss(Spec):
    """Which game the two networks play, and what keeps the discriminator smooth."""

    name: Annotated[str, AfterValidator(key_of(ADVERSARIAL))] = "nonsaturating"
    penalty: Annotated[str, AfterValidator(key_of(PENALTIES))] | None = None
    penalty_weight: PositiveFloat | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> "AdversarialLoss":
        if (self.penalty is None) != (self.penalty_weight is None):
            raise ValueError("penalty and penalty_weight go together")
        return self
