"""MIND: the Monge distance of features along random lines (arXiv 2605.06797)."""

import torch
from torch import Tensor

from raygen.metrics import Metric
from raygen.metrics.statistic import Estimate, Measured, SampleStatistic

LINES = 1000
SEED = 0
STRIP = 100  # lines at once


def mind(generated: Tensor, reference: Tensor, lines: int = LINES) -> float:
    """3 d times the mean squared distance between the sorted projections: (n, d), (m, d) -> ().

    On a line the optimal transport between two samples of one size joins equal ranks, so both are
    cut to the smaller size.
    """
    count, dim = min(len(generated), len(reference)), generated.shape[1]
    random = torch.Generator().manual_seed(SEED)
    directions = torch.randn(dim, lines, dtype=torch.float64, generator=random)
    directions = (directions / directions.norm(dim=0)).to(generated.device)
    x, y = generated[:count].double(), reference[:count].double()
    total = torch.zeros((), dtype=torch.float64, device=generated.device)
    for part in directions.split(STRIP, dim=1):
        gaps = (x @ part).sort(dim=0).values - (y @ part).sort(dim=0).values
        total += gaps.square().mean(dim=0).sum()
    return float(3 * dim * total / lines)


def _compute(measured: Measured, _: Metric) -> Estimate:
    return Estimate(mind(measured.features, measured.real))


DISTANCE = SampleStatistic(_compute, lambda _: {"lines": LINES})
