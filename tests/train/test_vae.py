"""The bound of a VAE against distributions of torch and the normal table, and its training."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from raygen.config import VaeTrial
from raygen.data import ImageData
from raygen.data.batches import Batches, to_model_range
from raygen.train.vae import VaeLearner

CPU = torch.device("cpu")
LABELS = torch.zeros(4, dtype=torch.int64)


@pytest.fixture
def learner(vae: VaeTrial) -> VaeLearner:
    return VaeLearner(vae, 10, CPU, seed=0)


@pytest.fixture
def batches(data: ImageData) -> Batches:
    return Batches(data.train, 16, 0, CPU)


@pytest.fixture
def gaussian(vae: VaeTrial) -> VaeLearner:
    """A VAE whose encoder gives the prior, and whose decoder gives N(0, 1) for every pixel."""
    loss = vae.loss.model_copy(update={"likelihood": "gaussian"})
    learner = VaeLearner(vae.model_copy(update={"loss": loss}), 10, CPU, seed=0)
    for layer in (
        learner.average.network.encoder.head,
        learner.average.network.decoder.to_parameters,
    ):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.zeros_(learner.average.network.likelihood.log_sigma)
    return learner


def test_the_bound_of_a_vae_that_ignores_z_is_the_normal_mass_of_each_level(
    gaussian: VaeLearner, data: ImageData
) -> None:
    images = data.test.images[:8].clone()
    images[0, 0, 0, :2] = torch.tensor([0, 255], dtype=torch.uint8)

    bound = gaussian.elbo(images, torch.Generator().manual_seed(0))

    # The borders of the levels on the scale of the network; the outer two levels have no end.
    middle = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    below, above = middle - 1 / 255, middle + 1 / 255
    below[0], above[-1] = -math.inf, math.inf
    mass = torch.special.ndtr(above) - torch.special.ndtr(below)
    assert float(mass.sum()) == pytest.approx(1.0)
    expected = mass.log()[images.long()].flatten(1).sum(dim=1)
    assert bound.double().tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_bound_is_the_log_mass_less_the_kl_of_torch(
    learner: VaeLearner, data: ImageData
) -> None:
    images, network = data.test.images[:8], learner.average.network
    noise = torch.randn(8, 8, generator=torch.Generator().manual_seed(3))

    bound = learner.elbo(images, torch.Generator().manual_seed(3))

    with torch.no_grad():
        mean, logvar = network.encoder(to_model_range(images))
        posterior = Normal(mean, (0.5 * logvar).exp())
        kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=1)
        output = network.decoder(mean + posterior.stddev * noise)
        log_mass = network.likelihood.log_mass(to_model_range(images), output)
    assert bound.tolist() == pytest.approx((log_mass - kl).tolist(), rel=1e-5)


def test_the_bound_of_test_images_rises_with_training(
    learner: VaeLearner, batches: Batches, data: ImageData
) -> None:
    bounds = [_mean_bound(learner, data)]
    for step in range(90):
        learner.step(batches, 16 * step)
        if step in (29, 89):
            bounds.append(_mean_bound(learner, data))

    assert bounds[0] < bounds[1] < bounds[2]


def test_a_large_beta_ends_with_less_divergence_from_the_prior(
    vae: VaeTrial, batches: Batches
) -> None:
    found = []
    for beta in (0.0, 50.0):
        loss = vae.loss.model_copy(update={"beta": beta})
        learner = VaeLearner(vae.model_copy(update={"loss": loss}), 10, CPU, seed=0)
        losses = [learner.step(batches, 16 * step) for step in range(40)]
        found.append(float(losses[-1]["kl"]))

    assert found[1] < 0.1 * found[0]


def test_the_losses_of_a_step_are_those_of_its_images_before_it(
    learner: VaeLearner, batches: Batches
) -> None:
    images, _ = batches.at(32)
    mean, logvar = learner.vae.train().encoder(images)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1).mean()

    losses = VaeLearner(learner.trial, 10, CPU, seed=0).step(batches, 32)

    assert float(losses["kl"]) == pytest.approx(expected.item(), rel=1e-4)


def test_clipping_bounds_the_norm_of_the_gradient(vae: VaeTrial, batches: Batches) -> None:
    norms = []
    for clip in (0.0, 0.5):
        optimizer = vae.optimizer.model_copy(update={"clip": clip})
        learner = VaeLearner(vae.model_copy(update={"optimizer": optimizer}), 10, CPU, seed=0)
        learner.step(batches, 0)
        squares = [float(p.grad.square().sum()) for p in learner.vae.parameters()]
        norms.append(math.sqrt(sum(squares)))

    assert norms[0] > 0.5
    assert norms[1] == pytest.approx(0.5, rel=1e-3)


def test_samples_are_the_mean_of_the_likelihood_as_uint8(learner: VaeLearner) -> None:
    latents = torch.randn(4, 8)
    with torch.no_grad():
        mean = learner.average.network.decoder(latents)[:, :3]

    images = learner.sample(latents, LABELS)

    assert images.dtype == torch.uint8
    assert images.shape == (4, 3, 32, 32)
    expected = ((mean.clamp(-1, 1) + 1) * 127.5).double()
    assert (images.double() - expected).abs().max() <= 0.5 + 1e-4


def test_samples_follow_from_the_latents_alone(learner: VaeLearner) -> None:
    latents = torch.randn(4, 8)

    assert torch.equal(learner.sample(latents, LABELS), learner.sample(latents, LABELS + 1))


@pytest.mark.parametrize(("bias", "level"), [(1e6, 255), (-1e6, 0)])
def test_means_outside_of_the_range_become_the_outer_levels(
    learner: VaeLearner, bias: float, level: int
) -> None:
    nn.init.constant_(learner.average.network.decoder.to_parameters.bias, bias)

    assert (learner.sample(torch.randn(4, 8), LABELS) == level).all()


def test_the_bound_does_not_depend_on_the_chunk_an_image_is_in_but_for_its_noise(
    gaussian: VaeLearner, data: ImageData
) -> None:
    images = data.test.images[:8]

    def bound(part: Tensor) -> Tensor:
        return gaussian.elbo(part, torch.Generator().manual_seed(0))

    halves = torch.cat([bound(images[:4]), bound(images[4:])])
    assert bound(images).tolist() == pytest.approx(halves.tolist(), rel=1e-6)


def _mean_bound(learner: VaeLearner, data: ImageData) -> float:
    return float(learner.elbo(data.test.images, torch.Generator().manual_seed(0)).mean())
