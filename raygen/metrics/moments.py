"""Mean and covariance of features, summed over chunks and ranks."""

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


class Grouped:
    """The same moments in a few groups of chunks, from whose scatter a standard error follows."""

    GROUPS = 8

    def __init__(self, dim: int, device: torch.device) -> None:
        self.groups = [FeatureMoments(dim, device) for _ in range(self.GROUPS)]

    def add(self, chunk: int, features: Tensor) -> None:
        """Add the features (n, d) of one chunk; which group it belongs to is the same anywhere."""
        self.groups[chunk % self.GROUPS].add(features)

    def merged(self) -> "Grouped":
        """Return the sums over all ranks."""
        merged = Grouped.__new__(Grouped)
        merged.groups = [group.merged() for group in self.groups]
        return merged

    def stats(self) -> FeatureStats:
        """Return the statistics of all groups together."""
        return self.parts(1)[0]

    def parts(self, count: int) -> list[FeatureStats]:
        """Return the statistics of `count` disjoint parts of the samples, of about equal size."""
        statistics = []
        for first in range(count):
            part = FeatureMoments(len(self.groups[0].total), self.groups[0].total.device)
            for group in self.groups[first::count]:
                part.count += group.count
                part.total += group.total
                part.outer += group.outer
            statistics.append(part.stats())
        return statistics
