"""The parts of the evidence lower bound: KL divergence and pixel likelihoods.

Images are (n, 3, 32, 32) in [-1, 1], where the 256 levels lie 2/255 apart. A likelihood turns
the decoder's output (n, channels, 32, 32) into a probability of the image.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, NonNegativeFloat
from torch import Tensor, nn

from raygen.spec import Spec, key_of

HALF_LEVEL = 1 / 255
MIN_LOG_SCALE = -7.0  # a scale of 0.1 levels: sharper is below what 8 bits can tell


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) in nats, per image: (n, d) -> (n,).

    Kingma and Welling 2014, appendix B.
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1)


class DiscretisedLogistic(nn.Module):
    """A logistic per channel and pixel, integrated over each of the 256 levels.

    Salimans et al. 2017, section 2.1, with one component.
    """

    channels = 6
    # Initial bias of the decoder's last layer: grey, and a scale of 0.14 of half the range. From a
    # scale of 1 the first thousand steps would go into learning that pictures have one.
    start = (0.0, 0.0, 0.0, -2.0, -2.0, -2.0)

    def mean(self, output: Tensor) -> Tensor:
        """The picture that the decoder means: (n, 3, 32, 32)."""
        return output[:, :3]

    def log_mass(self, images: Tensor, output: Tensor) -> Tensor:
        """Log-probability of the 8-bit image in nats, per image: (n,)."""
        mean, log_scale = output.chunk(2, dim=1)
        log_scale = log_scale.clamp(min=MIN_LOG_SCALE)
        precision = torch.exp(-log_scale)
        upper = (images - mean + HALF_LEVEL) * precision
        lower = (images - mean - HALF_LEVEL) * precision
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)): without the
        # difference, which far from the mean is one of two equal numbers. u - l is the width w of
        # a level; log(1 - exp(-w)) is split so that it stays finite where w rounds to 0.
        width = (2 * HALF_LEVEL * precision).clamp(min=1e-6)
        log_width = math.log(2 * HALF_LEVEL) - log_scale
        between = below + above + log_width + torch.log(-torch.expm1(-width) / width)
        return _with_edges(images, below, above, between)

    def log_prob(self, images: Tensor, output: Tensor) -> Tensor:
        """The training objective is the mass itself."""
        return self.log_mass(images, output)


class LearnedSigmaGaussian(nn.Module):
    """A Gaussian with one standard deviation for all pixels, learned with the network.

    Trained on its density, evaluated on the mass it gives to each 8-bit level.
    Rybkin et al. 2021, section 3.2.
    """

    channels = 3
    start = (0.0, 0.0, 0.0)

    def __init__(self) -> None:
        super().__init__()
        # Near the error of a blurred picture: Adam moves one scalar by its rate per step, so from 0
        # it would need thousands of steps.
        self.log_sigma = nn.Parameter(torch.tensor(-1.0))

    def mean(self, output: Tensor) -> Tensor:
        """The picture that the decoder means: (n, 3, 32, 32)."""
        return output

    def log_prob(self, images: Tensor, output: Tensor) -> Tensor:
        """Log-density in nats, per image: (n,)."""
        log_sigma = self.log_sigma.clamp(min=MIN_LOG_SCALE)
        squares = ((images - output) * torch.exp(-log_sigma)).square()
        return -(0.5 * squares + log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(dim=1)

    def log_mass(self, images: Tensor, output: Tensor) -> Tensor:
        """Log-probability of the 8-bit image in nats, per image: (n,)."""
        precision = torch.exp(-self.log_sigma.clamp(min=MIN_LOG_SCALE))
        upper = (images - output + HALF_LEVEL) * precision
        lower = (images - output - HALF_LEVEL) * precision
        # Mirror to the left tail, where log_ndtr is exact: log(Phi(b) - Phi(a)), a < b.
        right = lower > 0
        a, b = torch.where(right, -upper, lower), torch.where(right, -lower, upper)
        log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
        between = log_b + torch.log(-torch.expm1((log_a - log_b).clamp(max=-1e-7)))
        edges = torch.special.log_ndtr(upper), torch.special.log_ndtr(-lower)
        return _with_edges(images, *edges, between)


def _with_edges(images: Tensor, darkest: Tensor, brightest: Tensor, between: Tensor) -> Tensor:
    """The darkest and brightest levels take the whole tail; sum over pixels: (n,)."""
    mass = torch.where(images < -1 + HALF_LEVEL, darkest, between)
    return torch.where(images > 1 - HALF_LEVEL, brightest, mass).flatten(1).sum(dim=1)


LIKELIHOODS: dict[str, type[DiscretisedLogistic] | type[LearnedSigmaGaussian]] = {
    "discretised_logistic": DiscretisedLogistic,
    "gaussian": LearnedSigmaGaussian,
}


class ElboLoss(Spec):
    """Which likelihood, and the weight of the KL term (Higgins et al. 2017)."""

    likelihood: Annotated[str, AfterValidator(key_of(LIKELIHOODS))] = "discretised_logistic"
    beta: NonNegativeFloat = 1.0
