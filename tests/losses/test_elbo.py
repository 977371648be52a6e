"""KL and pixel likelihoods against torch.distributions, and the masses of all 256 levels."""

import math

import pytest
import scipy.special
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from raygen.losses.elbo import (
    COMPONENTS,
    LIKELIHOODS,
    MIN_LOG_SCALE,
    TAIL,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    ElboLoss,
    LearnedSigmaGaussian,
    gaussian_kl,
    log_importance,
)

LEVELS = (2 * torch.arange(256, dtype=torch.float64) - 255) / 255
MEANS = [-40.0, -1.3, -1.0, -0.5, 0.0017, 0.5, 1.0, 1.5, 40.0]
LOG_SCALES = [MIN_LOG_SCALE, -5.0, -3.0, -1.0, 0.0, 1.0, 3.0]


def posteriors() -> tuple[Tensor, Tensor]:
    """Shift and log_ratio of five images and seven latents."""
    random = torch.Generator().manual_seed(0)
    shift = torch.randn(5, 7, generator=random, dtype=torch.float64) * 3
    return shift, torch.randn(5, 7, generator=random, dtype=torch.float64)


def test_the_kl_of_each_layer_is_that_of_torch_distributions() -> None:
    shift, log_ratio = posteriors()
    prior = Normal(torch.zeros_like(shift), torch.ones_like(shift))
    expected = kl_divergence(Normal(shift, log_ratio.exp()), prior)

    found = gaussian_kl(shift, log_ratio, (2, 1, 4))

    parts = [expected[:, :2], expected[:, 2:3], expected[:, 3:]]
    torch.testing.assert_close(found, torch.stack([part.sum(dim=1) for part in parts], dim=1))
    torch.testing.assert_close(gaussian_kl(shift, log_ratio, (7,))[:, 0], expected.sum(dim=1))


def test_the_kl_of_two_gaussians_follows_from_the_shift_and_the_ratio_between_them() -> None:
    shift, log_ratio = posteriors()
    mean, deviation = torch.randn(5, 7, dtype=torch.float64), torch.rand(5, 7).double() + 0.1
    posterior = Normal(mean + deviation * shift, deviation * log_ratio.exp())

    expected = kl_divergence(posterior, Normal(mean, deviation)).sum(dim=1)

    torch.testing.assert_close(gaussian_kl(shift, log_ratio, (7,))[:, 0], expected)


def test_the_kl_of_the_prior_with_itself_is_zero() -> None:
    assert gaussian_kl(torch.zeros(3, 4), torch.zeros(3, 4), (4,)).tolist() == [[0.0]] * 3


def test_the_weight_of_latents_is_the_ratio_of_their_densities() -> None:
    shift, log_ratio = posteriors()
    noise = torch.randn(5, 7, dtype=torch.float64)
    posterior = Normal(shift, log_ratio.exp())
    latents = shift + log_ratio.exp() * noise

    expected = (Normal(0.0, 1.0).log_prob(latents) - posterior.log_prob(latents)).sum(dim=1)

    torch.testing.assert_close(log_importance(shift, log_ratio, noise), expected)


def test_no_layer_counts_for_less_than_its_free_bits() -> None:
    kl = torch.tensor([0.2, 3.0, 0.5], requires_grad=True)

    free = ElboLoss(free_bits=0.5).divergence(kl, torch.tensor(0.4))
    (slope,) = torch.autograd.grad(free, kl)

    assert free.item() == pytest.approx(0.4 + 3.0 + 0.5)
    assert slope.tolist() == [0.0, 1.0, 1.0]
    assert ElboLoss().divergence(kl, torch.tensor(0.0)).item() == pytest.approx(3.7)


def test_the_weight_of_the_kl_rises_linearly_to_beta() -> None:
    loss = ElboLoss(beta=0.5, warmup_kimg=2)

    found = [loss.weight(position) for position in (0, 500, 1000, 2000, 10**9)]

    assert found == [0.0, 0.125, 0.25, 0.5, 0.5]
    assert ElboLoss(beta=3.0).weight(0) == 3.0


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
    if kind == "discretised_logistic_mixture":
        scales = torch.full(shape, log_scale, dtype=dtype)
        output = mixture([0.0] * COMPONENTS, means, scales, torch.zeros(shape, dtype=dtype))
        return DiscretisedLogisticMixture().log_mass(levels(dtype), output) / 3
    likelihood = LearnedSigmaGaussian().to(dtype)
    likelihood.log_sigma.data.fill_(log_scale)
    return likelihood.log_mass(levels(dtype), means).detach() / 3


def mixture(logits: list[float], means: Tensor, log_scales: Tensor, couplings: Tensor) -> Tensor:
    """The output that describes components which differ in their weights only."""
    parts = [
        torch.cat([torch.full_like(means[:, :1], logit), means, log_scales, couplings], dim=1)
        for logit in logits
    ]
    return torch.cat(parts, dim=1)


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
        output = torch.full((256, likelihood.outputs, 1, 1), sign * size)
        if kind == "gaussian":
            likelihood.log_sigma.data.fill_(scale)  # type: ignore[union-attr]
        else:
            output[:, 3:] = scale
        output.requires_grad_()
        for log in (likelihood.log_prob, likelihood.log_mass):
            value = log(levels(torch.float32), output)
            slopes = torch.autograd.grad(value.sum(), [output, *likelihood.parameters()])

            assert value.isfinite().all()
            assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_the_slope_of_the_mass_is_the_one_of_finite_differences(kind: str) -> None:
    likelihood = LIKELIHOODS[kind]().double()
    random = torch.Generator().manual_seed(0)
    shape = (4, likelihood.outputs, 2, 2)
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


@pytest.mark.parametrize("mean", [-40.0, -1.0, 0.3, 9.0, 1000.0])
@pytest.mark.parametrize("log_sigma", [-5.0, -3.0, -1.0])
def test_the_tail_of_the_gaussian_and_its_slope_are_those_of_scipy(
    mean: float, log_sigma: float
) -> None:
    """In float32, beyond the reach of torch's own log_ndtr."""
    likelihood = LearnedSigmaGaussian()
    likelihood.log_sigma.data.fill_(log_sigma)
    output = torch.full((256, 3, 1, 1), mean, requires_grad=True)
    sigma, levels64 = math.exp(log_sigma), LEVELS.numpy()

    mass = likelihood.log_mass(levels(torch.float32), output)
    (slope,) = torch.autograd.grad(mass.sum(), output)

    sign = 1 if mean > 0 else -1  # mirrored, so that all is left of the mean
    b = (sign * (levels64 - mean) + 1 / 255) / sigma
    log_a, log_b = (scipy.special.log_ndtr(x) for x in (b - 2 / 255 / sigma, b))
    inside = torch.from_numpy(b < -TAIL)
    inside[[0, 255]] = False
    expected = torch.from_numpy(log_b) + torch.log(-torch.expm1(torch.from_numpy(log_a - log_b)))
    pull = torch.from_numpy(-sign * b / sigma)
    torch.testing.assert_close(mass[inside].double() / 3, expected[inside], rtol=1e-4, atol=0.01)
    torch.testing.assert_close(slope[inside, 0, 0, 0].double(), -pull[inside], rtol=0.05, atol=0)


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
    output = torch.zeros(2, likelihood.outputs, 32, 32)

    assert likelihood.mean(output).shape == (2, 3, 32, 32)
    assert likelihood.log_mass(torch.zeros(2, 3, 32, 32), output).shape == (2,)
    assert likelihood.log_prob(torch.zeros(2, 3, 32, 32), output).shape == (2,)


def test_a_misspelt_likelihood_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ValidationError, match="did you mean 'gaussian'"):
        ElboLoss(likelihood="gausian")


MIXTURE = DiscretisedLogisticMixture()


def random_output(count: int = 1, size: int = 1) -> Tensor:
    """Every parameter of a mixture at random, in a range that images lead to."""
    random = torch.Generator().manual_seed(3)
    shape = (count, COMPONENTS, 10, size, size)
    output = torch.randn(shape, generator=random, dtype=torch.float64)
    output[:, :, 4:7] = output[:, :, 4:7] * 0.7 - 2.5
    return output.flatten(1, 2)


def slow_log_mass(pixel: list[int], output: list[float]) -> float:
    """The definition, for one pixel in plain Python."""
    x = [float(LEVELS[level]) for level in pixel]
    parts = [output[10 * k : 10 * k + 10] for k in range(COMPONENTS)]
    total = sum(math.exp(part[0]) for part in parts)
    mass = 0.0
    for logit, red, green, blue, *rest in parts:
        scales, (a, b, c) = rest[:3], map(math.tanh, rest[3:])
        means = [red, green + a * x[0], blue + b * x[0] + c * x[1]]
        product = math.exp(logit) / total
        for value, level, mean, scale in zip(x, pixel, means, scales, strict=True):
            upper = 1.0 if level == 255 else sigmoid((value - mean + 1 / 255) / math.exp(scale))
            lower = 0.0 if level == 0 else sigmoid((value - mean - 1 / 255) / math.exp(scale))
            product *= upper - lower
        mass += product
    return math.log(mass)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_mass_of_a_mixture_is_that_of_its_definition() -> None:
    output = random_output(6, size=2)
    chosen = torch.randint(256, (6, 3, 2, 2), generator=torch.Generator().manual_seed(4))
    chosen[0, :, 0, 0], chosen[1, :, 0, 0] = torch.tensor([0, 255, 7]), torch.tensor([255, 3, 0])

    expected = [
        sum(
            slow_log_mass(chosen[n, :, i, j].tolist(), output[n, :, i, j].tolist())
            for i in range(2)
            for j in range(2)
        )
        for n in range(6)
    ]

    assert MIXTURE.log_mass(LEVELS[chosen], output).tolist() == pytest.approx(expected)
    single = MIXTURE.log_mass(LEVELS[chosen].float(), output.float())
    assert single.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("red", [0, 77, 255])
def test_the_masses_of_all_greens_and_blues_sum_to_that_of_the_red(red: int) -> None:
    """And those of all reds to one, of which the test of all likelihoods is the proof."""
    output = random_output()
    green, blue = torch.meshgrid(LEVELS, LEVELS, indexing="ij")
    images = torch.stack([LEVELS[red].expand(256, 256), green, blue], dim=-1).view(-1, 3, 1, 1)

    whole = MIXTURE.log_mass(images, output.expand(len(images), -1, -1, -1)).exp().sum()

    weights = output.view(COMPONENTS, 10)[:, 0].softmax(dim=0)
    means, log_scales = output.view(COMPONENTS, 10)[:, [1, 4]].T
    edges = torch.tensor([LEVELS[red] - 1 / 255, LEVELS[red] + 1 / 255]).double()
    edges[0] = -math.inf if red == 0 else edges[0]
    edges[1] = math.inf if red == 255 else edges[1]
    below, above = torch.sigmoid((edges.view(2, 1) - means) / log_scales.exp())
    assert whole.item() == pytest.approx((weights * (above - below)).sum().item(), rel=1e-6)


def test_a_mixture_of_one_component_without_couplings_is_the_discretised_logistic() -> None:
    random = torch.Generator().manual_seed(0)
    means, log_scales = torch.randn(2, 4, 3, 8, 8, generator=random, dtype=torch.float64) - 0.5
    images = LEVELS[torch.randint(256, (4, 3, 8, 8), generator=random)]
    logits = [0.0] + [-1e4] * (COMPONENTS - 1)

    found = MIXTURE.log_mass(images, mixture(logits, means, log_scales, torch.zeros_like(means)))

    expected = DiscretisedLogistic().log_mass(images, torch.cat([means, log_scales], dim=1))
    torch.testing.assert_close(found, expected)


def test_the_mean_of_a_mixture_is_that_of_its_samples() -> None:
    count = 400_000
    output = random_output()
    logits, means, log_scales, couplings = output.view(COMPONENTS, 10).split([1, 3, 3, 3], dim=1)
    random = torch.Generator().manual_seed(1)
    k = torch.multinomial(logits[:, 0].softmax(dim=0), count, replacement=True, generator=random)
    uniform = torch.rand(count, 3, generator=random, dtype=torch.float64)
    own = means[k] + log_scales[k].exp() * (uniform.log() - (-uniform).log1p())
    a, b, c = couplings[k].tanh().T
    red = own[:, 0]
    green = own[:, 1] + a * red
    samples = torch.stack([red, green, own[:, 2] + b * red + c * green], dim=1)

    error = samples.std(dim=0) / count**0.5

    assert ((MIXTURE.mean(output).flatten() - samples.mean(dim=0)).abs() < 4 * error).all()


def test_a_mixture_starts_as_greys_over_the_whole_range() -> None:
    start = torch.tensor(MIXTURE.start, dtype=torch.float64).view(1, -1, 1, 1)

    costs = -MIXTURE.log_mass(levels(), start.expand(256, -1, -1, -1)) / (3 * math.log(2))

    assert MIXTURE.mean(start).flatten().tolist() == pytest.approx([0.0] * 3, abs=1e-9)
    # Uniform levels would cost eight bits; greys cost less, because the channels agree.
    assert 4 < costs.mean().item() < 8
    assert costs.max().item() < 8.5
