"""One GAN step by step: who moves when, and what comes out."""

import math

import pytest
import torch
from torch import Tensor, nn

from raygen.config import GanTrial
from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.losses.adversarial import AdversarialLoss
from raygen.train.gan import GanLearner

CPU = torch.device("cpu")
LABELS = torch.arange(16) % 10


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


def test_a_discriminator_step_leaves_the_weights_of_the_generator_alone(
    learner: GanLearner, batches: Batches
) -> None:
    generator, discriminator = _copy(learner.generator), _copy(learner.discriminator)

    learner._train_discriminator(*batches.at(0))

    assert _moved(learner.generator, generator) == 0
    assert _moved(learner.discriminator, discriminator) == len(discriminator)


def test_a_generator_step_leaves_the_weights_of_the_discriminator_alone(
    learner: GanLearner,
) -> None:
    generator, discriminator = _copy(learner.generator), _copy(learner.discriminator)

    learner._train_generator(LABELS)

    assert _moved(learner.discriminator, discriminator) == 0
    # Not all of them: a bias in front of batch normalisation has no gradient but rounding noise.
    assert _moved(learner.generator, generator) > len(generator) / 2


def test_a_generator_step_with_a_fixed_discriminator_lowers_its_own_loss(
    quick: GanTrial, batches: Batches
) -> None:
    learner = GanLearner(quick, 10, CPU, seed=0)
    for step in range(20):
        learner._train_discriminator(*batches.at(16 * step))
    learner.discriminator.requires_grad_(False)

    losses = [float(learner._train_generator(LABELS)) for _ in range(60)]

    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_an_undecided_discriminator_has_a_loss_of_twice_the_log_of_two(
    learner: GanLearner, batches: Batches
) -> None:
    nn.init.zeros_(learner.discriminator.head.weight)

    losses = learner.step(batches, 0)

    assert float(losses["discriminator_loss"]) == pytest.approx(2 * math.log(2), rel=1e-6)


def test_a_discriminator_learns_to_tell_the_images_of_a_resting_generator(
    quick: GanTrial, batches: Batches
) -> None:
    learner = GanLearner(quick, 10, CPU, seed=0)
    losses = [
        float(learner._train_discriminator(*batches.at(16 * step))["discriminator_loss"])
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
            losses = learner._train_discriminator(*batches.at(16 * step))
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


class _Same(Batches):
    """The same images at every position."""

    def __init__(self) -> None:
        pass

    def at(self, position: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(16, 3, 32, 32), LABELS


def _copy(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def _moved(network: nn.Module, before: list[Tensor]) -> int:
    pairs = zip(network.parameters(), before, strict=True)
    return sum(not torch.equal(now, then) for now, then in pairs)
