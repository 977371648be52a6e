"""Bounds of models whose likelihood is known, and latents whose variances are."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from raygen.data import ImageData, Split, fingerprint
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.losses.elbo import ElboLoss, gaussian_kl, log_importance
from raygen.metrics import bounds
from raygen.metrics.evaluator import IMPORTANCE_SAMPLES, Evaluator
from raygen.models.conv_vae import ConvVae
from raygen.models.ladder_vae import LadderVae
from raygen.training.vae import VaeLearner
from raygen.trial import VaeTrial

CPU = torch.device("cpu")
PIXELS, LATENTS, SPREAD = 5, 2, 0.7


class LinearGaussian:
    """x = W z + b + SPREAD e: its likelihood and posterior have closed forms.

    `error` moves the posterior away from the true one, all of whose latents are independent.
    """

    device, latent_dim, classes, parameters = CPU, LATENTS, 1, 0

    def __init__(self, error: float) -> None:
        random = torch.Generator().manual_seed(0)
        # Orthogonal columns: then the true posterior factorises.
        self.weight = torch.linalg.qr(torch.randn(PIXELS, LATENTS, generator=random).double()).Q
        self.weight = self.weight * torch.tensor([0.5, 2.0])
        self.bias = torch.randn(PIXELS, generator=random).double()
        self.error = error

    def log_likelihood(self, images: Tensor) -> Tensor:
        cov = self.weight @ self.weight.T + SPREAD**2 * torch.eye(PIXELS, dtype=torch.float64)
        return MultivariateNormal(self.bias, cov).log_prob(self.pixels(images))

    def pixels(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :PIXELS].double() / 100

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        precision = 1 + self.weight.square().sum(dim=0) / SPREAD**2
        mean = (self.pixels(images) - self.bias) @ self.weight / SPREAD**2 / precision
        return mean + self.error, -0.5 * precision.log().expand_as(mean) + self.error

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def elbo(self, images: Tensor, random: torch.Generator) -> Tensor:
        """By many samples, so that only the bound itself differs from the likelihood."""
        shift, log_ratio = self.posterior(images)
        kl = gaussian_kl(shift, log_ratio, (LATENTS,)).sum(dim=1)
        return self._log_prob(images, random, 4000)[0].mean(dim=0) - kl

    def log_weights(self, images: Tensor, random: torch.Generator, count: int) -> Tensor:
        log_prob, noise = self._log_prob(images, random, count)
        shift, log_ratio = self.posterior(images)
        return log_prob + torch.stack([log_importance(shift, log_ratio, n) for n in noise])

    def shift(self, images: Tensor) -> Tensor:
        return self.posterior(images)[0]

    def _log_prob(
        self, images: Tensor, random: torch.Generator, count: int
    ) -> tuple[Tensor, Tensor]:
        shift, log_ratio = self.posterior(images)
        noise = torch.randn(count, *shift.shape, generator=random, dtype=torch.float64)
        mean = (shift + log_ratio.exp() * noise) @ self.weight.T + self.bias
        return Normal(mean, SPREAD).log_prob(self.pixels(images)).sum(dim=2), noise


def some_images(count: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 3, 32, 32), generator=random, dtype=torch.uint8)


def test_with_the_true_posterior_both_bounds_are_the_likelihood() -> None:
    model, images = LinearGaussian(error=0.0), some_images(300)
    exact = model.log_likelihood(images).mean().item()

    assert bounds.test_elbo(model, images, 0) == pytest.approx(exact, abs=0.02)
    for count in (1, 7):  # every single weight is the likelihood
        assert bounds.test_iwae(model, images, 0, count) == pytest.approx(exact, rel=1e-9)


def test_with_a_false_posterior_the_bound_rises_to_the_likelihood_with_every_sample() -> None:
    model, images = LinearGaussian(error=0.4), some_images(300)
    exact = model.log_likelihood(images).mean().item()

    below = bounds.test_elbo(model, images, 0)
    found = [bounds.test_iwae(model, images, 0, count) for count in (4, 16, 64, 1024)]

    assert below < exact - 0.1
    assert [below, *found] == sorted([below, *found])
    assert bounds.test_iwae(model, images, 0, 1) == pytest.approx(below, abs=0.1)
    assert found[-1] == pytest.approx(exact, abs=0.01)


class Means:
    """A model whose posterior means have these standard deviations over the images."""

    device, classes, parameters = CPU, 1, 0

    def __init__(self, deviations: list[float]) -> None:
        self.deviations, self.latent_dim = torch.tensor(deviations), len(deviations)

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def elbo(self, images: Tensor, random: torch.Generator) -> Tensor:
        raise NotImplementedError

    def log_weights(self, images: Tensor, random: torch.Generator, count: int) -> Tensor:
        raise NotImplementedError

    def shift(self, images: Tensor) -> Tensor:
        """One deviation above or below 1000, by whether the first pixel is even."""
        signs = images[:, 0, 0, 0].float().remainder(2) * 2 - 1
        return 1000 + signs.unsqueeze(1) * self.deviations


def test_a_latent_is_active_if_its_posterior_mean_varies_by_more_than_a_hundredth() -> None:
    images = torch.zeros(600, 3, 32, 32, dtype=torch.uint8)
    images[::2] = 1  # half odd, half even: the variances are the squares of the deviations

    assert bounds.active_units(Means([0.0, 0.09, 0.095, 0.105, 1.0, 30.0]), images) == 3
    assert bounds.active_units(Means([0.0, 0.0]), images) == 0


@pytest.fixture(scope="module")
def data() -> ImageData:
    train, test = (
        Split(*map(torch.from_numpy, draw_shapes(n, seed))) for n, seed in ((100, 0), (20, 1))
    )
    return ImageData("shapes", tuple(SHAPES), train, test, fingerprint(train, test))


def test_all_bounds_of_a_model_that_ignores_its_latents_are_the_same(data: ImageData) -> None:
    """A ladder that has not been trained has the prior for posterior; nor does it look at z."""
    trial = VaeTrial(
        model=LadderVae(width=4, latent_channels=1, layers=1),
        loss=ElboLoss(likelihood="discretised_logistic_mixture"),
    )
    learner = VaeLearner(trial, 10, CPU, seed=0)
    torch.nn.init.zeros_(learner.average.network.net.to_parameters.weight)  # type: ignore[union-attr]
    metrics = ("bits_per_dim", "iwae_bits_per_dim", "active_units", "elbo")

    scores = Evaluator(metrics, data, 20, CPU)(learner)

    assert scores["iwae_bits_per_dim"].value == pytest.approx(scores["bits_per_dim"].value)
    assert scores["active_units"].value == 0
    assert scores["iwae_bits_per_dim"].protocol["posterior_samples"] == IMPORTANCE_SAMPLES
    assert scores["bits_per_dim"].protocol["posterior_samples"] == 1


@pytest.mark.parametrize("model", [ConvVae(latent_dim=6, width=4), LadderVae(width=4, layers=1)])
def test_the_weights_of_a_learner_are_its_densities(
    model: ConvVae | LadderVae, data: ImageData
) -> None:
    """log p(x | z) + log p(z) - log q(z | x) with each density from torch.distributions."""
    learner = VaeLearner(VaeTrial(model=model), 10, CPU, seed=0)
    for parameter in learner.average.network.parameters():
        parameter += 0.02 * torch.randn_like(parameter)
    images, net = data.test.images[:3], learner.average.network.net
    scaled = images.float() / 127.5 - 1

    found = learner.log_weights(images, torch.Generator().manual_seed(2), 4)

    random = torch.Generator().manual_seed(2)
    for row in found:
        noise = torch.randn(3, learner.latent_dim, generator=random)
        output, shift, log_ratio = net(scaled, noise)  # type: ignore[operator]
        latents = shift + log_ratio.exp() * noise
        prior = Normal(0.0, 1.0).log_prob(latents.double())
        posterior = Normal(shift, log_ratio.exp()).log_prob(latents).double()
        log_mass = learner.average.network.likelihood.log_mass(scaled, output)  # type: ignore
        expected = log_mass + (prior - posterior).sum(dim=1)
        assert row.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_shift_of_a_learner_is_the_posterior_mean(data: ImageData) -> None:
    learner = VaeLearner(VaeTrial(model=ConvVae(latent_dim=6, width=4)), 10, CPU, seed=0)
    images = data.test.images[:3]

    mean, _ = learner.average.network.net.encoder(images.float() / 127.5 - 1)  # type: ignore

    torch.testing.assert_close(learner.shift(images), mean)


def test_a_bound_does_not_depend_on_how_many_chunks_there_are_but_for_the_noise() -> None:
    """With one weight for all samples there is no noise left."""
    model, images = LinearGaussian(error=0.0), some_images(520)
    parts = [bounds.test_iwae(model, part, 0, 3) * len(part) for part in images.split(130)]

    assert bounds.test_iwae(model, images, 0, 3) == pytest.approx(sum(parts) / 520)
    assert math.isfinite(bounds.test_iwae(model, images, 0, 3))
