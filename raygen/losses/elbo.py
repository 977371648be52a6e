"""The parts of the evidence lower bound: KL divergence and pixel likelihoods.

Images are (n, c, h, w) in [-1, 1], where the 256 levels lie 2/255 apart; c is 3 or 1. A likelihood
turns the decoder's output (n, outputs, h, w) into a probability of the image.
"""

import math
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, NonNegativeFloat, model_validator
from torch import Tensor, nn

from raygen.distributed import all_reduce_sum, world_size
from raygen.plugins import Registry
from raygen.schedules import NonNegative, value_at
from raygen.spec import Spec, key_of, mistake_at

HALF_LEVEL = 1 / 255
MIN_LOG_SCALE = -7.0  # a scale of 0.1 levels: sharper is below what 8 bits can tell
COMPONENTS = 10  # of a mixture
TAIL = 30.0  # standard deviations


def gaussian_kl(shift: Tensor, log_ratio: Tensor, layers: tuple[int, ...]) -> Tensor:
    """KL(N(shift, exp(log_ratio)^2) || N(0, 1)) in nats, per image and layer: (n, d) -> (n, l).

    `layers` are the latents of each, which sum to d. Kingma and Welling 2014, appendix B.
    """
    logvar = 2 * log_ratio
    terms = shift.square() + logvar.exp() - 1 - logvar
    return torch.stack([0.5 * part.sum(dim=1) for part in terms.split(layers, dim=1)], dim=1)


def log_importance(shift: Tensor, log_ratio: Tensor, noise: Tensor) -> Tensor:
    """Log p(z) - log q(z | x) of the latents drawn with the noise, per image: (n, d) -> (n,).

    In the prior's coordinates z = shift + exp(log_ratio) noise, which cancels the constants.
    """
    latents = shift + torch.exp(log_ratio) * noise
    return (log_ratio + 0.5 * (noise.square() - latents.square())).sum(dim=1)


class DiscretisedLogistic(nn.Module):
    """A logistic per channel and pixel, integrated over each of the 256 levels.

    Salimans et al. 2017, section 2.1, with one component.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.outputs = 2 * channels
        # Initial bias of the decoder's last layer: grey, and a scale of 0.14 of half the range.
        # From a scale of 1 the first thousand steps would go into learning that pictures have one.
        self.start = (*channels * [0.0], *channels * [-2.0])

    def mean(self, output: Tensor) -> Tensor:
        """The picture that the decoder means: (n, c, h, w)."""
        return output[:, : self.outputs // 2]  # a slice: torch.export saves no unused half

    def log_mass(self, images: Tensor, output: Tensor) -> Tensor:
        """Log-probability of the 8-bit image in nats, per image: (n,)."""
        mean, log_scale = output.chunk(2, dim=1)
        return _logistic_log_mass(images, mean, log_scale).flatten(1).sum(dim=1)

    def log_prob(self, images: Tensor, output: Tensor) -> Tensor:
        """The training objective is the mass itself."""
        return self.log_mass(images, output)


class DiscretisedLogisticMixture(nn.Module):
    """Ten discretised logistics per pixel, in each of which green sees red, and blue sees both.

    Salimans et al. 2017 (PixelCNN++), section 2: the components are those of the whole pixel, and
    the mean of a channel is linear in the channels before it.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.image_channels = channels
        # Per component: its logit, means and log-scales, and for colours three couplings.
        couplings = [0.0] * (3 if channels == 3 else 0)
        self.outputs = COMPONENTS * (1 + 2 * channels + len(couplings))
        # Greys spread over the range, so that the components begin with something to divide up.
        self.start = tuple(
            value
            for k in range(COMPONENTS)
            for value in (
                0.0, *channels * [(2 * k + 1) / COMPONENTS - 1], *channels * [-2.0], *couplings
            )
        )  # fmt: skip

    def mean(self, output: Tensor) -> Tensor:
        """The mean of the mixture: each component's own, with its couplings, by its weight."""
        logits, means, _, couplings = self._parts(output)
        weights = logits.softmax(dim=1).unsqueeze(2)
        if len(means) == 1:
            return (weights * torch.stack(means, dim=2)).sum(dim=1)
        (red, green, blue), (rg, rb, gb) = means, couplings
        green = green + rg * red
        blue = blue + rb * red + gb * green
        return (weights * torch.stack([red, green, blue], dim=2)).sum(dim=1)

    def log_mass(self, images: Tensor, output: Tensor) -> Tensor:
        """Log-probability of the 8-bit image in nats, per image: (n,)."""
        logits, means, log_scale, couplings = self._parts(output)
        seen = images.unsqueeze(1)
        if len(means) == 3:
            (red, green, blue), (rg, rb, gb) = means, couplings
            r, g = seen[:, :, 0], seen[:, :, 1]
            means = red, green + rg * r, blue + rb * r + gb * g
        mean = torch.stack(means, dim=2)
        pixels = _logistic_log_mass(seen, mean, log_scale).sum(dim=2)
        log_mass = torch.logsumexp(logits.log_softmax(dim=1) + pixels, dim=1)
        return log_mass.flatten(1).sum(dim=1)

    def log_prob(self, images: Tensor, output: Tensor) -> Tensor:
        """The training objective is the mass itself."""
        return self.log_mass(images, output)

    def _parts(
        self, output: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]:
        """Logits (n, k, h, w), means, log-scales (n, k, c, h, w), couplings in (-1, 1)."""
        parts = output.unflatten(1, (COMPONENTS, -1))
        scales, rest = 1 + self.image_channels, 1 + 2 * self.image_channels
        means = parts[:, :, 1:scales].unbind(2)
        # Grey has none: torch.export cannot save that nothing is taken apart.
        couplings = torch.tanh(parts[:, :, rest:]).unbind(2) if len(means) == 3 else ()
        return parts[:, :, 0], means, parts[:, :, scales:rest], couplings


class LearnedSigmaGaussian(nn.Module):
    """A Gaussian with one standard deviation for all pixels, learned with the network.

    Trained on its density, evaluated on the mass it gives to each 8-bit level.
    Rybkin et al. 2021, section 3.2.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.outputs, self.start = channels, (0.0,) * channels
        # Near the error of a blurred picture: Adam moves one scalar by its rate per step, so from 0
        # it would need thousands of steps.
        self.log_sigma = nn.Parameter(torch.tensor(-1.0))

    def mean(self, output: Tensor) -> Tensor:
        """The picture that the decoder means: (n, c, h, w)."""
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
        # Further out the logarithms are too large to be subtracted, and their slopes are NaN.
        far = b < -TAIL
        near_a, near_b = torch.where(far, -1.0, a), torch.where(far, 0.0, b)
        log_a, log_b = torch.special.log_ndtr(near_a), torch.special.log_ndtr(near_b)
        between = log_b + torch.log(-torch.expm1((log_a - log_b).clamp(max=-1e-7)))
        between = torch.where(far, _tail_log_mass(b.clamp(max=-TAIL), precision), between)
        edges = _log_ndtr(upper), _log_ndtr(-lower)
        return _with_edges(images, *edges, between).flatten(1).sum(dim=1)


def _logistic_log_mass(images: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-mass of each level under a logistic of its own; the three broadcast."""
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


def _log_ndtr(x: Tensor) -> Tensor:
    """Log Phi(x), with a slope also where torch's is NaN or 0."""
    far = x < -TAIL
    near = torch.special.log_ndtr(torch.where(far, 0.0, x))
    return torch.where(far, _log_tail(x.clamp(max=-TAIL)), near)


def _log_tail(x: Tensor) -> Tensor:
    """Log Phi(x) for x <= -TAIL, to 1e-6: three terms of Mills' ratio."""
    inverse = x.square().reciprocal()
    series = torch.log1p(inverse * (3 * inverse - 1))
    return -0.5 * x.square() - torch.log(-x) - 0.5 * math.log(2 * math.pi) + series


def _tail_log_mass(b: Tensor, precision: Tensor) -> Tensor:
    """log(Phi(b) - Phi(a)) for b <= -TAIL, where a lies a level below b.

    Phi(a) / Phi(b) = exp(-w (|b| + w / 2)) / (1 + w / |b|), but for a factor of 1 + w / |b|^3.
    """
    width = 2 * HALF_LEVEL * precision
    gap = width * (0.5 * width - b) + torch.log1p(-width / b)
    return _log_tail(b) + torch.log(-torch.expm1(-gap.clamp(min=1e-7)))


def _with_edges(images: Tensor, darkest: Tensor, brightest: Tensor, between: Tensor) -> Tensor:
    """The darkest and brightest levels take the whole tail."""
    mass = torch.where(images < -1 + HALF_LEVEL, darkest, between)
    return torch.where(images > 1 - HALF_LEVEL, brightest, mass)


Likelihood = DiscretisedLogistic | DiscretisedLogisticMixture | LearnedSigmaGaussian
LIKELIHOODS: Registry[type[Likelihood]] = Registry(type, {
    "discretised_logistic": DiscretisedLogistic,
    "discretised_logistic_mixture": DiscretisedLogisticMixture,
    "gaussian": LearnedSigmaGaussian,
})  # fmt: skip


class ElboLoss(Spec):
    """Which likelihood, and what is asked of the KL term.

    `beta`: its weight (Higgins et al. 2017), to which it rises over the first `warmup_kimg`
    thousand images (Sonderby et al. 2016). `free_bits`: each layer's KL, in nats and as the mean
    over the batch, counts as no less (Kingma et al. 2016, appendix C.8).
    """

    likelihood: Annotated[str, AfterValidator(key_of(LIKELIHOODS))] = "discretised_logistic"
    beta: NonNegative = 1.0
    free_bits: NonNegative = 0.0
    warmup_kimg: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _one_rise(self) -> Self:
        if self.warmup_kimg and not isinstance(self.beta, float):
            rule = "give beta a schedule or a warmup_kimg, not both"
            raise mistake_at(rule, self.warmup_kimg, "warmup_kimg")
        return self

    def weight(self, position: int, share: float = 0.0) -> float:
        """Weight of the KL term for a step from the image `position` on, at a share of budget."""
        beta = value_at(self.beta, share)
        if position >= 1000 * self.warmup_kimg:
            return beta
        return beta * position / (1000 * self.warmup_kimg)

    def divergence(self, kl: Tensor, free_bits: Tensor) -> Tensor:
        """KL of each layer, the mean over this rank's images, (l,) -> what is minimised, ().

        `free_bits` () is where that of a schedule stands.
        """
        if self.free_bits != 0:
            # The mean over the global batch: then two ranks with half of it each agree with one.
            kl = torch.maximum(all_reduce_sum(kl) / world_size(), free_bits)
        return kl.sum()
