"""Pictures of a model beside its samples: the way between two latents, and what a VAE rebuilds."""

import math

import torch
from torch import Tensor

from raygen.metrics.model import draw_latents
from raygen.training.gan import GanLearner
from raygen.training.own import OwnLearner
from raygen.training.vae import VaeLearner

ROWS, FRAMES = 4, 8  # of an interpolation
REBUILT = 16  # test images, each above its reconstruction
SEED = 11  # not that of the grid: these latents are looked at in pairs


def views(learner: GanLearner | VaeLearner | OwnLearner, held_out: Tensor) -> dict[str, Tensor]:
    """Uint8 images by name, in rows of 8, from the same latents and images at every milestone."""
    images = {"interpolation": interpolation(learner)}
    if isinstance(learner, VaeLearner):
        images["reconstructions"] = reconstructions(learner, held_out[:REBUILT])
    return images


def interpolation(learner: GanLearner | VaeLearner | OwnLearner) -> Tensor:
    """Each row goes from one latent to another: cos(t) a + sin(t) b, t from 0 to a right angle.

    For independent standard normal a and b every point between is standard normal, too; a straight
    line would pass where a prior of many dimensions has no mass (White 2016).
    """
    latents, labels = draw_latents(learner, SEED, 0, 2 * ROWS)
    angle = torch.linspace(0, math.pi / 2, FRAMES, device=latents.device)[None, :, None]
    start, other = latents[:ROWS, None], latents[ROWS:, None]
    between = torch.cos(angle) * start + torch.sin(angle) * other
    # One class a row: between classes there is nothing.
    return learner.sample(between.flatten(0, 1), labels[:ROWS].repeat_interleave(FRAMES)).cpu()


def reconstructions(learner: VaeLearner, images: Tensor) -> Tensor:
    """Rows in turns: 8 images, then the same through the posterior mean of their latents."""
    images = images.cpu()
    rebuilt = learner.reconstruct(images.to(learner.device)).cpu()
    rows = [row for pair in zip(images.split(8), rebuilt.split(8), strict=True) for row in pair]
    return torch.cat(rows)
