"""Bounds on the likelihood of held-out images, and how many latents a model uses for them."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from raygen.distributed import all_reduce_sum, rank, world_size
from raygen.metrics.model import Autoencoder
from raygen.metrics.protocol import Record
from raygen.metrics.statistic import Examined, ModelStatistic, once_per_subject
from raygen.seeds import numbered

CHUNK = 250
IMPORTANCE_SAMPLES = 16
ACTIVE = 0.01  # variance of the posterior mean


@torch.no_grad()
def test_elbo(model: Autoencoder, images: Tensor, seed: int) -> float:
    """Mean ELBO in nats per image at beta = 1 under a discretised likelihood, over all ranks.

    One posterior sample per image, its noise seeded by the chunk that the image is in, so that
    ranks share the work and agree on the result. `images` is uint8 (n, 3, 32, 32).
    """
    return _mean(model, images, seed, model.elbo)


@torch.no_grad()
def test_rate_distortion(model: Autoencoder, images: Tensor, seed: int) -> tuple[float, float]:
    """Mean rate (KL) and distortion (-log p(x | z)) in nats per image, with test_elbo's noise.

    Their sum is minus the ELBO. Alemi et al. 2018, section 3.
    """
    totals = torch.zeros(2, dtype=torch.float64, device=model.device)
    for index, chunk in _mine(images, model.device):
        rate, distortion = model.rate_distortion(chunk, _noise(seed, index, model.device))
        totals += torch.stack([rate.double().sum(), distortion.double().sum()])
    rate, distortion = (all_reduce_sum(totals) / len(images)).tolist()
    return rate, distortion


@torch.no_grad()
def test_iwae(model: Autoencoder, images: Tensor, seed: int, count: int) -> float:
    """Mean importance-weighted bound in nats per image: log of the mean of `count` weights.

    Never below the ELBO but by chance, and nearer to log p(x) with every sample. Burda et al.
    2016, equation 8. Seeded and shared as test_elbo.
    """

    def bound(chunk: Tensor, random: torch.Generator) -> Tensor:
        return model.log_weights(chunk, random, count).logsumexp(dim=0) - math.log(count)

    return _mean(model, images, seed, bound)


@torch.no_grad()
def active_units(model: Autoencoder, images: Tensor) -> int:
    """Latents whose posterior mean has a variance above 0.01 over the images, over all ranks.

    Burda et al. 2016, section 5.2. The means are in units of the prior, which for a standard
    normal prior are those of the paper.
    """
    sums = torch.zeros(2, model.latent_dim, dtype=torch.float64, device=model.device)
    for _, chunk in _mine(images, model.device):
        means = model.shift(chunk).double()
        sums += torch.stack([means.sum(dim=0), means.square().sum(dim=0)])
    mean, square = all_reduce_sum(sums) / len(images)
    return int((square - mean.square() > ACTIVE).sum())


def bits_per_dim(bound: float, dims: int) -> float:
    """Nats per image -> bits per dimension (channel of a pixel)."""
    return -bound / (dims * math.log(2))


def _mean(
    model: Autoencoder,
    images: Tensor,
    seed: int,
    values: Callable[[Tensor, torch.Generator], Tensor],
) -> float:
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    for index, chunk in _mine(images, model.device):
        total += values(chunk, _noise(seed, index, model.device)).double().sum()
    return float(all_reduce_sum(total)) / len(images)


def _noise(seed: int, index: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(numbered(seed, index))


def _mine(images: Tensor, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """The chunks of this rank, numbered over all ranks."""
    for index, chunk in enumerate(images.split(CHUNK)):
        if index % world_size() == rank():
            yield index, chunk.to(device)


@once_per_subject
def _elbo(examined: Examined) -> float:
    return test_elbo(examined.autoencoder, examined.images, examined.seed)


@once_per_subject
def _rate_distortion(examined: Examined) -> tuple[float, float]:
    return test_rate_distortion(examined.autoencoder, examined.images, examined.seed)


def _bits(examined: Examined) -> float:
    return bits_per_dim(_elbo(examined), examined.dims)


def _rate(examined: Examined) -> float:
    return bits_per_dim(-_rate_distortion(examined)[0], examined.dims)


def _distortion(examined: Examined) -> float:
    return bits_per_dim(-_rate_distortion(examined)[1], examined.dims)


def _iwae_bits(examined: Examined) -> float:
    bound = test_iwae(examined.autoencoder, examined.images, examined.seed, IMPORTANCE_SAMPLES)
    return bits_per_dim(bound, examined.dims)


def _active(examined: Examined) -> float:
    return float(active_units(examined.autoencoder, examined.images))


def _likelihood(posterior_samples: int) -> Record:
    return {
        "likelihood": "discretised to 256 levels",
        "beta": 1,
        "posterior_samples": posterior_samples,
    }


ELBO = ModelStatistic(_elbo, _likelihood(1))
BITS = ModelStatistic(_bits, _likelihood(1))
RATE = ModelStatistic(_rate, _likelihood(1))
DISTORTION = ModelStatistic(_distortion, _likelihood(1))
IWAE_BITS = ModelStatistic(_iwae_bits, _likelihood(IMPORTANCE_SAMPLES))
ACTIVE_UNITS = ModelStatistic(_active, {"active": f"variance of the posterior mean above {ACTIVE}"})
