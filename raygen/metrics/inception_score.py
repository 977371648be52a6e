"""Inception score: how sure a classifier is of each image, and how unlike the images are."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from raygen.metrics import Metric
from raygen.metrics.kernel import Spread
from raygen.metrics.statistic import Estimate, Measured, SampleStatistic

SPLITS = 10
SEED = 2020  # with which torch-fidelity shuffles, and so do we


def inception_score(logits: Tensor, splits: int = SPLITS) -> Spread:
    """Logits (n, classes) -> mean over splits of exp(E KL(p(y | x) || p(y))).

    Salimans et al. 2016, section 4.
    """
    order = torch.from_numpy(np.random.RandomState(SEED).permutation(len(logits)))
    shuffled = logits[order.to(logits.device)].double()
    cuts = [k * len(logits) // splits for k in range(splits + 1)]
    scores = []
    for start, end in pairwise(cuts):
        log_p = shuffled[start:end].log_softmax(dim=1)
        p = log_p.exp()
        divergence = (p * (log_p - p.mean(dim=0, keepdim=True).log())).sum(dim=1)
        scores.append(divergence.mean().exp())
    per_split = torch.stack(scores)
    spread = float(per_split.std(correction=0))
    error = spread / (splits - 1) ** 0.5 if splits > 1 else None
    return Spread(float(per_split.mean()), spread, error)


def _compute(measured: Measured, _: Metric) -> Estimate:
    mean, spread, error = inception_score(measured.features @ measured.head.mT)
    return Estimate(mean, error, spread)


SCORE = SampleStatistic(_compute, lambda _: {"splits": SPLITS}, real=False)
