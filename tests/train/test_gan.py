"""One GAN step by step: who moves when, and what comes out."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raygen.data import ImageData
from raygen.data.batches import Batches, to_model_range, to_pixels
from raygen.losses.adversarial import AdversarialLoss
from raygen.training.gan import GanLearner
from raygen.trial import GanTrial

CPU = torch.device("cpu")
LABELS = torch.arange(16) % 10
REAL = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1


@pytest.fixture
def learner(gan: GanTrial) -> GanLearner:
    return GanLearner(gan, 10, CPU, seed=0)


@pytest.fixture
def quick(gan: GanTrial) -> GanTrial:
    """The same trial with rates that show an effect within a few steps."""
    rates = {"generator_lr": 3e-3, "discriminator_lr": 3e-3}
    return gan.model_copy(update={"optimizer": gan.optimizer.model_copy(update=rates)})


@pytest.fixture
def batches(data: ImageData) -> Batches:
    return Batches(data.train, 16, 0, CPU)


def discriminator_step(learner: GanLearner, batches: Any, position: int = 0) -> dict[str, Tensor]:
    """The discriminator's half of a step."""
    inputs = learner._inputs(batches, range(position, position + 1, 16))
    return learner._train_discriminator(inputs, 0, None, lazy=False)


def generator_step(learner: GanLearner, batches: Any, position: int = 0) -> Tensor:
    """The generator's half of a step."""
    return learner._train_generator(
        learner._inputs(batches, range(position, position + 1, 16)), None
    )


def test_a_discriminator_step_leaves_the_weights_of_the_generator_alone(
    learner: GanLearner, batches: Batches
) -> None:
    generator, discriminator = _copy(learner.generator), _copy(learner.discriminator)

    discriminator_step(learner, batches)

    assert _moved(learner.generator, generator) == 0
    assert _moved(learner.discriminator, discriminator) == len(discriminator)


def test_a_generator_step_leaves_the_weights_of_the_discriminator_alone(
    learner: GanLearner,
) -> None:
    generator, discriminator = _copy(learner.generator), _copy(learner.discriminator)

    generator_step(learner, _Same(REAL))

    assert _moved(learner.discriminator, discriminator) == 0
    # Not all of them: a bias in front of batch normalisation has no gradient but rounding noise.
    assert _moved(learner.generator, generator) > len(generator) / 2


def test_a_generator_step_with_a_fixed_discriminator_lowers_its_own_loss(
    quick: GanTrial, batches: Batches
) -> None:
    learner = GanLearner(quick, 10, CPU, seed=0)
    for step in range(20):
        discriminator_step(learner, batches, 16 * step)
    learner.discriminator.requires_grad_(False)

    losses = [float(generator_step(learner, _Same(REAL), 16 * step)) for step in range(60)]

    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_an_undecided_discriminator_has_a_loss_of_twice_the_log_of_two(
    learner: GanLearner, batches: Batches
) -> None:
    _silence(learner.discriminator.head)

    losses = learner.step(batches, 0)

    assert float(losses["discriminator_loss"]) == pytest.approx(2 * math.log(2), rel=1e-6)


def test_a_discriminator_learns_to_tell_the_images_of_a_resting_generator(
    quick: GanTrial, batches: Batches
) -> None:
    learner = GanLearner(quick, 10, CPU, seed=0)
    losses = [
        float(discriminator_step(learner, batches, 16 * step)["discriminator_loss"])
        for step in range(60)
    ]

    assert losses[-1] < 0.5 * 2 * math.log(2)


def test_a_step_is_a_function_of_its_position_and_not_of_the_global_generator(
    gan: GanTrial, batches: Batches
) -> None:
    losses = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        losses.append(GanLearner(gan, 10, CPU, seed=0).step(batches, 64))

    assert losses[0] == losses[1]


def test_steps_at_two_positions_draw_different_noise(gan: GanTrial) -> None:
    learner = GanLearner(gan, 10, CPU, seed=0)
    batches = _Same()

    losses = [GanLearner(gan, 10, CPU, 0).step(batches, position) for position in (0, 16)]

    assert learner.images_per_step == 16
    assert losses[0]["generator_loss"] != losses[1]["generator_loss"]


def test_a_heavier_penalty_keeps_the_gradient_of_a_critic_nearer_to_one(
    quick: GanTrial, batches: Batches
) -> None:
    penalties = []
    for weight in (1e-6, 100.0):
        loss = AdversarialLoss(
            name="wasserstein", penalty="gradient_penalty", penalty_weight=weight
        )
        learner = GanLearner(quick.model_copy(update={"loss": loss}), 10, CPU, seed=0)
        for step in range(40):
            losses = discriminator_step(learner, batches, 16 * step)
        penalties.append(float(losses["penalty"]))

    assert penalties[1] < 0.5 * penalties[0]


def test_samples_are_uint8_images_of_the_averaged_weights(learner: GanLearner) -> None:
    latents = torch.randn(16, 8)
    expected = (learner.average.network(latents, LABELS) + 1) * 127.5
    for parameter in learner.generator.parameters():
        nn.init.zeros_(parameter)

    images = learner.sample(latents, LABELS)

    assert images.dtype == torch.uint8
    assert images.shape == (16, 3, 32, 32)
    assert (images.float() - expected).abs().max() <= 0.5 + 1e-4


def test_samples_follow_from_the_latents_whatever_else_is_in_the_batch(
    learner: GanLearner,
) -> None:
    latents = torch.randn(16, 8)

    whole = learner.sample(latents, LABELS)

    assert torch.equal(whole, learner.sample(latents, LABELS))
    alone = learner.sample(latents[:3], LABELS[:3])
    assert (whole[:3].int() - alone.int()).abs().max() <= 1


def test_images_of_an_extreme_generator_stay_within_the_256_levels(learner: GanLearner) -> None:
    for sign, level in ((1e6, 255), (-1e6, 0)):
        nn.init.constant_(learner.average.network.to_rgb.bias, sign)
        assert (learner.sample(torch.randn(4, 8), LABELS[:4]) == level).all()


def test_a_conditional_generator_draws_another_image_for_another_class(gan: GanTrial) -> None:
    model = gan.model.model_copy(update={"conditional": True})
    learner = GanLearner(gan.model_copy(update={"model": model}), 10, CPU, seed=0)
    latents = torch.randn(1, 8).expand(2, -1)

    with torch.no_grad():
        same = learner.average.network(latents, torch.tensor([3, 3]))
        other = learner.average.network(latents, torch.tensor([3, 4]))

    assert torch.equal(same[0], same[1])
    assert not torch.equal(other[0], other[1])


def changed(trial: GanTrial, **parts: Any) -> GanTrial:
    """The trial with some of its settings changed, checked as a user's would be."""
    raw = trial.model_dump()
    for key, value in parts.items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) else value
    return GanTrial.model_validate(raw)


NORMLESS = {"generator_norm": "none", "discriminator_norm": "none"}
R1 = {"name": "relativistic", "penalty": "r1_r2", "penalty_weight": 0.5}


@pytest.mark.parametrize("steps", [1, 2])
def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(
    gan: GanTrial, batches: Batches, steps: int
) -> None:
    """Without batch normalisation, whose statistics are those of a part."""
    whole = changed(gan, model=NORMLESS, loss=R1, optimizer={"discriminator_steps": steps})
    weights, losses = [], []
    for trial in (whole, changed(whole, accumulate=4)):
        learner = GanLearner(trial, 10, CPU, seed=0)
        losses += [learner.step(batches, size * 16 * steps) for size in range(3)][-1:]
        weights.append(torch.cat([p.flatten() for p in learner.generator.parameters()]))

    assert {k: float(v) for k, v in losses[1].items()} == pytest.approx(
        {k: float(v) for k, v in losses[0].items()}, rel=1e-4
    )
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)


def test_a_lazy_penalty_is_computed_in_every_kth_step_and_weighs_k_times_as_much(
    gan: GanTrial, batches: Batches
) -> None:
    loss = {"name": "nonsaturating", "penalty": "r1", "penalty_weight": 1.0}
    eager, lazy = (
        GanLearner(changed(gan, loss={**loss, "penalty_interval": k}), 10, CPU, seed=0)
        for k in (1, 3)
    )

    first = [float(learner.step(batches, 0)["penalty"]) for learner in (eager, lazy)]
    later = [float(lazy.step(batches, 16 * step)["penalty"]) for step in range(1, 4)]

    assert first[1] == pytest.approx(3 * first[0], rel=1e-5)
    assert later[0] == later[1] == 0
    assert later[2] > 0


def test_the_penalty_of_a_step_reaches_the_weights(gan: GanTrial, batches: Batches) -> None:
    """The gradients of a step with a penalty are those of torch.autograd, differentiated twice."""
    loss = {"name": "wasserstein", "penalty": "r1", "penalty_weight": 0.7}
    learner = GanLearner(changed(gan, loss=loss), 10, CPU, seed=0)
    critic = copy.deepcopy(learner.discriminator)
    learner.random.manual_seed(0)
    with torch.no_grad():
        fake = copy.deepcopy(learner.generator)(learner._noise(8), LABELS)
    images = to_model_range(to_pixels(REAL)).requires_grad_()
    scores = critic(images, LABELS)
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    total = critic(fake, LABELS).mean() - scores.mean()
    total = total + 0.7 * 0.5 * slope.square().sum(dim=(1, 2, 3)).mean()
    expected = torch.autograd.grad(total, list(critic.parameters()))

    learner.random.manual_seed(0)
    discriminator_step(learner, _Same(REAL))

    for parameter, gradient in zip(learner.discriminator.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_clipping_bounds_the_norm_of_the_gradients_of_both_networks(
    gan: GanTrial, batches: Batches
) -> None:
    norms = []
    for clip in (0.0, 1e-4):
        learner = GanLearner(changed(gan, optimizer={"clip": clip}), 10, CPU, seed=0)
        learner.step(batches, 0)
        norms.append([_norm(learner.generator), _norm(learner.discriminator)])

    assert min(norms[0]) > 1e-4
    assert max(norms[1]) <= 1e-4 * (1 + 1e-5)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_rates_of_both_networks_fall_to_nothing_at_the_end_of_the_budget(
    gan: GanTrial, batches: Batches, decay: str
) -> None:
    rates = {"generator_lr": 1e-3, "discriminator_lr": 3e-3, "decay": decay}
    learner = GanLearner(changed(gan, optimizer=rates), 10, CPU, seed=0, budget=320)
    moves = []
    for position in (0, 160, 320):
        before = _copy(learner.generator)
        learner.step(batches, position)
        after = _copy(learner.generator)
        moves.append(max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True)))
        assert learner.discriminator_optimizer.param_groups[0]["lr"] == pytest.approx(
            {0: 3e-3, 160: 1.5e-3, 320: 0.0}[position], abs=1e-12
        )

    assert moves[0] > 0.5e-3  # Adam moves by its rate at first
    assert moves[2] == 0


def test_augmentation_changes_what_the_discriminator_sees_and_not_what_is_sampled(
    gan: GanTrial, batches: Batches
) -> None:
    plain, augmented = (
        GanLearner(changed(gan, augment=policy), 10, CPU, seed=0)
        for policy in ("none", "color,translation,cutout")
    )
    latents = torch.randn(4, 8)

    assert torch.equal(plain.sample(latents, LABELS[:4]), augmented.sample(latents, LABELS[:4]))
    losses = [learner.step(batches, 0)["discriminator_loss"] for learner in (plain, augmented)]
    assert losses[0] != losses[1]


def test_a_relativistic_generator_is_judged_against_real_images(
    gan: GanTrial, batches: Batches
) -> None:
    learner = GanLearner(changed(gan, loss={"name": "relativistic"}), 10, CPU, seed=0)
    learner.discriminator.requires_grad_(False)
    _silence(learner.discriminator.head)

    assert float(generator_step(learner, _Same(REAL))) == pytest.approx(math.log(2), rel=1e-6)
    with torch.no_grad():  # now bright images score high
        learner.discriminator = learner.fast_discriminator = _Brightness()
    bright, dark = (
        float(generator_step(learner, _Same(torch.full_like(REAL, shade)))) for shade in (1, -1)
    )
    assert bright - dark == pytest.approx(5.0, abs=0.1)  # softplus(5) - softplus(-5)


class _Brightness(nn.Module):
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return 5 * images.mean(dim=(1, 2, 3))


def _silence(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _norm(network: nn.Module) -> float:
    parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return float(torch.cat(parts).norm())


class _Same(Batches):
    """The same images at every position."""

    def __init__(self, images: Tensor = REAL) -> None:
        self.same = to_pixels(images)

    def pixels_at(self, position: int) -> tuple[Tensor, Tensor]:
        return self.same, LABELS


def _copy(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def _moved(network: nn.Module, before: list[Tensor]) -> int:
    pairs = zip(network.parameters(), before, strict=True)
    return sum(not torch.equal(now, then) for now, then in pairs)
