"""METRICS: the name, direction and needs of every metric. A new one is a file and a line here."""

import math
from typing import Literal, NamedTuple

from raygen.metrics.protocol import Score, comparable, protocol_hash

Direction = Literal["minimize", "maximize"]
Features = Literal["classifier", "inception", "dinov2"]
Statistic = Literal[
    "frechet", "frechet_infinity", "kernel", "precision", "recall", "density", "coverage",
    "inception_score", "mind",
]  # fmt: skip
BOTH = ("gan", "vae")


class Metric(NamedTuple):
    """Which way is better, which families have it, and how many samples make sense.

    A metric of samples is a `statistic` of the `features` of an extractor, against those of a
    split of the data.
    """

    direction: Direction
    families: tuple[str, ...]
    features: Features | None = None
    least_samples: int = 1
    guess: float | None = None  # its value if all pictures of 3x32x32 bytes were equally likely
    statistic: Statistic = "frechet"
    against: Literal["train", "test"] = "train"


def _of(features: Features, statistic: Statistic, least: int, direction: Direction) -> Metric:
    return Metric(direction, BOTH, features, least, statistic=statistic)


# Of full rank: one more than there are features. Of a quarter of the samples for the limit, which
# is extrapolated from it; 8 chunks make 8 groups.
METRICS = {
    "fd_classifier": Metric("minimize", BOTH, "classifier", 353),
    "fd_classifier_test": Metric("minimize", BOTH, "classifier", 353, against="test"),
    "fd_classifier_infinity": _of("classifier", "frechet_infinity", 2000, "minimize"),
    "kd_classifier": _of("classifier", "kernel", 100, "minimize"),
    "mind_classifier": _of("classifier", "mind", 100, "minimize"),
    "precision_classifier": _of("classifier", "precision", 100, "maximize"),
    "recall_classifier": _of("classifier", "recall", 100, "maximize"),
    "density_classifier": _of("classifier", "density", 100, "maximize"),
    "coverage_classifier": _of("classifier", "coverage", 100, "maximize"),
    "fid": Metric("minimize", BOTH, "inception", 2049),
    "fid_test": Metric("minimize", BOTH, "inception", 2049, against="test"),
    "fid_infinity": _of("inception", "frechet_infinity", 10_000, "minimize"),
    "kid": _of("inception", "kernel", 100, "minimize"),
    "mind": _of("inception", "mind", 100, "minimize"),
    "inception_score": _of("inception", "inception_score", 100, "maximize"),
    "precision": _of("inception", "precision", 100, "maximize"),
    "recall": _of("inception", "recall", 100, "maximize"),
    "density": _of("inception", "density", 100, "maximize"),
    "coverage": _of("inception", "coverage", 100, "maximize"),
    "fd_dinov2": Metric("minimize", BOTH, "dinov2", 1025),
    "fd_dinov2_test": Metric("minimize", BOTH, "dinov2", 1025, against="test"),
    "elbo": Metric("maximize", ("vae",), guess=-3 * 32 * 32 * math.log(256)),
    "bits_per_dim": Metric("minimize", ("vae",), guess=8.0),
    "rate": Metric("minimize", ("vae",)),
    "distortion": Metric("minimize", ("vae",)),
    "iwae_bits_per_dim": Metric("minimize", ("vae",), guess=8.0),
    "active_units": Metric("maximize", ("vae",)),
    "million_parameters": Metric("minimize", BOTH),
}


def too_few(name: str, samples: int) -> str | None:
    """Say how many samples a metric needs, if these are too few."""
    metric = METRICS[name]
    if samples >= metric.least_samples:
        return None
    reason = {
        "frechet": " for a covariance of full rank",
        "frechet_infinity": " for covariances of full rank from a quarter of them",
    }
    return f"{name} needs {metric.least_samples} or more{reason.get(metric.statistic, '')}"


__all__ = ["METRICS", "Direction", "Metric", "Score", "comparable", "protocol_hash", "too_few"]
