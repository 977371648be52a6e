"""Precision, recall, density and coverage: whose features lie in whose nearest-neighbour balls.

Distances are made a strip at a time, so memory grows with one sample's size, not with its square.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from raygen.metrics import Metric
from raygen.metrics.statistic import Estimate, Measured, SampleStatistic, once_per_subject

MANIFOLD_K = 3  # of precision and recall, as Kynkäänniemi et al. and torch-fidelity have it
DENSITY_K = 5  # of density and coverage, as Naeem et al. have it
STRIP = 2**24  # distances held at once: 128 MB


class Neighbourhoods(NamedTuple):
    """Per image, 0 or 1 (density: a count over k); each metric is a mean.

    A ball reaches from a feature to the k-th nearest other of its own kind.
    `precision` (n,): generated images in a ball of a real one, and `recall` (m,): real images in a
    ball of a generated one; Kynkäänniemi et al. 2019, equations 1 to 3. `density` (n,): in how many
    balls of real images each generated one lies, over k, and `coverage` (m,): balls of real images
    that hold a generated one; Naeem et al. 2020, equations 3 and 4.
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def neighbourhoods(
    generated: Tensor, reference: Tensor, manifold: int = MANIFOLD_K, balls: int = DENSITY_K
) -> Neighbourhoods:
    """Compare features (n, d) with those of real images (m, d): all distances are made once."""
    real, real_balls = ball_radii(reference, (manifold, balls))
    (fake,) = ball_radii(generated, (manifold,))
    precision, density = [], []
    recall = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    nearest = torch.full_like(real, torch.inf)
    start = 0
    for strip in _strips(generated, reference):
        precision.append((strip <= real).any(dim=1))
        density.append((strip < real_balls).sum(dim=1))
        recall |= (strip <= fake[start : start + len(strip), None]).any(dim=0)
        nearest = torch.minimum(nearest, strip.amin(dim=0))
        start += len(strip)
    return Neighbourhoods(
        torch.cat(precision).double(),
        recall.double(),
        torch.cat(density).double() / balls,
        (nearest < real_balls).double(),
    )


def ball_radii(features: Tensor, ks: tuple[int, ...]) -> list[Tensor]:
    """Squared distance of each feature to its k-th nearest other, for some k: (n, d) -> (n,)."""
    nearest = [
        strip.topk(max(ks) + 1, dim=1, largest=False).values
        for strip in _strips(features, features)
    ]
    return [torch.cat(nearest)[:, k] for k in ks]


def _strips(rows: Tensor, columns: Tensor) -> Iterator[Tensor]:
    """Squared distances (strip, m) of some rows to all columns, in float64."""
    columns = columns.double()
    squares = columns.square().sum(dim=1)
    for part in rows.split(max(1, STRIP // len(columns))):
        part = part.double()
        yield part.square().sum(dim=1, keepdim=True) + squares - 2 * part @ columns.mT


@once_per_subject
def _balls(measured: Measured) -> Neighbourhoods:
    return neighbourhoods(measured.features, measured.real)


def _over_samples(share: Tensor) -> Estimate:
    """A mean over samples, whose error is that of a mean."""
    return Estimate(float(share.mean()), float(share.std() / len(share) ** 0.5))


def _over_real(share: Tensor) -> Estimate:
    """A mean over real images, of which every value depends on all samples: no error follows."""
    return Estimate(float(share.mean()))


def _precision(measured: Measured, _: Metric) -> Estimate:
    return _over_samples(_balls(measured).precision)


def _recall(measured: Measured, _: Metric) -> Estimate:
    return _over_real(_balls(measured).recall)


def _density(measured: Measured, _: Metric) -> Estimate:
    return _over_samples(_balls(measured).density)


def _coverage(measured: Measured, _: Metric) -> Estimate:
    return _over_real(_balls(measured).coverage)


PRECISION = SampleStatistic(_precision, lambda _: {"neighbours": MANIFOLD_K})
RECALL = SampleStatistic(_recall, lambda _: {"neighbours": MANIFOLD_K})
DENSITY = SampleStatistic(_density, lambda _: {"neighbours": DENSITY_K})
COVERAGE = SampleStatistic(_coverage, lambda _: {"neighbours": DENSITY_K})
