"""METRICS: everything about a metric but its maths. A new one is a file and an entry here."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from raygen.image_shape import ImageShape
from raygen.metrics.protocol import Score, comparable, protocol_hash
from raygen.plugins import Registry

Direction = Literal["minimize", "maximize"]
Features = Literal["classifier", "inception", "dinov2", "pixels"]
EVERY = ("gan", "vae", "own")
VAE = ("vae",)


class FeatureEncoder(NamedTuple):
    """A network of one's own that turns images into the features of a distance, see `encoder`.

    `network` returns a torch.nn.Module: uint8 images (n, c, h, w) -> features (n, dim).
    """

    name: str  # file.py:function
    dim: int
    network: Callable[[], Any]
    code: str  # hash of its file

    def frechet_distance(self, label: str, short: str = "") -> "Metric":
        """Make the metric that is the Fréchet distance between such features."""
        computed_by, rank = "frechet:DISTANCE", _RANK
        return Metric("minimize", EVERY, computed_by, label, short, self, self.dim + 1, rank)

    def kernel_distance(self, label: str, short: str = "") -> "Metric":
        """Make the metric that is the kernel distance (as KID) between such features."""
        return Metric("minimize", EVERY, "kernel:DISTANCE", label, short, self, 100)


class Metric(NamedTuple):
    """Which way is better, which families have it, what computes it, and how it is shown.

    `computed_by` names a file of raygen.metrics and an object in it, which needs torch and is
    loaded when it is used: a `SampleStatistic` of the `features` of an extractor, against those
    of a split of the data, or for a metric without features a `ModelStatistic`. Or it is a function
    of images and real images, see `metric`.
    """

    direction: Direction
    families: tuple[str, ...]
    computed_by: str | Callable[[Any, Any], float]
    label: str
    short: str = ""  # for a table column; "" if the label will do
    features: Features | FeatureEncoder | None = None
    least_samples: int = 1
    because: str = ""  # why fewer samples make no sense
    against: Literal["train", "test"] = "train"
    enough: int = 0  # samples from which a bias is small
    # Its value if all pictures of so many bytes were equally likely.
    guess: Callable[[int], float] | None = None

    @property
    def extractor(self) -> str | None:
        """The name of what makes its features, under which metrics share them."""
        return self.features.name if isinstance(self.features, FeatureEncoder) else self.features

    def value_of_guess(self, image: ImageShape) -> float | None:
        """Its value if all pictures of that shape were equally likely; None if it has none."""
        return self.guess(image.values) if self.guess else None


_OURS = " (features of raygen's classifier)"
_DINOV2 = "(DINOv2 ViT-L/14 features)"
# One more sample than there are features; for the limit, which is extrapolated from a quarter of
# the samples, of that quarter: 8 chunks make 8 groups.
_RANK = "for a covariance of full rank"
_QUARTER = "for covariances of full rank from a quarter of them"
# Below it a Fréchet distance is known to be biased upwards (Chong and Forsyth 2020).
_UNBIASED = 10_000

METRICS = Registry(Metric, {
    "fd_classifier": Metric(
        "minimize", EVERY, "frechet:DISTANCE", f"Fréchet distance{_OURS}", "Fréchet distance",
        "classifier", 353, _RANK,
    ),
    "fd_classifier_test": Metric(
        "minimize", EVERY, "frechet:DISTANCE", f"Fréchet distance to test images{_OURS}",
        "Fréchet distance (test)", "classifier", 353, _RANK, "test",
    ),
    "fd_classifier_infinity": Metric(
        "minimize", EVERY, "frechet:INFINITY",
        "FD∞ (limit of infinitely many samples, features of raygen's classifier)", "FD∞",
        "classifier", 2000, _QUARTER,
    ),
    "kd_classifier": Metric(
        "minimize", EVERY, "kernel:DISTANCE", f"kernel distance{_OURS}", "kernel distance",
        "classifier", 100,
    ),
    "mind_classifier": Metric(
        "minimize", EVERY, "mind:DISTANCE", f"MIND{_OURS}", "MIND", "classifier", 100
    ),
    "precision_classifier": Metric(
        "maximize", EVERY, "neighbours:PRECISION", f"precision{_OURS}", "precision", "classifier",
        100,
    ),
    "recall_classifier": Metric(
        "maximize", EVERY, "neighbours:RECALL", f"recall{_OURS}", "recall", "classifier", 100
    ),
    "density_classifier": Metric(
        "maximize", EVERY, "neighbours:DENSITY", f"density{_OURS}", "density", "classifier", 100
    ),
    "coverage_classifier": Metric(
        "maximize", EVERY, "neighbours:COVERAGE", f"coverage{_OURS}", "coverage", "classifier", 100
    ),
    "fid": Metric(
        "minimize", EVERY, "frechet:DISTANCE", "FID", "", "inception", 2049, _RANK,
        enough=_UNBIASED,
    ),
    "fid_test": Metric(
        "minimize", EVERY, "frechet:DISTANCE", "FID against test images", "FID (test)",
        "inception", 2049, _RANK, "test", _UNBIASED,
    ),
    "fid_infinity": Metric(
        "minimize", EVERY, "frechet:INFINITY", "FID∞ (limit of infinitely many samples)", "FID∞",
        "inception", 10_000, _QUARTER,
    ),
    "kid": Metric("minimize", EVERY, "kernel:DISTANCE", "KID", "", "inception", 100),
    "mind": Metric("minimize", EVERY, "mind:DISTANCE", "MIND", "", "inception", 100),
    "inception_score": Metric(
        "maximize", EVERY, "inception_score:SCORE", "inception score", "", "inception", 100
    ),
    "precision": Metric(
        "maximize", EVERY, "neighbours:PRECISION", "precision", "", "inception", 100
    ),
    "recall": Metric("maximize", EVERY, "neighbours:RECALL", "recall", "", "inception", 100),
    "density": Metric("maximize", EVERY, "neighbours:DENSITY", "density", "", "inception", 100),
    "coverage": Metric("maximize", EVERY, "neighbours:COVERAGE", "coverage", "", "inception", 100),
    "fd_dinov2": Metric(
        "minimize", EVERY, "frechet:DISTANCE", f"Fréchet distance {_DINOV2}", "FD-DINOv2",
        "dinov2", 1025, _RANK, enough=_UNBIASED,
    ),
    "fd_dinov2_test": Metric(
        "minimize", EVERY, "frechet:DISTANCE", f"Fréchet distance to test images {_DINOV2}",
        "FD-DINOv2 (test)", "dinov2", 1025, _RANK, "test", _UNBIASED,
    ),
    "elbo": Metric(
        "maximize", VAE, "bounds:ELBO", "ELBO (nats per image)", "ELBO",
        guess=lambda values: -values * math.log(256),
    ),
    "bits_per_dim": Metric(
        "minimize", VAE, "bounds:BITS", "bits per dimension", "bits/dim",
        guess=lambda values: 8.0,
    ),
    "rate": Metric("minimize", VAE, "bounds:RATE", "rate (KL, bits per dimension)", "rate"),
    "distortion": Metric(
        "minimize", VAE, "bounds:DISTORTION", "distortion (bits per dimension)", "distortion"
    ),
    "iwae_bits_per_dim": Metric(
        "minimize", VAE, "bounds:IWAE_BITS", "bits per dimension (importance-weighted)",
        "bits/dim (IW)", guess=lambda values: 8.0,
    ),
    "active_units": Metric("maximize", VAE, "bounds:ACTIVE_UNITS", "active latents"),
    "million_parameters": Metric(
        "minimize", EVERY, "size:MILLION_PARAMETERS", "parameters (millions)"
    ),
})  # fmt: skip


def metric(
    direction: Direction,
    label: str = "",
    short: str = "",
    families: tuple[str, ...] = EVERY,
    least_samples: int = 1,
) -> Callable[[Callable[[Any, Any], float]], Metric]:
    """Make a metric of a function of generated and of as many real training images (a decorator).

    Both are uint8 tensors (n, c, h, w) on the device of the trial.

    Raises:
        ValueError: the direction is neither minimize nor maximize.
    """
    if direction not in get_args(Direction):
        raise ValueError(f"direction {direction!r}: choose minimize or maximize")

    def make(function: Callable[[Any, Any], float]) -> Metric:
        name = label or function.__name__
        return Metric(direction, families, function, name, short, "pixels", least_samples)

    return make


def encoder(dim: int) -> Callable[[Callable[[], Any]], FeatureEncoder]:
    """Make an encoder of a function that returns its network (a decorator).

    `dim` is the number of features. The network is called in eval mode and without gradients; the
    hash of its weights is part of the protocol of every value.
    """

    def make(network: Callable[[], Any]) -> FeatureEncoder:
        file = Path(network.__code__.co_filename)
        code = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        return FeatureEncoder(f"{file.name}:{network.__name__}", dim, network, code)

    return make


def too_few(name: str, samples: int) -> str | None:
    """Say how many samples a metric needs, if these are too few."""
    metric = METRICS[name]
    if samples >= metric.least_samples:
        return None
    least = f"{name} needs {metric.least_samples} or more"
    return f"{least} {metric.because}" if metric.because else least


__all__ = [
    "METRICS",
    "Direction",
    "FeatureEncoder",
    "Metric",
    "Score",
    "comparable",
    "encoder",
    "metric",
    "protocol_hash",
    "too_few",
]
