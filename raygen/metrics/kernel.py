"""Kernel distance: the unbiased squared MMD under a cubic polynomial kernel. Of Inception: KID."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raygen.metrics import Metric
from raygen.metrics.protocol import Record
from raygen.metrics.statistic import Estimate, Measured, SampleStatistic

SUBSETS = 100
SUBSET_SIZE = 1000
SEED = 2020  # with which torch-fidelity draws its subsets, and so do we


class Spread(NamedTuple):
    """A mean over subsets or splits, their standard deviation, and the standard error."""

    mean: float
    spread: float
    error: float | None


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x y / d + 1)^3: (n, d), (m, d) -> (n, m). Binkowski et al. 2018, section 4."""
    return (x @ y.mT / x.shape[1] + 1) ** 3


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased estimate of the squared MMD between two samples of one size (m, d) -> ().

    Gretton et al. 2012, equation 3.
    """
    m = len(x)
    inside = sum(k.sum() - k.diagonal().sum() for k in (polynomial_kernel(z, z) for z in (x, y)))
    return inside / (m * (m - 1)) - 2 * polynomial_kernel(x, y).mean()


def kernel_distance(
    generated: Tensor, reference: Tensor, subsets: int = SUBSETS, size: int = SUBSET_SIZE
) -> Spread:
    """Mean squared MMD over random subsets of `size`, or of all if there are fewer.

    In float64: in float32 the kernel's rounding is of the order of a good model's KID.
    """
    size = min(size, len(generated), len(reference))
    random = np.random.RandomState(SEED)
    values = []
    for _ in range(subsets):
        parts = []
        for features in (generated, reference):
            chosen = torch.from_numpy(random.choice(len(features), size, replace=False))
            parts.append(features[chosen.to(features.device)].double())
        values.append(squared_mmd(parts[0], parts[1]))
    estimates = torch.stack(values)
    spread = float(estimates.std(correction=0))
    # The variance of an MMD falls with the sample's size; the subsets hold parts of the same one.
    whole = min(len(generated), len(reference))
    error = spread * (size / whole) ** 0.5 if size < whole else None
    return Spread(float(estimates.mean()), spread, error)


def _compute(measured: Measured, _: Metric) -> Estimate:
    mean, spread, error = kernel_distance(measured.features, measured.real)
    return Estimate(mean, error, spread)


def _details(measured: Measured) -> Record:
    size = min(SUBSET_SIZE, measured.samples, len(measured.real))
    return {"kernel": "cubic, unbiased", "subsets": f"{SUBSETS} of {size}"}


DISTANCE = SampleStatistic(_compute, _details)
