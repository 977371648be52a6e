"""Statistics of nearness: do generated images lie closer to training images than new ones do?"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

LEVEL = 0.01  # share of held-out images that count as near duplicates by construction
Z95 = 1.959964
LEAST = 10  # images of each kind in a cell that counts


class Shift(NamedTuple):
    """A Mann-Whitney z: below zero, generated images lie nearer to the training images."""

    z: float
    p: float  # one-sided, of a z as low as this by chance


def near_duplicates(generated: Tensor, held_out: Tensor) -> dict[str, Any]:
    """Share of distances (n,) below the 1% quantile of those of held-out images (m,).

    p is that of a share as high by chance: it knows that the quantile, too, comes from a sample.
    """
    k = max(1, round(LEVEL * len(held_out)))
    threshold = float(held_out.sort().values[k - 1])
    count, n, m = int((generated < threshold).sum()), len(generated), len(held_out)
    low, high = wilson(count, n)
    copies = {"threshold": threshold, "rate": count / n, "low": low, "high": high}
    return {**copies, "expected": k / (m + 1), "p": _before(count, k, n, m)}


def _before(count: int, k: int, n: int, m: int) -> float:
    """Chance that `count` or more of n come before the k-th of m, if all orders are as likely.

    That is: among the first count + k - 1 of them all, at most k - 1 are of the m.
    """
    if count == 0:
        return 1.0
    first = count + k - 1
    whole = _log_choose(n + m, first)
    terms = (
        _log_choose(m, j) + _log_choose(n, first - j) - whole
        for j in range(k)
        if j <= m and first - j <= n
    )
    return min(1.0, sum(math.exp(term) for term in terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def fewer(share: float, n: int, other: float, m: int) -> float:
    """One-sided p of a share of n as far below another one, of m, by chance."""
    pooled = (share * n + other * m) / (n + m)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return _below((share - other) / spread) if spread else 0.5


def wilson(count: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share. Wilson 1927."""
    share, square = count / n, Z95**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z95 / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def mann_whitney(generated: np.ndarray, held_out: np.ndarray) -> Shift:
    """Compare two samples of distances by their ranks, ties by their mean rank."""
    n, m = len(generated), len(held_out)
    ranks = mean_ranks(np.concatenate([generated, held_out]))
    _, ties = np.unique(np.concatenate([generated, held_out]), return_counts=True)
    statistic = ranks[:n].sum() - n * (n + 1) / 2
    total = n + m
    correction = float((ties.astype(float) ** 3 - ties).sum()) / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - correction)
    z = (statistic - n * m / 2) / math.sqrt(variance) if variance > 0 else 0.0
    return Shift(float(z), _below(float(z)))


def copying_test(
    generated: Tensor, held_out: Tensor, cells: tuple[Tensor, Tensor], count: int
) -> Shift:
    """C_T of Meehan, Chaudhuri and Dasgupta 2020: the z of each cell, weighted by held-out images.

    Distances to the nearest training image of generated (n,) and held-out images (m,), and the cell
    of each. Where nothing is copied the z are independent and standard normal, which gives p.
    """
    zs, weights = [], []
    for cell in range(count):
        drawn = generated[cells[0] == cell].double().numpy()
        other = held_out[cells[1] == cell].double().numpy()
        if min(len(drawn), len(other)) >= LEAST:
            zs.append(mann_whitney(drawn, other).z)
            weights.append(float(len(other)))
    if not zs:
        return mann_whitney(generated.double().numpy(), held_out.double().numpy())
    shares = np.array(weights) / sum(weights)
    value = float(shares @ np.array(zs))
    return Shift(value, _below(value / math.sqrt(float((shares**2).sum()))))


def nearer_share(to_train: Tensor, to_test: Tensor) -> dict[str, float]:
    """Share of generated images nearer to a training than to a held-out image, equally many each.

    One half where training images are nothing special, however blurred or simple the generated
    ones are. Ties count half; p is that of a share as high by chance (sign test).
    """
    nearer = (to_train < to_test).double() + 0.5 * (to_train == to_test).double()
    share, n = float(nearer.mean()), len(nearer)
    low, high = wilson(round(share * n), n)
    return {"share": share, "low": low, "high": high, "p": _below(-(share - 0.5) * 2 * n**0.5)}


def area(inside: Tensor, outside: Tensor, seed: int, draws: int = 500) -> dict[str, float]:
    """How well a score tells training from held-out images: AUC with a bootstrap interval."""
    a, b = inside.double().numpy(), outside.double().numpy()
    random = np.random.default_rng(seed)
    again = [_auc(random.choice(a, len(a)), random.choice(b, len(b))) for _ in range(draws)]
    low, high = np.quantile(again, [0.025, 0.975])
    return {"auc": _auc(a, b), "low": float(low), "high": float(high)}


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def cluster(points: Tensor, count: int, seed: int, rounds: int = 10) -> Tensor:
    """Centres (count, d) of k-means over points (n, d), from a seeded choice of them."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(points), generator=random)[:count]
    centres = points[chosen.to(points.device)].clone()
    for _ in range(rounds):
        cell = torch.cdist(points, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, cell, points)
        counts = torch.bincount(cell, minlength=len(centres)).to(sums.dtype)
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centres)
    return centres


def _auc(a: np.ndarray, b: np.ndarray) -> float:
    ranks = mean_ranks(np.concatenate([a, b]))
    return float((ranks[: len(a)].sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def _below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
