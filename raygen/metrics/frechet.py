"""Fréchet distance between the features of real and generated images."""

from typing import NamedTuple

import torch
from torch import Tensor

from raygen.distributed import all_reduce_sum


class FeatureStats(NamedTuple):
    """Mean (d,) and covariance (d, d) of features, float64, from `count` images."""

    mean: Tensor
    cov: Tensor
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


class FeatureMoments:
    """Sums from which the statistics of any number of chunks and ranks follow, in float64.

    The sums of two halves add up to those of the whole, so chunks and ranks need no order.
    """

    def __init__(self, dim: int, device: torch.device) -> None:
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.total = torch.zeros(dim, dtype=torch.float64, device=device)
        self.outer = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def add(self, features: Tensor) -> None:
        """Add features (n, d)."""
        features = features.double()
        self.count += len(features)
        self.total += features.sum(dim=0)
        self.outer += features.mT @ features

    def merged(self) -> "FeatureMoments":
        """Return the sums over all ranks."""
        dim, device = len(self.total), self.total.device
        merged = FeatureMoments(dim, device)
        merged.count = all_reduce_sum(self.count)
        merged.total = all_reduce_sum(self.total)
        merged.outer = all_reduce_sum(self.outer)
        return merged

    def stats(self) -> FeatureStats:
        """Return the statistics of what was added; the covariance divides by N - 1."""
        count, mean, outer = self.count, self.total / self.count, self.outer
        cov = (outer - count * torch.outer(mean, mean)) / (count - 1)
        return FeatureStats(mean, cov, int(count))


def symmetric_root(cov: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semi-definite matrix (d, d)."""
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def frechet_distance(
    reference: FeatureStats, other: FeatureStats, root: Tensor | None = None
) -> float:
    """Squared Fréchet distance between two Gaussians; Dowson and Landau 1982; Heusel et al. 2017.

    tr sqrt(A B) is the sum of the roots of the eigenvalues of R B R with R = sqrt(A): symmetric,
    so no complex numbers, and R is the same for every trial (`root`, computed if not given).
    """
    root = symmetric_root(reference.cov) if root is None else root
    product = torch.linalg.eigvalsh(root @ other.cov @ root)
    cross = product.clamp(min=0).sqrt().sum()
    means = (reference.mean - other.mean).square().sum()
    return float(means + reference.cov.trace() + other.cov.trace() - 2 * cross)
