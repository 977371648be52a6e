"""GAN losses against their formulas, and penalties against the closed forms of a linear critic."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from raygen.losses.adversarial import (
    ADVERSARIAL,
    PENALTIES,
    AdversarialLoss,
    gradient_penalty,
    hinge_discriminator,
    least_squares_discriminator,
    least_squares_generator,
    linear_generator,
    logistic_discriminator,
    minimax_generator,
    nonsaturating_generator,
    r1,
    wasserstein_discriminator,
)

REAL = np.array([-3.0, -0.5, 0.0, 0.2, 4.0])
FAKE = np.array([2.5, -1.5, 0.1, -6.0, 0.7])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# The formulas of the papers, with D = sigmoid(logit) where D is a probability.
DISCRIMINATORS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "minimax": lambda r, f: -np.mean(np.log(sigmoid(r))) - np.mean(np.log(1 - sigmoid(f))),
    "nonsaturating": lambda r, f: -np.mean(np.log(sigmoid(r))) - np.mean(np.log(1 - sigmoid(f))),
    "hinge": lambda r, f: -np.mean(np.minimum(0, r - 1)) - np.mean(np.minimum(0, -f - 1)),
    "least_squares": lambda r, f: np.mean((r - 1) ** 2) / 2 + np.mean(f**2) / 2,
    "wasserstein": lambda r, f: np.mean(f) - np.mean(r),
    "relativistic": lambda r, f: -np.mean(np.log(sigmoid(r - f))),
}
GENERATORS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "minimax": lambda r, f: np.mean(np.log(1 - sigmoid(f))),
    "nonsaturating": lambda r, f: -np.mean(np.log(sigmoid(f))),
    "hinge": lambda r, f: -np.mean(f),
    "least_squares": lambda r, f: np.mean((f - 1) ** 2) / 2,
    "wasserstein": lambda r, f: -np.mean(f),
    "relativistic": lambda r, f: -np.mean(np.log(sigmoid(f - r))),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_loss_of_the_discriminator_is_the_formula_of_its_paper(name: str) -> None:
    loss = ADVERSARIAL[name].discriminator(torch.tensor(REAL), torch.tensor(FAKE))

    assert loss.item() == pytest.approx(DISCRIMINATORS[name](REAL, FAKE), rel=1e-12)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_loss_of_the_generator_is_the_formula_of_its_paper(name: str) -> None:
    loss = ADVERSARIAL[name].generator(torch.tensor(REAL), torch.tensor(FAKE))

    assert loss.item() == pytest.approx(GENERATORS[name](REAL, FAKE), rel=1e-12)


@pytest.mark.parametrize("name", [name for name, loss in ADVERSARIAL.items() if loss.chance])
def test_chance_is_the_lowest_loss_of_one_score_for_all_images(name: str) -> None:
    """Among discriminators that cannot tell real from fake: one number for every image."""
    scores = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    losses = [float(ADVERSARIAL[name].discriminator(s[None], s[None])) for s in scores]

    assert min(losses) == pytest.approx(ADVERSARIAL[name].chance, rel=1e-6)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_a_generator_looks_at_the_real_scores_if_and_only_if_its_loss_is_of_pairs(
    name: str,
) -> None:
    loss, fake = ADVERSARIAL[name], torch.tensor(FAKE)

    one, other = loss.generator(torch.tensor(REAL), fake), loss.generator(torch.tensor(FAKE), fake)

    assert (one != other) == loss.pairs


def test_the_two_sides_of_a_relativistic_game_differ_by_the_mean_difference_of_scores() -> None:
    """softplus(x) - softplus(-x) = x."""
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    sides = ADVERSARIAL["relativistic"]

    difference = sides.generator(real, fake) - sides.discriminator(real, fake)

    assert difference.item() == pytest.approx((REAL - FAKE).mean(), rel=1e-12)


def test_a_discriminator_that_cannot_tell_loses_two_log_two() -> None:
    undecided = torch.zeros(7, dtype=torch.float64)

    assert logistic_discriminator(undecided, undecided).item() == pytest.approx(2 * math.log(2))


def test_the_optimal_discriminator_of_two_coins_is_the_ratio_of_their_odds() -> None:
    """Goodfellow et al. 2014, proposition 1: D = p / (p + q), so the logit is log(p / q)."""
    p, q = torch.tensor([0.8, 0.2]), torch.tensor([0.3, 0.7])
    logits = (p / q).log().requires_grad_()

    # Ten throws of each coin in exact proportion; both sides of a throw share one logit.
    real = torch.cat([logits[:1].expand(8), logits[1:].expand(2)])
    fake = torch.cat([logits[:1].expand(3), logits[1:].expand(7)])
    logistic_discriminator(real, fake).backward()

    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-7


def gradient(loss: Callable[[Tensor, Tensor], Tensor], logit: float) -> float:
    fake = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(loss(torch.zeros_like(fake), fake), fake)[0])


@pytest.mark.parametrize("logit", [-10.0, -1.0, 0.0, 1.0, 10.0])
def test_both_games_of_goodfellow_push_the_generator_the_same_way(logit: float) -> None:
    assert gradient(minimax_generator, logit) < 0
    assert gradient(nonsaturating_generator, logit) < 0


def test_only_the_nonsaturating_generator_learns_where_the_discriminator_wins() -> None:
    """Derivatives at the logit -20 are -D and -(1 - D) with D = sigmoid(-20)."""
    d = 1 / (1 + math.exp(20))

    assert gradient(minimax_generator, -20.0) == pytest.approx(-d, rel=1e-6)
    assert gradient(nonsaturating_generator, -20.0) == pytest.approx(-(1 - d), rel=1e-12)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_every_generator_gains_by_scores_nearer_to_real(name: str) -> None:
    assert gradient(ADVERSARIAL[name].generator, -0.5) < 0


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_every_discriminator_gains_by_telling_real_from_fake(name: str) -> None:
    up, down = torch.full((3,), 0.9), torch.full((3,), 0.1)
    loss = ADVERSARIAL[name].discriminator

    assert loss(up, down) < loss(down, up)


def test_beyond_the_margin_the_hinge_teaches_nothing() -> None:
    real = torch.tensor([1.5, 3.0], requires_grad=True)
    fake = torch.tensor([-1.5, -3.0], requires_grad=True)

    loss = hinge_discriminator(real, fake)
    loss.backward()

    assert loss.item() == 0
    assert real.grad is not None
    assert fake.grad is not None
    assert not real.grad.any()
    assert not fake.grad.any()


def test_least_squares_losses_vanish_at_their_targets() -> None:
    ones, zeros = torch.ones(4), torch.zeros(4)

    assert least_squares_discriminator(ones, zeros) == 0
    assert least_squares_generator(zeros, ones) == 0


def test_the_wasserstein_game_is_zero_sum_in_the_fake_scores() -> None:
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    total = wasserstein_discriminator(real, fake) + linear_generator(real, fake)

    assert total.item() == pytest.approx(-REAL.mean())


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_losses_and_gradients_stay_finite_for_extreme_scores(name: str, logit: float) -> None:
    real = torch.tensor([-logit], requires_grad=True)
    fake = torch.tensor([logit], requires_grad=True)
    loss = ADVERSARIAL[name].discriminator(real, fake) + ADVERSARIAL[name].generator(real, fake)
    loss.backward()

    assert loss.isfinite()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


class Linear(nn.Module):
    """A critic with the same gradient w at every image."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.weight).flatten(1).sum(dim=1) + 5


@pytest.fixture
def critic() -> Linear:
    random = torch.Generator().manual_seed(1)
    return Linear(torch.randn(3, 32, 32, generator=random, dtype=torch.float64) / 30)


def images(count: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 32, 32, generator=random, dtype=torch.float64) * 2 - 1


def test_the_gradient_penalty_of_a_linear_critic_is_its_norm_less_one_squared(
    critic: Linear,
) -> None:
    norm = critic.weight.norm().item()
    mix = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)

    value = gradient_penalty(critic, images(3, 0), images(3, 1), mix).value

    assert value.item() == pytest.approx((norm - 1) ** 2)


def test_r1_of_a_linear_critic_is_half_its_squared_norm(critic: Linear) -> None:
    norm = critic.weight.norm().item()
    mix = torch.zeros(3, dtype=torch.float64)

    value = r1(critic, images(3, 0), images(3, 1), mix).value

    assert value.item() == pytest.approx(norm**2 / 2)


def test_the_gradient_penalty_is_taken_between_real_and_fake_where_mix_says() -> None:
    """The critic |x|^2 / 2 has the gradient x, so the penalty tells the point it was taken at."""
    real, fake = images(2, 0), images(2, 1)
    mix = torch.tensor([0.25, 0.8], dtype=torch.float64)

    value = gradient_penalty(lambda x: x.square().flatten(1).sum(dim=1) / 2, real, fake, mix).value

    share = mix.numpy().reshape(2, 1, 1, 1)
    points = share * fake.numpy() + (1 - share) * real.numpy()
    norms = np.sqrt((points.reshape(2, -1) ** 2).sum(axis=1))
    assert value.item() == pytest.approx(((norms - 1) ** 2).mean())


def test_r1_is_taken_at_the_real_images() -> None:
    real, fake = images(2, 0), images(2, 1)

    value = r1(lambda x: x.square().flatten(1).sum(dim=1) / 2, real, fake, torch.ones(2)).value

    assert value.item() == pytest.approx((real.numpy().reshape(2, -1) ** 2).sum(axis=1).mean() / 2)


def test_r2_is_taken_at_the_generated_images_and_r1_r2_at_both() -> None:
    real, fake = images(2, 0), images(2, 1)
    squares = [(each.numpy().reshape(2, -1) ** 2).sum(axis=1).mean() / 2 for each in (real, fake)]

    def norm(x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(dim=1) / 2

    names = ("r2", "r1_r2")
    one, both = (PENALTIES[name](norm, real, fake, torch.ones(2)).value for name in names)

    assert one.item() == pytest.approx(squares[1])
    assert both.item() == pytest.approx(sum(squares))


def test_penalties_differentiate_into_the_weights_of_the_critic(critic: Linear) -> None:
    """d(|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|, and d(|w|^2 / 2) / dw = w."""
    real, fake, mix = images(3, 0), images(3, 1), torch.full((3,), 0.5, dtype=torch.float64)
    weight = critic.weight.detach()
    norm = weight.norm()
    expected = {"gradient_penalty": 2 * (norm - 1) * weight / norm, "r1": weight, "r2": weight}
    expected["r1_r2"] = 2 * weight
    assert set(expected) == set(PENALTIES)

    for name, penalty in PENALTIES.items():
        (found,) = torch.autograd.grad(penalty(critic, real, fake, mix).value, critic.weight)
        torch.testing.assert_close(found, expected[name])


def test_penalties_leave_the_images_as_they_were(critic: Linear) -> None:
    real, fake = images(2, 0), images(2, 1)
    for penalty in PENALTIES.values():
        penalty(critic, real, fake, torch.ones(2, dtype=torch.float64))

    assert not real.requires_grad
    assert not fake.requires_grad


@pytest.mark.parametrize("half", [{"penalty": "r1"}, {"penalty_weight": 10.0}])
def test_a_penalty_and_its_weight_go_together(half: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="penalty and penalty_weight go together"):
        AdversarialLoss.model_validate(half)


def test_an_interval_without_a_penalty_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs a penalty"):
        AdversarialLoss(penalty_interval=16)


def test_a_penalty_with_a_weight_and_no_penalty_at_all_are_both_good() -> None:
    assert AdversarialLoss(penalty="r1", penalty_weight=10.0).penalty_weight == 10.0
    assert AdversarialLoss().penalty is None


@pytest.mark.parametrize(
    ("settings", "nearest"),
    [
        ({"name": "hing"}, "hinge"),
        ({"name": "wasserstien"}, "wasserstein"),
        ({"penalty": "gradient-penalty", "penalty_weight": 1.0}, "gradient_penalty"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest_one(
    settings: dict[str, object], nearest: str
) -> None:
    with pytest.raises(ValidationError, match=f"did you mean '{nearest}'"):
        AdversarialLoss.model_validate(settings)
