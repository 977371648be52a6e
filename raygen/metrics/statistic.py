"""What computes a metric: a statistic of the features of a model's samples, or of the model itself.

Each is an object in the file of its maths; an entry of METRICS names it.
"""

import functools
import math
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any, Literal, NamedTuple, TypeVar

from torch import Tensor

from raygen.errors import InputError
from raygen.metrics import METRICS, Metric
from raygen.metrics.model import Autoencoder, Generative
from raygen.metrics.moments import FeatureStats, Grouped
from raygen.metrics.protocol import Record
from raygen.plugins import hashes

Result = TypeVar("Result")


class Reference(NamedTuple):
    """Statistics of the features of a split, with the symmetric root of their covariance."""

    stats: FeatureStats
    root: Tensor


class Measured:
    """The samples of one evaluation in the features of one extractor, and the real images.

    `features` (n, d) are those of the samples and `real` (m, d) those of training images, of
    `total`; `moments` and `references` are the sums of both. Only what the metrics of the study
    need is made. `head` (classes, d) turns features into logits.
    """

    def __init__(
        self,
        samples: int,
        references: dict[str, Reference],
        moments: Grouped | None,
        features: Tensor | None,
        real: Tensor | None,
        total: int,
        head: Tensor | None,
    ) -> None:
        self.samples, self.references, self.total = samples, references, total
        self._moments, self._features, self._real, self._head = moments, features, real, head
        self.results: dict[Any, Any] = {}

    @property
    def moments(self) -> Grouped:
        """Sums over the features of the samples, for a statistic that needs "moments"."""
        assert self._moments is not None
        return self._moments

    @property
    def features(self) -> Tensor:
        """Features of the samples (n, d), for a statistic that needs "features"."""
        assert self._features is not None
        return self._features

    @property
    def real(self) -> Tensor:
        """Features of as many training images, or of all if there are fewer (m, d)."""
        assert self._real is not None
        return self._real

    @property
    def head(self) -> Tensor:
        """Weights from features to logits (classes, d)."""
        assert self._head is not None
        return self._head


class Examined:
    """A model and test images (n, 3, 32, 32) uint8; `seed` is that of all noise."""

    def __init__(self, model: Generative, images: Tensor, seed: int) -> None:
        self.model, self.images, self.seed = model, images, seed
        self.results: dict[Any, Any] = {}

    @property
    def autoencoder(self) -> Autoencoder:
        """The model of a VAE study."""
        assert hasattr(self.model, "elbo"), "config lets only VAE studies ask for an ELBO"
        return self.model  # pyright: ignore[reportReturnType]

    @property
    def dims(self) -> int:
        """Numbers in an image."""
        return self.images[0].numel()


class Estimate(NamedTuple):
    """The value of a metric, with its standard error and its spread as in `Score`."""

    value: float
    sd: float | None = None
    spread: float | None = None


class SampleStatistic(NamedTuple):
    """Computes a metric of samples.

    `details` are what its protocol says besides the encoder, the reference and the samples. It
    needs the "features" one by one or only their "moments": the features of 50,000 images take
    400 MB. `real`: whether samples are compared with real images.
    """

    compute: Callable[[Measured, Metric], Estimate]
    details: Callable[[Measured], Record] = lambda _: {}
    needs: Literal["features", "moments"] = "features"
    real: bool = True

    def reference(self, measured: Measured, metric: Metric) -> Record:
        """Return what a protocol says of the real images."""
        if not self.real:
            return {}
        if self.needs == "moments":
            count = measured.references[metric.against].stats.count
            return {"reference": f"{metric.against}, {count} images"}
        return {"reference": f"train, {len(measured.real)} of {measured.total} images"}


class ModelStatistic(NamedTuple):
    """Computes a metric without samples: of the model and, if `tests`, of test images.

    It has no error to compare trials by: all see the same test images. `details` are what its
    protocol says besides these images.
    """

    compute: Callable[[Examined], float]
    details: Record = {}
    tests: bool = True


Subject = TypeVar("Subject", Measured, Examined)


def once_per_subject(compute: Callable[[Subject], Result]) -> Callable[[Subject], Result]:
    """Compute what several metrics share for the first of them only (a decorator)."""

    @functools.wraps(compute)
    def remembered(subject: Subject) -> Result:
        if compute not in subject.results:
            subject.results[compute] = compute(subject)
        return subject.results[compute]

    return remembered


def sample_statistic(metric: str) -> SampleStatistic:
    """Return what computes a metric that has features."""
    computed_by = METRICS[metric].computed_by
    if callable(computed_by):
        return _of_images(metric, computed_by)
    statistic = resolve_name(f"raygen.metrics.{computed_by}")
    assert isinstance(statistic, SampleStatistic), metric
    return statistic


def _of_images(metric: str, function: Callable[[Tensor, Tensor], float]) -> SampleStatistic:
    """A function of generated and real images, whose pixels are the features."""

    def compute(measured: Measured, _: Metric) -> Estimate:
        drawn, real = _images(measured.features), _images(measured.real)
        return Estimate(one_number(metric, function(drawn, real)))

    return SampleStatistic(compute, lambda _: {"code": hashes(metric)})


def one_number(metric: str, value: Any) -> float:
    """Return what a metric of the user's own returned as a float.

    Raises:
        InputError: it is not a single number.
    """
    shape = tuple(getattr(value, "shape", ()))
    if math.prod(shape) != 1:
        raise InputError(f"{metric}: returned shape {shape}, but must return one number")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise InputError(f"{metric}: returned a {kind}, but must return one number") from error


def _images(rows: Tensor) -> Tensor:
    """Pixels (n, d) as uint8 images (n, c, h, w): sizes are powers of two, so d says which."""
    values = rows.shape[1]
    channels = 3 if values % 3 == 0 else 1
    size = math.isqrt(values // channels)
    return rows.view(-1, channels, size, size).byte()


def model_statistic(metric: str) -> ModelStatistic:
    """Return what computes a metric that has no features."""
    statistic = resolve_name(f"raygen.metrics.{METRICS[metric].computed_by}")
    assert isinstance(statistic, ModelStatistic), metric
    return statistic
