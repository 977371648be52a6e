"""The controller of ADA against one written as a loop, and in training."""

import copy

import pytest
import torch

from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.losses.adversarial import AdversarialLoss
from raygen.models.dcgan import Dcgan
from raygen.training.ada import EVERY, AdaptiveProbability
from raygen.training.gan import GanLearner
from raygen.trial import Adaptive, GanTrial

CPU = torch.device("cpu")


def test_the_probability_follows_a_signal_as_the_paper_says() -> None:
    """As numbers, one look after another: up above the target, down below, within 0 and 1."""
    target, kimg, batch = 0.6, 2.0, 50
    signal = [0.9] * 60 + [0.2] * 30 + [0.61, 0.55] * 20 + [1.0] * 200
    ours = AdaptiveProbability(Adaptive(target=target, kimg=kimg), batch, CPU)
    p, expected, probabilities = 0.0, [], []
    for step, sign in enumerate(signal, start=1):
        ours.update(torch.tensor(sign))
        if step % EVERY == 0:
            mean = sum(signal[step - EVERY : step]) / EVERY
            p = min(1.0, max(0.0, p + (1 if mean > target else -1) * EVERY * batch / (1000 * kimg)))
        expected.append(p)
        probabilities.append(float(ours.p))

    assert probabilities == pytest.approx(expected, abs=1e-5)
    assert max(expected) == 1
    assert min(expected[60:]) == 0


def test_from_nothing_to_always_takes_as_many_images_as_were_asked_for() -> None:
    ours = AdaptiveProbability(Adaptive(kimg=1.0), 10, CPU)
    images = 0
    while ours.p < 1 - 1e-6:
        ours.update(torch.tensor(1.0))
        images += 10

    assert images == 1000


def test_a_controller_goes_on_from_its_state_between_two_looks() -> None:
    first = AdaptiveProbability(Adaptive(), 64, CPU)
    for sign in (0.9, 0.8, 0.9, 0.7, 0.9, 0.3):
        first.update(torch.tensor(sign))
    second = AdaptiveProbability(Adaptive(), 64, CPU)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for sign in (0.8, 0.9):
        for controller in (first, second):
            controller.update(torch.tensor(sign))

    assert float(first.p) == float(second.p) > 0


def test_a_discriminator_that_knows_its_images_by_heart_is_shown_others(data: ImageData) -> None:
    """Few images, seen often: its logits of real ones grow, and with them the probability."""
    trial = GanTrial(
        model=Dcgan(latent_dim=4, width=4, discriminator_norm="layer"),
        loss=AdversarialLoss(name="nonsaturating"),
        augment="blit,geometric", augment_p=Adaptive(target=0.3, kimg=1.0), batch_size=16,
    )  # fmt: skip
    learner = GanLearner(trial, 10, CPU, 0)
    learner.discriminator_optimizer.set_rate(2e-3)
    batches = Batches(data.train, 16, 0, CPU, True)
    p = [float(learner.step(batches, 16 * step)["augment_p"]) for step in range(60)]

    assert p[0] == 0
    assert 0.1 < p[-1] < 0.961  # 60 steps of 16 images, of a thousand to 1
