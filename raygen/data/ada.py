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
    scale, stretch, down, right = _normal(uniform[:, [0, 2, 4, 5]]).unbind(dim=1)
    turns = 2 * math.pi * uniform[:, [1, 3]]
    wide, long = (2 ** (STRETCH * (scale + sign * stretch)) for sign in (1, -1))
    # From the place of a pixel back to where it comes from: in the reverse order.
    second, first = _rotation(-turns[:, 1]), _rotation(-turns[:, 0])
    stretched = torch.stack([1 / wide, 1 / long], dim=1).unsqueeze(2) * second
    back = first @ stretched
    middle = (side - 1) / 2
    index = torch.arange(side, device=images.device) - middle
    places = torch.stack(torch.meshgrid(index, index, indexing="ij")).flatten(1)
    moved = places - side * SHIFT * torch.stack([down, right], dim=1).unsqueeze(2)
    source = (back @ moved + middle).view(-1, 2, side, side)
    low = source.floor()
    part = (source - low).to(images.dtype)
    low = low.long()
    total = torch.zeros_like(images)
    for rows in (0, 1):
        for columns in (0, 1):
            weights = (part[:, 0] if rows else 1 - part[:, 0]) * (
                part[:, 1] if columns else 1 - part[:, 1]
            )
            at = (_mirrored(low[:, k] + step, side) for k, step in enumerate((rows, columns)))
            total = total + weights.unsqueeze(1) * pixels_at(images, *at)
    return total


def _normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones."""
    return math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-1 + 1e-6, 1 - 1e-6))


def _rotation(angle: Tensor) -> Tensor:
    """Matrices (n, 2, 2)."""
    sine, cosine = torch.sin(angle), torch.cos(angle)
    return torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)


def _mirrored(index: Tensor, side: int) -> Tensor:
    """Places beyond the edge, as those of the image mirrored there."""
    index = index % (2 * (side - 1))
    return torch.minimum(index, 2 * (side - 1) - index)
