"""GAN losses and gradient penalties. Logits are unbounded scores (n,); large means "real"."""

import math
import warnings
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, PositiveInt, model_validator
from torch import Tensor

from raygen.plugins import Registry
from raygen.schedules import Positive
from raygen.spec import Spec, key_of, mistake_at

Critic = Callable[[Tensor], Tensor]  # images (n, 3, 32, 32) -> logits (n,), by image or group


class GanLoss(NamedTuple):
    """Two scalar losses of (real logits, fake logits), both minimised.

    `chance` is the discriminator's loss at its best when real and generated images cannot be told
    apart; None if the loss has no such scale.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    chance: float | None
    pairs: bool = False  # whether the generator's side looks at the real logits


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), with D = sigmoid(logit). Goodfellow et al. 2014, eq. 1."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def minimax_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E log(1 - D(G(z))), the generator's side of the same game. Goodfellow et al. 2014, eq. 1."""
    return -F.softplus(fake).mean()


def nonsaturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(G(z)): same fixed point, gradient where D wins. Goodfellow et al. 2014, sec. 3."""
    return F.softplus(-fake).mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Lim and Ye 2017; Miyato et al. 2018, eq. 16."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Mao et al. 2017, eq. 9, with targets 1 (real) and 0 (fake)."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    """Mao et al. 2017, eq. 9."""
    return 0.5 * (fake - 1).square().mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) - E D(x). Arjovsky et al. 2017, eq. 2; D must be kept Lipschitz."""
    return fake.mean() - real.mean()


def linear_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E D(G(z)): the generator's side of the hinge and the Wasserstein loss."""
    return -fake.mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigmoid(D(x) - D(G(z))), in pairs. Jolicoeur-Martineau 2019, RSGAN."""
    return F.softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigmoid(D(G(z)) - D(x)), in pairs. Jolicoeur-Martineau 2019, RSGAN."""
    return F.softplus(real - fake).mean()


ADVERSARIAL = Registry(GanLoss, {
    "minimax": GanLoss(logistic_discriminator, minimax_generator, 2 * math.log(2)),
    "nonsaturating": GanLoss(logistic_discriminator, nonsaturating_generator, 2 * math.log(2)),
    "hinge": GanLoss(hinge_discriminator, linear_generator, 2.0),
    "least_squares": GanLoss(least_squares_discriminator, least_squares_generator, 0.25),
    "wasserstein": GanLoss(wasserstein_discriminator, linear_generator, None),
    "relativistic": GanLoss(
        relativistic_discriminator, relativistic_generator, math.log(2), pairs=True
    ),
})  # fmt: skip


class Penalty(NamedTuple):
    """A penalty (), and the logits (n,) of images that it scored on the way, for the loss."""

    value: Tensor
    real_logits: Tensor | None = None
    fake_logits: Tensor | None = None


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Penalty:
    """E (||grad D(x')|| - 1)^2, x' between real and fake. Gulrajani et al. 2017, eq. 3.

    `mix` (n,) in [0, 1] says where between them.
    """

    def excess(gradient: Tensor) -> tuple[Tensor, Tensor]:
        norm = gradient.flatten(1).norm(dim=1)
        # Of a norm the derivative is the direction, and 0 where there is none.
        pull = torch.where(norm > 0, 2 * (norm - 1) / norm, 0.0)
        return (norm - 1).square(), pull.view(-1, 1, 1, 1) * gradient

    mix = mix.view(-1, 1, 1, 1)
    return Penalty(_mean_of_gradients(critic, real + mix * (fake - real), excess)[0])


def r1(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Penalty:
    """E ||grad D(x)||^2 / 2 at real images. Mescheder et al. 2018, eq. 9 (without gamma)."""
    value, logits = _mean_of_gradients(critic, real, _half_square)
    return Penalty(value, real_logits=logits)


def r2(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Penalty:
    """E ||grad D(G(z))||^2 / 2 at generated images. Mescheder et al. 2018, eq. 10."""
    value, logits = _mean_of_gradients(critic, fake, _half_square)
    return Penalty(value, fake_logits=logits)


def r1_r2(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Penalty:
    """Both, as the relativistic loss needs them to converge. Huang et al. 2024, section 2."""
    value, logits = _mean_of_gradients(critic, torch.cat([real, fake]), _half_square)
    return Penalty(2 * value, *logits.chunk(2))


PENALTIES: Registry[Callable[[Critic, Tensor, Tensor, Tensor], Penalty]] = Registry(
    FunctionType, {"gradient_penalty": gradient_penalty, "r1": r1, "r2": r2, "r1_r2": r1_r2}
)


def _half_square(gradient: Tensor) -> tuple[Tensor, Tensor]:
    return 0.5 * gradient.square().flatten(1).sum(dim=1), gradient


def _mean_of_gradients(
    critic: Critic, images: Tensor, measure: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """E f(g) with g = grad D(x), for a `measure` that returns f(g) (n,) and f'(g), as g; and D(x).

    Its derivative by the weights is that of f'(g) . grad D(x) with f'(g) held fixed, and
    f'(g) . grad D(x) is how fast D changes in the direction f'(g) (Pearlmutter 1994). So one
    forward pass with tangents and one ordinary backward take the place of differentiating twice:
    convolutions are slow to differentiate twice, above all grouped ones. The pass with tangents
    gives D(x), too, so that a loss of the same images needs no pass of its own. The critic treats
    every image alone, or by groups: then g is the gradient of the sum of D(x) over all images, as
    it is where StyleGAN2 compares images, and the same holds of it.
    """
    points = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).sum(), points)
    values, direction = measure(gradient)
    points = points.detach()
    scored: Any = torch.func.jvp(critic, (points,), (direction / len(points),))
    logits, slope = scored[0], scored[1].sum()
    return values.mean() + (slope - slope.detach()), logits


@cache
def load_tangents() -> None:
    """Make torch load what it needs for tangents, without what it says of itself in doing so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated", FutureWarning)
        zero = torch.zeros(())
        torch.func.jvp(torch.sin, (zero,), (zero,))


class AdversarialLoss(Spec):
    """Which game the two networks play, and what keeps the discriminator smooth.

    With a `penalty_interval` of k the penalty is computed in every k-th step of the discriminator
    and weighs k times as much ("lazy", Karras et al. 2020 a, appendix B).
    """

    name: Annotated[str, AfterValidator(key_of(ADVERSARIAL))] = "nonsaturating"
    penalty: Annotated[str, AfterValidator(key_of(PENALTIES))] | None = None
    penalty_weight: Positive | None = None
    penalty_interval: PositiveInt = 1

    @model_validator(mode="after")
    def _both_or_neither(self) -> "AdversarialLoss":
        if (self.penalty is None) != (self.penalty_weight is None):
            given = "penalty_weight" if self.penalty is None else "penalty"
            rule = "penalty and penalty_weight go together"
            raise mistake_at(rule, getattr(self, given), given)
        if self.penalty is None and self.penalty_interval != 1:
            raise mistake_at("needs a penalty", self.penalty_interval, "penalty_interval")
        return self
