"""The bound of a VAE against distributions of torch and the normal table, and its training."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from raygen.compute import Compute
from raygen.data import ImageData
from raygen.data.batches import Batches, to_model_range
from raygen.losses.elbo import ElboLoss
from raygen.models.conv_vae import ConvVae
from raygen.models.ladder_vae import LadderVae
from raygen.training.vae import VaeLearner
from raygen.trial import VaeOptimizer, VaeTrial

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
        learner.average.network.net.encoder.head,
        learner.average.network.net.to_parameters,
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
        mean, logvar = network.net.encoder(to_model_range(images))
        posterior = Normal(mean, (0.5 * logvar).exp())
        kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=1)
        output = network.net.decode(mean + posterior.stddev * noise)
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
    mean, logvar = learner.vae.train().net.encoder(images)
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
        mean = learner.average.network.net.decode(latents)[:, :3]

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
    nn.init.constant_(learner.average.network.net.to_parameters.bias, bias)

    assert (learner.sample(torch.randn(4, 8), LABELS) == level).all()


def test_the_bound_does_not_depend_on_the_chunk_an_image_is_in_but_for_its_noise(
    gaussian: VaeLearner, data: ImageData
) -> None:
    images = data.test.images[:8]

    def bound(part: Tensor) -> Tensor:
        return gaussian.elbo(part, torch.Generator().manual_seed(0))

    halves = torch.cat([bound(images[:4]), bound(images[4:])])
    assert bound(images).tolist() == pytest.approx(halves.tolist(), rel=1e-6)


LADDER = VaeTrial(
    model=LadderVae(latent_channels=1, width=4, layers=1, norm="layer"),
    loss=ElboLoss(likelihood="discretised_logistic_mixture"),
    batch_size=16,
)
each_model = pytest.mark.parametrize(
    "trial",
    [VaeTrial(model=ConvVae(latent_dim=8, width=8, norm="layer"), batch_size=16), LADDER],
    ids=["conv_vae", "ladder_vae"],
)


def changed(trial: VaeTrial, **settings: Any) -> VaeTrial:
    return VaeTrial.model_validate(trial.model_dump() | settings)


def trained(trial: VaeTrial, batches: Batches, steps: int, **settings: Any) -> list[dict[str, Any]]:
    """Losses of each step."""
    learner = VaeLearner(trial, 10, CPU, 0, **settings)
    found = [learner.step(batches, 16 * step) for step in range(steps)]
    return [{name: float(value) for name, value in losses.items()} for losses in found]


def test_the_divergences_of_the_layers_sum_to_that_of_the_latents(batches: Batches) -> None:
    for losses in trained(LADDER, batches, 4):
        assert losses.keys() == {"log_prob", "kl", "kl_1", "kl_2", "kl_3"}
        parts = [losses[f"kl_{number}"] for number in (1, 2, 3)]
        assert losses["kl"] == pytest.approx(sum(parts))


def test_a_vae_of_one_layer_reports_its_divergence_once(
    learner: VaeLearner, batches: Batches
) -> None:
    assert learner.step(batches, 0).keys() == {"log_prob", "kl"}


def test_free_bits_keep_a_divergence_that_beta_would_press_to_nothing(batches: Batches) -> None:
    found = {}
    for free_bits in (0.0, 8.0):
        loss = {"beta": 20.0, "free_bits": free_bits}
        trial = VaeTrial(model=ConvVae(latent_dim=8, width=4), batch_size=16, loss=ElboLoss(**loss))
        found[free_bits] = trained(trial, batches, 40)[-1]["kl"]

    assert found[0.0] < 2
    assert 3 < found[8.0] < 10


def test_during_warm_up_the_gradient_is_that_of_a_smaller_beta(
    vae: VaeTrial, batches: Batches
) -> None:
    slopes = []
    for loss in (ElboLoss(beta=2.0, warmup_kimg=0.064), ElboLoss(beta=1.0)):
        learner = VaeLearner(vae.model_copy(update={"loss": loss}), 10, CPU, seed=0)
        learner.step(batches, 32)  # half of the warm-up
        slopes.append([p.grad for p in learner.vae.parameters()])

    for one, other in zip(*slopes, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
def test_the_learning_rate_falls_to_nothing_at_the_end_of_the_budget(
    vae: VaeTrial, batches: Batches, decay: str
) -> None:
    optimizer = VaeOptimizer(lr=1e-3, decay=decay)  # type: ignore[arg-type]
    learner = VaeLearner(vae.model_copy(update={"optimizer": optimizer}), 10, CPU, 0, budget=64)
    rates = []
    for position in (0, 32, 64):
        learner.step(batches, position)
        rates.append(learner.optimizer.param_groups[0]["lr"])

    expected = [1e-3, 1e-3, 1e-3] if decay == "none" else [1e-3, 0.5e-3, 0.0]
    assert rates == pytest.approx(expected, abs=1e-12)


@each_model
def test_a_batch_in_parts_has_the_losses_and_the_gradient_of_the_whole(
    trial: VaeTrial, batches: Batches
) -> None:
    whole, parts = (VaeLearner(changed(trial, accumulate=n), 10, CPU, 0) for n in (1, 4))

    for step in range(2):
        expected, found = (learner.step(batches, 16 * step) for learner in (whole, parts))
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-5)
    for (key, one), other in zip(whole.vae.named_parameters(), parts.vae.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (one.grad - other.grad).norm() <= 2e-3 * one.grad.norm() + 1e-4, key


def test_a_batch_that_does_not_divide_into_its_parts_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not divide the batch_size of 16"):
        VaeTrial(batch_size=16, accumulate=3)


# What a step costs must not change what is learnt: bfloat16 has eight bits, 0.4% per operation.
ARITHMETICS = {
    "channels last": (Compute(channels_last=True), 1e-4),
    "bfloat16": (Compute(precision="bfloat16", channels_last=False), 2e-2),
    "bfloat16 and channels last": (Compute(precision="bfloat16", channels_last=True), 2e-2),
}


@each_model
@pytest.mark.parametrize("name", ARITHMETICS)
def test_the_arithmetic_of_a_step_changes_its_losses_by_no_more_than_rounding(
    trial: VaeTrial, name: str, batches: Batches
) -> None:
    compute, tolerance = ARITHMETICS[name]

    plain = trained(trial, batches, 3, compute=Compute(channels_last=False))
    found = trained(trial, batches, 3, compute=compute)

    for expected, losses in zip(plain, found, strict=True):
        for key, value in expected.items():
            assert losses[key] == pytest.approx(value, rel=tolerance, abs=0.05)
    assert found != plain  # the choice did reach the arithmetic


@each_model
def test_weights_gradients_and_losses_stay_float32_under_bfloat16(
    trial: VaeTrial, batches: Batches
) -> None:
    learner = VaeLearner(trial, 10, CPU, 0, Compute(precision="bfloat16"))

    losses = learner.step(batches, 0)

    assert {value.dtype for value in losses.values()} == {torch.float32}
    for parameter in learner.vae.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32


@each_model
def test_what_is_measured_does_not_depend_on_the_precision_of_training(
    trial: VaeTrial, data: ImageData
) -> None:
    plain, rounded = (
        VaeLearner(trial, 10, CPU, 0, Compute(precision=precision))
        for precision in ("float32", "bfloat16")
    )
    images, latents = data.test.images[:4], torch.randn(4, plain.latent_dim)

    for learner in (plain, rounded):
        learner.average.network.load_state_dict(plain.average.network.state_dict())
    bounds = [x.elbo(images, torch.Generator().manual_seed(0)) for x in (plain, rounded)]

    assert torch.equal(*bounds)
    assert torch.equal(plain.sample(latents, LABELS), rounded.sample(latents, LABELS))


def _mean_bound(learner: VaeLearner, data: ImageData) -> float:
    return float(learner.elbo(data.test.images, torch.Generator().manual_seed(0)).mean())
