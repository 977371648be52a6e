"""Two of the changes of ADA, which leave no trace in what a generator learns.

Karras et al. 2020 b, "Training GANs with limited data", appendix B. Random numbers are arguments,
as in diffaugment.py. What lies outside of an image is its mirror image.
"""

import math

import torch
from torch import Tensor

from raygen.data.diffaugment import SHIFT, offset, pixels_at

STRETCH = 0.2  # deviation of the logarithm to base 2 of a scale


def blit(images: Tensor, uniform: Tensor) -> Tensor:
    """Mirror, turn by quarters, and move by whole pixels up to an eighth of the side.

    Square images (n, c, s, s) and (n, 4) uniform numbers in [0, 1).
    """
    side = images.shape[2]
    index = torch.arange(side, device=images.device)
    mirror, turn, *moves = uniform[:, :, None, None].unbind(dim=1)
    row, column = (
        _mirrored(index.view(shape) - offset(move, side), side)
        for shape, move in zip(((1, -1, 1), (1, 1, -1)), moves, strict=True)
    )
    row, column = torch.broadcast_tensors(row, column)
    quarters = (4 * turn).long()
    far_row, far_column = side - 1 - row, side - 1 - column
    # Where each pixel comes from, after one, two and three turns to the left.
    rows = torch.where(quarters == 0, row, column)
    rows = torch.where(quarters == 2, far_row, torch.where(quarters == 3, far_column, rows))
    columns = torch.where(quarters == 0, column, far_row)
    columns = torch.where(quarters == 2, far_column, torch.where(quarters == 3, row, columns))
    columns = torch.where(mirror < 0.5, side - 1 - columns, columns)
    return pixels_at(images, rows, columns)


def geometric(images: Tensor, uniform: Tensor) -> Tensor:
    """Scale, turn, stretch, turn again and move by parts of pixels; bilinear.

    Square images (n, c, s, s) and (n, 6) uniform numbers in [0, 1). Without the paper's wavelets
    against aliasing, which 32x32 pixels hardly have room for.
    """
    side = images.shape[2]
    middle = (side - 1) / 2
    scale, first, stretch, second, down, right = uniform[:, :, None, None].unbind(dim=1)
    scale, stretch, down, right = map(_normal, (scale, stretch, down, right))
    index = torch.arange(side, device=images.device) - middle
    # From the place of a pixel back to where it comes from: in the reverse order.
    row = index.view(1, -1, 1) - side * SHIFT * down
    column = index.view(1, 1, -1) - side * SHIFT * right
    row, column = _turned(row, column, second)
    wide, long = (2 ** (STRETCH * (scale + sign * stretch)) for sign in (1, -1))
    row, column = _turned(row / wide, column / long, first)
    row, column = row + middle, column + middle
    low_row, low_column = row.floor(), column.floor()
    down_part, right_part = (row - low_row).to(images.dtype), (column - low_column).to(images.dtype)
    total = torch.zeros_like(images)
    for down_step, down_weight in ((0, 1 - down_part), (1, down_part)):
        for right_step, right_weight in ((0, 1 - right_part), (1, right_part)):
            rows = _mirrored(low_row.long() + down_step, side)
            columns = _mirrored(low_column.long() + right_step, side)
            weights = (down_weight * right_weight).unsqueeze(1)
            total = total + weights * pixels_at(images, rows, columns)
    return total


def _normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones."""
    return math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-1 + 1e-6, 1 - 1e-6))


def _turned(row: Tensor, column: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Places turned back around the origin by a share of a full turn.

    No matrix product, which fast arithmetic would round to hundredths of a pixel.
    """
    angle = -2 * math.pi * turn
    sine, cosine = torch.sin(angle), torch.cos(angle)
    return cosine * row - sine * column, sine * row + cosine * column


def _mirrored(index: Tensor, side: int) -> Tensor:
    """Places beyond the edge, as those of the image mirrored there."""
    index = index % (2 * (side - 1))
    return torch.minimum(index, 2 * (side - 1) - index)
