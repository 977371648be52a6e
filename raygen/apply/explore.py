"""Where to look among the latents: near to the middle, between two, around a picture."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from raygen.apply.generator_module import network_of
from raygen.data.batches import to_model_range
from raygen.data.decode import decode_all, read_bytes
from raygen.data.fit import Fit
from raygen.document import check_file
from raygen.image_shape import ImageShape
from raygen.training.loop import Learner
from raygen.training.vae import VaeLearner

STARTS, STEPS, RATE = 32, 150, 0.05  # of a search for a picture


def truncated(latents: Tensor, threshold: float) -> Tensor:
    """Standard normal latents -> the same, distributed as if drawn again while beyond +-threshold.

    The truncation trick of Brock, Donahue and Simonyan 2019, section 3.1; through the distribution
    function instead of by rejection, so that each latent stays near to what it was.
    """
    root = math.sqrt(2)
    inside = math.erf(threshold / root)
    # erf of a normal number is uniform in (-1, 1).
    uniform = torch.erf(latents.double() / root) * inside
    return (torch.erfinv(uniform) * root).clamp(-threshold, threshold).to(latents.dtype)


def scaled(latents: Tensor, temperature: float) -> Tensor:
    """Latents by a temperature: their standard deviations times it.

    Of a VAE with several layers, the latents given here are in the coordinates of each prior, so
    that it is every prior's standard deviation, given the layers above. Child 2021, section 5.
    """
    return latents * temperature


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    """From one latent (d,) to another along the great circle; lengths change evenly.

    Straight lines pass near to the middle, where a normal prior has no mass. White 2016.
    """
    unit, to = one / one.norm(), other / other.norm()
    angle = torch.arccos((unit @ to).clamp(-1, 1))
    if float(angle.sin()) < 1e-6:
        return torch.lerp(one, other, share)
    direction = (
        torch.sin((1 - share) * angle) * unit + torch.sin(share * angle) * to
    ) / angle.sin()
    return direction * torch.lerp(one.norm(), other.norm(), share)


def strips(stream: Iterable[tuple[Tensor, Tensor]], frames: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Each latent becomes `frames` on the way to the next; the last one's next is the first.

    All of a strip have the label of the first of its latents: between classes there is nothing.
    """
    start: tuple[Tensor, Tensor] | None = None
    before: tuple[Tensor, Tensor] | None = None
    for latents, labels in stream:
        for latent, label in zip(latents, labels, strict=True):
            if before is None:
                start = latent, label
            else:
                yield _strip(before, latent, frames)
            before = latent, label
    assert before is not None
    assert start is not None
    yield _strip(before, start[0], frames)


def _strip(one: tuple[Tensor, Tensor], other: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    latents = torch.stack([slerp(one[0], other, k / frames) for k in range(frames)])
    return latents, one[1].expand(frames)


def mosaic(images: Tensor, times: int) -> Tensor:
    """Images (n, 3, h, w) -> each `times` x `times` of itself, every other one mirrored.

    So borders meet, and with an even number the whole repeats without a seam.
    """
    row = torch.cat([images.flip(-1) if k % 2 else images for k in range(times)], dim=-1)
    return torch.cat([row.flip(-2) if k % 2 else row for k in range(times)], dim=-2)


def read_square(path: Path, image: ImageShape) -> Tensor:
    """Any picture -> uint8 (1, c, h, w): the square in its middle, made smaller or larger.

    Raises:
        InputError: missing, or not a picture.
    """
    check_file(path)
    fit = Fit(image.size, image.channels)
    return torch.from_numpy(decode_all([read_bytes(path)], [f"--like {path}"], fit))


def resembling(
    learner: Learner, picture: Tensor, seed: int, label: int | None
) -> tuple[Tensor, int]:
    """Find a latent (d,) and a label whose image resembles a uint8 picture (1, c, h, w).

    A VAE encodes it: the posterior mean. A GAN searches by gradient from several seeded starts,
    over all classes unless told one, for the least difference at full, half, quarter and eighth
    resolution.
    """
    if isinstance(learner, VaeLearner):
        return learner.shift(picture.to(learner.device))[0], label or 0
    network = network_of(learner)
    wanted = _pyramid(to_model_range(picture.to(learner.device)))
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(STARTS, learner.latent_dim, generator=random).to(learner.device)
    labels = torch.arange(STARTS, device=learner.device) % learner.classes
    if label is not None:
        labels = torch.full_like(labels, label)
    latents.requires_grad_(True)
    adam = torch.optim.Adam([latents], RATE)
    losses = torch.zeros(STARTS)
    for _ in range(STEPS):
        drawn = _pyramid(network(latents, labels))
        parts = [(a - b).square().mean(dim=(1, 2, 3)) for a, b in zip(drawn, wanted, strict=True)]
        # The prior's own pull: a latent far from the middle draws what was never trained.
        losses = torch.stack(parts).sum(dim=0) + 1e-3 * latents.square().mean(dim=1)
        adam.zero_grad()
        losses.sum().backward()
        adam.step()
    best = int(losses.argmin())
    return latents.detach()[best], int(labels[best])


def around(middle: Tensor, count: int, spread: float, seed: int) -> Tensor:
    """The latent (d,) itself, then others around it: (count, d), as long as draws of the prior."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, len(middle), generator=random).to(middle.device)
    others = math.sqrt(1 - spread**2) * middle + spread * noise
    others[0] = middle
    return others


def _pyramid(images: Tensor) -> list[Tensor]:
    return [images, *(F.avg_pool2d(images, k) for k in (2, 4, 8))]
