"""Search again on recorded learning curves: which scheduler and sampler would have served best?

A table of curves stands in for training (a surrogate benchmark: Eggensperger et al. 2015), and a
simulated clock for the machines, so that a search takes seconds. What searches is the real
Controller with its sampler and its scheduler; it cannot tell the difference.
"""

from raygen.replay.compare import SAMPLERS, SCHEDULERS, compare, paired, variant
from raygen.replay.recording import (
    DistanceScale,
    Noise,
    Params,
    Recorded,
    Recording,
    persistence,
    record_study,
    seed_noise,
)
from raygen.replay.simulation import WORKERS, Raygen, Run, merged, simulate
from raygen.replay.surrogate import ALIKE, Step, Surrogate

__all__ = [
    "ALIKE",
    "SAMPLERS",
    "SCHEDULERS",
    "WORKERS",
    "DistanceScale",
    "Noise",
    "Params",
    "Raygen",
    "Recorded",
    "Recording",
    "Run",
    "Step",
    "Surrogate",
    "compare",
    "merged",
    "paired",
    "persistence",
    "record_study",
    "seed_noise",
    "simulate",
    "variant",
]  # fmt: skip
