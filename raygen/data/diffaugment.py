"""DiffAugment: the same random changes to real and generated images, with gradients.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", section 3.2. The
random numbers are arguments, so that a step is a function of its position and a rank takes its
part of the global batch's.
"""

import torch
from torch import Tensor

SHIFT = 1 / 8  # of the side, in each direction
HOLE = 1 / 2  # of the side


def color(images: Tensor, uniform: Tensor) -> Tensor:
    """Brightness by -0.5 to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5.

    Images (n, 3, h, w) in [-1, 1], and (n, 3) uniform numbers in [0, 1).
    """
    brightness, saturation, contrast = uniform.view(-1, 3, 1, 1, 1).unbind(dim=1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    level = images.mean(dim=(1, 2, 3), keepdim=True)
    return level + (images - level) * (contrast + 0.5)


def translation(images: Tensor, uniform: Tensor) -> Tensor:
    """Move by up to an eighth of the side, (n, 2) numbers for rows and columns; zeros come in."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) - offset(uniform[:, :1], height)
    columns = torch.arange(width, device=images.device) - offset(uniform[:, 1:], width)
    at = rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    moved = pixels_at(images, *at)
    return (
        moved * (_inside(rows, height)[:, :, None] & _inside(columns, width)[:, None, :])[:, None]
    )


def cutout(images: Tensor, uniform: Tensor) -> Tensor:
    """Zero a square of half the side around a point, (n, 2) numbers for its row and column."""
    height, width = images.shape[2:]
    rows, columns = (_hole(uniform[:, i : i + 1], side) for i, side in enumerate((height, width)))
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


def pixels_at(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels (n, c, h, w) at rows and columns that broadcast to (n, h, w)."""
    number = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    return images.permute(0, 2, 3, 1)[number, rows, columns].permute(0, 3, 1, 2)


def offset(uniform: Tensor, side: int) -> Tensor:
    """Whole pixels, up to an eighth of the side both ways, from numbers in [0, 1)."""
    most = int(side * SHIFT + 0.5)
    return (uniform * (2 * most + 1)).floor().long() - most


def _inside(index: Tensor, side: int) -> Tensor:
    return (index >= 0) & (index < side)


def _hole(uniform: Tensor, side: int) -> Tensor:
    """Whether each row (or column) is within half a hole of the point: (n, side)."""
    hole = int(side * HOLE + 0.5)
    middle = (uniform * (side + 1 - hole % 2)).floor().long()
    index = torch.arange(side, device=uniform.device)
    return (index >= middle - hole // 2) & (index < middle - hole // 2 + hole)
