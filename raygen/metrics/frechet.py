"""Fréchet distance between the features of real and generated images."""

import torch
from torch import Tensor

from raygen.metrics import Metric
from raygen.metrics.moments import FeatureMoments, FeatureStats, Grouped
from raygen.metrics.statistic import Estimate, Measured, SampleStatistic

INFINITY_PARTS = (1, 2, 4)


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


def frechet_infinity(reference: FeatureStats, grouped: Grouped, root: Tensor) -> float:
    """Fréchet distance in the limit of infinitely many samples of the model.

    The bias of N samples falls as 1 / N, at a rate that depends on the model: a line through the
    means over quarters, halves and the whole of the samples, read off at 0. Chong and Forsyth 2020,
    section 4.1; their points are random subsets, ours are disjoint, so that no feature is kept.
    """
    inverse, distances = [], []
    for count in INFINITY_PARTS:
        parts = grouped.parts(count)
        inverse.append(sum(1 / part.count for part in parts) / count)
        distances.append(sum(frechet_distance(reference, part, root) for part in parts) / count)
    x, y = torch.tensor([inverse, distances], dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())


def frechet_error(reference: FeatureStats, grouped: Grouped, root: Tensor) -> float | None:
    """Return the standard error of the distance over other samples of the same model.

    The distance is linearised at the sample: its gradient is 2 (mu - m) for the mean and I - T
    for the covariance, T = R (R B R)^-1/2 R being the optimal transport map. The means of that
    over the groups scatter as the distance does (a grouped infinitesimal jackknife; Efron and
    Tibshirani 1993, ch. 11 and 21). None with fewer than 3 groups: such an estimate means nothing.
    """
    groups = [group for group in grouped.groups if group.count > 0]
    if len(groups) < 3:
        return None
    other = grouped.stats()
    values, vectors = torch.linalg.eigh(root @ other.cov @ root)
    # Directions that the model does not vary in contribute nothing, but 1 / 0 would.
    values = values.clamp(min=float(values[-1]) * 1e-10)
    transport = root @ (vectors / values.sqrt()) @ vectors.mT @ root
    towards = 2 * (other.mean - reference.mean)
    bend = torch.eye(len(towards), dtype=torch.float64, device=towards.device) - transport
    influences, counts = [], []
    for group in groups:
        mean = group.total / group.count
        spread = group.outer / group.count - torch.outer(mean, other.mean)
        spread = spread - torch.outer(other.mean, mean) + torch.outer(other.mean, other.mean)
        influences.append(towards @ (mean - other.mean) + (bend * (spread - other.cov)).sum())
        counts.append(group.count)
    weights = torch.stack(counts) / torch.stack(counts).sum()
    scatter = torch.stack(influences)
    centre = (weights * scatter).sum()
    variance = (weights.square() * (scatter - centre).square()).sum() * len(groups)
    return float((variance / (len(groups) - 1)).sqrt())


def _distance(measured: Measured, metric: Metric) -> Estimate:
    reference, root = measured.references[metric.against]
    value = frechet_distance(reference, measured.moments.stats(), root)
    return Estimate(value, frechet_error(reference, measured.moments, root))


def _infinity(measured: Measured, metric: Metric) -> Estimate:
    reference, root = measured.references[metric.against]
    return Estimate(frechet_infinity(reference, measured.moments, root))


DISTANCE = SampleStatistic(_distance, needs="moments")
INFINITY = SampleStatistic(
    _infinity, lambda _: {"limit": "line in 1/N through halves and quarters"}, needs="moments"
)

__all__ = [
    "DISTANCE",
    "INFINITY",
    "FeatureMoments",
    "FeatureStats",
    "Grouped",
    "frechet_distance",
    "frechet_error",
    "frechet_infinity",
    "symmetric_root",
]
