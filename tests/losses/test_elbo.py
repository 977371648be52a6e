"""KL and pixel likelihoods against torch.distributions, and the masses of all 256 levels."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from raygen.losses.elbo import (
    LIKELIHOODS,
    MIN_LOG_SCALE,
    DiscretisedLogistic,
    ElboLoss,
    LearnedSigmaGaussian,
    gaussian_kl,
)

LEVELS = (2 * torch.arange(256, dtype=torch.float64) - 255) / 255
MEANS = [-40.0, -1.3, -1.0, -0.5, 0.0017, 0.5, 1.0, 1.5, 40.0]
LOG_SCALES = [MIN_LOG_SCALE, -5.0, -3.0, -1.0, 0.0, 1.0, 3.0]


def test_the_kl_is_that_of_torch_distributions() -> None:
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(5, 7, generator=random, dtype=torch.float64) * 3
    logvar = torch.randn(5, 7, generator=random, dtype=torch.float64) * 2
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))

    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), prior).sum(dim=1)

    torch.testing.assert_close(gaussian_kl(mean, logvar), expected)


def test_the_kl_of_the_prior_with_itself_is_zero() -> None:
    assert gaussian_kl(torch.zeros(3, 4), torch.zeros(3, 4)).tolist() == [0.0, 0.0, 0.0]


def levels(dtype: torch.dtype = torch.float64) -> Tensor:
    """One image of one pixel per level: (256, 3, 1, 1), the same in all channels."""
    return LEVELS.to(dtype).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)


def per_pixel(kind: str, mean: float, log_scale: float, dtype: torch.dtype) -> Tensor:
    """Log mass of each of the 256 levels, one channel: a third of that of an image."""
    shape = (256, 3, 1, 1)
    means = torch.full(shape, mean, dtype=dtype)
    if kind == "discretised_logistic":
        output = torch.cat([means, torch.full(shape, log_scale, dtype=dtype)], dim=1)
        return DiscretisedLogistic().log_mass(levels(dtype), output) / 3
    likelihood = LearnedSigmaGaussian().to(dtype)
    likelihood.log_sigma.data.fill_(log_scale)
    return likelihood.log_mass(levels(dtype), means).detach() / 3


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_the_masses_of_the_256_levels_sum_to_one(kind: str, mean: float, log_scale: float) -> None:
    mass = per_pixel(kind, mean, log_scale, torch.float64).exp()

    assert mass.sum().item() == pytest.approx(1, abs=1e-9)


def log_between(upper: Tensor, lower: Tensor, kind: str) -> Tensor:
    """log(F(upper) - F(lower)), on whichever side of the middle the difference is exact."""
    if kind == "gaussian":

        def cdf(x: Tensor) -> Tensor:
            return Normal(0.0, 1.0).cdf(x) if x.ndim == 0 else torch.erfc(-x / math.sqrt(2)) / 2
    else:

        def cdf(x: Tensor) -> Tensor:
            return 1 / (1 + torch.exp(-x))

    left = cdf(upper) - cdf(lower)
    right = cdf(-lower) - cdf(-upper)
    return torch.where(upper + lower > 0, right, left).log()


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_the_mass_of_a_level_is_the_difference_of_the_distribution_at_its_edges(
    kind: str, mean: float, log_scale: float
) -> None:
    infinity = torch.tensor([math.inf], dtype=torch.float64)
    edges = (LEVELS[1:] + LEVELS[:-1]) / 2
    upper = (torch.cat([edges, infinity]) - mean) / math.exp(log_scale)
    lower = (torch.cat([-infinity, edges]) - mean) / math.exp(log_scale)
    expected = log_between(upper, lower, kind)
    # Beyond e-200 the difference of two float64 has no digits to compare with.
    exact = expected > -200
    assert exact.any() or abs(mean) > 1

    found = per_pixel(kind, mean, log_scale, torch.float64)

    torch.testing.assert_close(found[exact], expected[exact], rtol=1e-6, atol=1e-6)
    assert (found[~exact] < -190).all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("mean", [-1.3, -0.5, 0.0017, 1.0])
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_float32_gives_the_mass_of_float64(kind: str, mean: float, log_scale: float) -> None:
    single = per_pixel(kind, mean, log_scale, torch.float32).double()
    double = per_pixel(kind, mean, log_scale, torch.float64)

    # The level's own position is rounded to 6e-8 / scale, which moves the mass by as much.
    torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("kind", LIKELIHOODS)
@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("sign", [-1, 1])
def test_masses_objectives_and_their_gradients_are_finite_for_extreme_outputs(
    kind: str, size: float, sign: int
) -> None:
    likelihood = LIKELIHOODS[kind]()
    for scale in (-size, 0.0, min(size, 80.0)):
        output = torch.full((256, likelihood.channels, 1, 1), sign * size)
        if kind == "gaussian":
            likelihood.log_sigma.data.fill_(scale)  # type: ignore[union-attr]
        else:
            output[:, 3:] = scale
        output.requires_grad_()
        objective = likelihood.log_prob(levels(torch.float32), output)
        (slope,) = torch.autograd.grad(objective.sum(), output)

        assert likelihood.log_mass(levels(torch.float32), output).isfinite().all()
        assert objective.isfinite().all()
        assert slope.isfinite().all()


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_the_slope_of_the_mass_is_the_one_of_finite_differences(kind: str) -> None:
    likelihood = LIKELIHOODS[kind]().double()
    random = torch.Generator().manual_seed(0)
    shape = (4, likelihood.channels, 2, 2)
    output = torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([0, 1, 2, 100, 127, 128, 200, 253, 254, 255])
    chosen = chosen[torch.randint(10, (4, 3, 2, 2), generator=random)]

    assert torch.autograd.gradcheck(lambda o: likelihood.log_mass(LEVELS[chosen], o), output)


def test_the_slope_of_a_tail_pulls_the_mean_towards_the_image() -> None:
    """At thirty scales from the mean the logistic falls by one nat per scale."""
    output = torch.tensor([-0.5, -0.5, -0.5, -5.0, -5.0, -5.0]).view(1, 6, 1, 1).requires_grad_()
    image = levels(torch.float32)[128:129]

    (slope,) = torch.autograd.grad(DiscretisedLogistic().log_mass(image, output).sum(), output)

    assert slope[0, :3].flatten().tolist() == pytest.approx([math.exp(5)] * 3, rel=1e-3)


def test_the_density_of_the_gaussian_is_that_of_torch_distributions() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 5, 5, generator=random, dtype=torch.float64) * 2 - 1
    output = torch.randn(4, 3, 5, 5, generator=random, dtype=torch.float64)
    likelihood = LearnedSigmaGaussian().double()
    likelihood.log_sigma.data.fill_(-1.7)

    expected = Normal(output, math.exp(-1.7)).log_prob(images).flatten(1).sum(dim=1)

    torch.testing.assert_close(likelihood.log_prob(images, output), expected)


def test_the_density_of_the_gaussian_is_highest_at_the_true_deviation() -> None:
    """The maximum-likelihood sigma is the root mean square of the residuals."""
    residuals = torch.tensor([0.1, -0.3, 0.2, 0.4, -0.1, 0.25], dtype=torch.float64)
    likelihood = LearnedSigmaGaussian().double()
    likelihood.log_sigma.data.fill_(0.5 * math.log(residuals.square().mean().item()))

    value = likelihood.log_prob(residuals.view(1, 3, 1, 2), torch.zeros(1, 3, 1, 2).double())
    (slope,) = torch.autograd.grad(value.sum(), likelihood.log_sigma)

    assert slope.item() == pytest.approx(0, abs=1e-9)


def test_a_density_that_is_flat_over_a_level_gives_it_density_times_width() -> None:
    likelihood = LearnedSigmaGaussian().double()
    image, output = levels()[120:121], torch.zeros(1, 3, 1, 1, dtype=torch.float64)

    mass = likelihood.log_mass(image, output)
    density = likelihood.log_prob(image, output)

    assert mass.item() == pytest.approx(density.item() + 3 * math.log(2 / 255), abs=1e-4)


def test_the_logistic_trains_on_the_mass_itself() -> None:
    output = torch.zeros(256, 6, 1, 1, dtype=torch.float64)
    likelihood = DiscretisedLogistic()

    assert torch.equal(likelihood.log_prob(levels(), output), likelihood.log_mass(levels(), output))


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_no_distribution_codes_the_256_levels_in_fewer_than_eight_bits_on_average(
    kind: str,
) -> None:
    """Gibbs: coding uniform levels costs log2(256) bits plus a divergence, which is not negative;
    the widths between that leave little to the edges come near to it.
    """
    costs = [
        -per_pixel(kind, 0.0, log_scale, torch.float64).mean().item() / math.log(2)
        for log_scale in LOG_SCALES
    ]

    assert min(costs) >= 8
    assert min(costs) < 8.6


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_a_certain_prediction_costs_nothing(kind: str) -> None:
    mass = per_pixel(kind, float(LEVELS[77]), MIN_LOG_SCALE, torch.float64)

    assert mass.argmax() == 77
    assert mass[77].item() == pytest.approx(0, abs=0.03)


def test_scales_below_the_least_count_as_the_least() -> None:
    for kind in LIKELIHOODS:
        low = per_pixel(kind, 0.3, -50.0, torch.float64)
        least = per_pixel(kind, 0.3, MIN_LOG_SCALE, torch.float64)
        torch.testing.assert_close(low, least)


def test_the_mass_of_an_image_is_the_product_over_its_pixels() -> None:
    random = torch.Generator().manual_seed(0)
    output = torch.randn(1, 6, 32, 32, generator=random, dtype=torch.float64)
    images = LEVELS[torch.randint(256, (1, 3, 32, 32), generator=random)]
    likelihood = DiscretisedLogistic()

    pixels = [
        likelihood.log_mass(images[:, :, i : i + 1, j : j + 1], output[:, :, i : i + 1, j : j + 1])
        for i in range(32)
        for j in range(32)
    ]

    assert likelihood.log_mass(images, output).item() == pytest.approx(sum(pixels).item())


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_a_likelihood_reads_as_many_channels_as_it_says_and_means_three(kind: str) -> None:
    likelihood = LIKELIHOODS[kind]()
    output = torch.zeros(2, likelihood.channels, 32, 32)

    assert likelihood.mean(output).shape == (2, 3, 32, 32)
    assert likelihood.log_mass(torch.zeros(2, 3, 32, 32), output).shape == (2,)
    assert likelihood.log_prob(torch.zeros(2, 3, 32, 32), output).shape == (2,)


def test_a_misspelt_likelihood_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ValidationError, match="did you mean 'gaussian'"):
        ElboLoss(likelihood="gausian")
