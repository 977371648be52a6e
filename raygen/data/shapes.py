"""`shapes`: ten classes of shapes, drawn in under a second, always the same.

For the quickstart and the tests: real enough for a GAN to fail at, and needs no network.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

CHUNK = 2048  # images drawn at once: at 32x32, bounds memory at 8 MiB per plane
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow


def draw_shapes(
    count: int, seed: int, size: int = 32, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` images: uint8 (count, channels, size, size), int64 labels (count,), even.

    At every size they are the same pictures.
    """
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(SHAPES)
    labels = labels[torch.randperm(count, generator=random)]
    images = torch.cat([_draw(chunk, random, size, channels) for chunk in labels.split(CHUNK)])
    return images.numpy(), labels.numpy()


def _draw(labels: Tensor, random: torch.Generator, size: int, channels: int) -> Tensor:
    n = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=random) * (high - low) + low

    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    x = axis.view(1, 1, -1) - uniform(-0.25, 0.25, 1, 1)
    y = axis.view(1, -1, 1) - uniform(-0.25, 0.25, 1, 1)
    # Less than an eighth of a turn: a square must not become a diamond, nor a plus a cross.
    angle = uniform(-math.pi / 10, math.pi / 10, 1, 1)
    scale = uniform(0.45, 0.75, 1, 1)
    u = (x * angle.cos() + y * angle.sin()) / scale
    v = (y * angle.cos() - x * angle.sin()) / scale
    distance = torch.empty(n, size, size)
    for label, shape in enumerate(SHAPES.values()):
        chosen = labels == label
        distance[chosen] = shape(u[chosen], v[chosen])
    # One pixel of antialiasing: a pixel is 2/size wide, and the distance is in units of the scale.
    inside = (0.5 - distance * scale * size / 2).clamp(0, 1).unsqueeze(1)
    ink, paper = _contrasting(uniform(0, 1, 3, 1, 1), uniform(0, 1, 3, 1, 1))
    shade = 1 + 0.25 * axis.view(1, 1, -1, 1) * uniform(-1, 1, 1, 1, 1)
    picture = (paper * shade * (1 - inside) + ink * inside).clamp(0, 1)
    if channels == 1:
        picture = (picture * torch.tensor(LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
    return (picture * 255).round().byte()


def _contrasting(ink: Tensor, paper: Tensor) -> tuple[Tensor, Tensor]:
    """Replace the ink by its complement where it is too near to the paper to be seen."""
    near = (ink - paper).abs().amax(dim=1, keepdim=True) < 0.4
    return torch.where(near, (paper + 0.5) % 1.0, ink), paper


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return (u.square() + v.square()).sqrt() - 0.9


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return ((u.square() + v.square()).sqrt() - 0.7).abs() - 0.2


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.8


def _diamond(u: Tensor, v: Tensor) -> Tensor:
    return (u.abs() + v.abs() - 1.1) / math.sqrt(2)


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs() * 0.866 - v * 0.5, v) - 0.5


def _plus(u: Tensor, v: Tensor) -> Tensor:
    bar = torch.maximum(u.abs() - 0.95, v.abs() - 0.28)
    pole = torch.maximum(v.abs() - 0.95, u.abs() - 0.28)
    return torch.minimum(bar, pole)


def _cross(u: Tensor, v: Tensor) -> Tensor:
    turn = math.sqrt(0.5)
    return _plus((u + v) * turn, (v - u) * turn)


def _star(u: Tensor, v: Tensor) -> Tensor:
    radius = (u.square() + v.square()).sqrt()
    return radius - 0.65 - 0.3 * torch.cos(5 * torch.atan2(v, u) + math.pi / 2)


def _crescent(u: Tensor, v: Tensor) -> Tensor:
    bite = ((u - 0.45).square() + v.square()).sqrt() - 0.75
    return torch.maximum(_circle(u, v), -bite)


def _stripes(u: Tensor, v: Tensor) -> Tensor:
    bars = ((v * 1.5 + 0.5) % 1.0 - 0.5).abs() / 1.5 - 0.15
    return torch.maximum(bars, torch.maximum(u.abs(), v.abs()) - 0.95)


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "diamond": _diamond,
    "triangle": _triangle,
    "plus": _plus,
    "cross": _cross,
    "star": _star,
    "crescent": _crescent,
    "stripes": _stripes,
}
