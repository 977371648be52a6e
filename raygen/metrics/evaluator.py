"""One evaluation of a model: every metric of the study from one pass over the samples."""

from typing import NamedTuple

import torch
from torch import Tensor

from raygen import __version__
from raygen.compute import Precision, tf32
from raygen.data import ImageData
from raygen.distributed import all_reduce_sum, rank, world_size
from raygen.metrics import METRICS
from raygen.metrics.bounds import IMPORTANCE_SAMPLES
from raygen.metrics.extractors import (
    Asset,
    Extractor,
    extractors_of,
    load_extractor,
    prepare,
    require,
    too_few_real,
)
from raygen.metrics.model import (
    CHUNK,
    Generative,
    draw_latents,
    even,
    labels_in_shares,
)
from raygen.metrics.moments import Grouped
from raygen.metrics.protocol import Record, Score
from raygen.metrics.statistic import (
    Examined,
    Measured,
    ModelStatistic,
    model_statistic,
    sample_statistic,
)
from raygen.progress_bar import ticking

LEAST_UNSEEN = 100  # test images, for a bound that did not choose the model
SAMPLE_SEED = 20_140_610  # the same latents in every evaluation of every trial


class Gathered(NamedTuple):
    """What the metrics of one extractor need of the samples: sums, or all features (n, d)."""

    moments: Grouped | None
    features: Tensor | None


class Evaluator:
    """Measures models of one study: built once, called at every milestone of every trial."""

    def __init__(
        self,
        metrics: tuple[str, ...],
        data: ImageData,
        samples: int,
        device: torch.device,
        assets: dict[str, Asset] | None = None,
        selected_by: int = 0,
        precision: Precision = "float32",
    ) -> None:
        """Load the extractors; `assets` comes from `prepare`, which is called if it is not given.

        `precision` is that of the features, and of the `assets`: samples are drawn, and distances
        computed, in float32 or better. The protocol of a value says where it is another.

        Bounds of the likelihood are of the first `samples` test images, or where the first
        `selected_by` of them chose the model, of those behind them, if there are enough.

        Raises:
            InputError: the weights of an extractor cannot be had, or too few real images.
        """
        if assets is None:
            assets = prepare(metrics, data, device, samples, precision)
        self.metrics, self.samples, self.device = metrics, samples, device
        others = len(data.test.images) - selected_by
        self.test_from = selected_by if others >= LEAST_UNSEEN else 0
        self.test_images = data.test.images[self.test_from :][:samples]
        self.data = {"data": data.name, "data_hash": data.fingerprint}
        self.counts = torch.bincount(data.train.labels, minlength=len(data.classes))
        self.labels = torch.empty(0, dtype=torch.int64)
        self.extractors = {
            name: load_extractor(features, assets[name], device, precision)
            for name, features in sorted(extractors_of(metrics).items())
        }

    @torch.no_grad()
    @tf32(False)  # what is measured does not depend on how it was trained
    def __call__(
        self, model: Generative, samples: int | None = None, seed: int = SAMPLE_SEED
    ) -> dict[str, Score]:
        """Return a score per metric, the same on every rank.

        `samples` other than those of the study make a cheaper or a better estimate; `seed` draws
        other ones.
        """
        samples = self.samples if samples is None else samples
        sampled = [name for name in self.metrics if METRICS[name].features is not None]
        gathered = self._gather(model, samples, seed) if sampled else {}
        scores = {}
        for name, extractor in self.extractors.items():
            measured = _measured(extractor, gathered[name], samples)
            for metric in sampled:
                if METRICS[metric].extractor == name:
                    value, sd, spread = sample_statistic(metric).compute(measured, METRICS[metric])
                    protocol = self._sample_protocol(metric, extractor, measured, model, seed)
                    scores[metric] = Score(value, protocol, sd, spread)
        scores |= self._of_model(model, samples)
        return {name: scores[name] for name in self.metrics}

    def _gather(self, model: Generative, samples: int, seed: int) -> dict[str, Gathered]:
        """Generate once; each rank makes some of the chunks, and all get what all have made."""
        gathered = {}
        for name, extractor in self.extractors.items():
            needs = {
                sample_statistic(metric).needs
                for metric in self.metrics
                if METRICS[metric].extractor == name
            }
            size = samples, extractor.dim
            gathered[name] = Gathered(
                Grouped(extractor.dim, self.device) if "moments" in needs else None,
                torch.zeros(size, device=self.device) if "features" in needs else None,
            )
        labels = self._labels(samples) if self._in_shares(model) else None
        # Nothing here waits for the device: generation, features and sums overlap.
        chunks = range(rank(), -(-samples // CHUNK), world_size())
        for index in ticking(chunks, f"measuring {samples} samples", len(chunks)):
            start = index * CHUNK
            count = min(CHUNK, samples - start)
            images = model.sample(*draw_latents(model, seed, index, count, labels))
            for name, extractor in self.extractors.items():
                features = extractor.features(images)
                moments, rows = gathered[name]
                if moments is not None:
                    moments.add(index, features)
                if rows is not None:
                    rows[start : start + count] = features
        return {name: _merged(part) for name, part in gathered.items()}

    def _in_shares(self, model: Generative) -> bool:
        """Whether the labels of a model's samples follow the data's: classes in turn do if even."""
        return getattr(model, "conditional", False) and not even(self.counts)

    def _labels(self, samples: int) -> Tensor:
        """The labels of at least so many samples, made once: fewer samples take their first."""
        if len(self.labels) < samples:
            self.labels = labels_in_shares(self.counts, samples)
        return self.labels

    def _sample_protocol(
        self, metric: str, extractor: Extractor, measured: Measured, model: Generative, seed: int
    ) -> Record:
        statistic = sample_statistic(metric)
        origin = getattr(model, "origin", None) or {"weights": "ema", "sample_seed": seed}
        reference = statistic.reference(measured, METRICS[metric])
        record = {
            "metric": metric,
            **extractor.protocol,
            **reference,
            **statistic.details(measured),
        }
        if statistic.real:
            record |= self.data
        if self._in_shares(model):
            record["labels"] = "in the training data's class shares"
        return {**record, "samples": measured.samples, **origin, "raygen": __version__}

    def _of_model(self, model: Generative, samples: int) -> dict[str, Score]:
        """Scores of the metrics that need no samples."""
        examined = Examined(model, self.test_images[:samples], SAMPLE_SEED)
        scores = {}
        for name in self.metrics:
            if METRICS[name].features is None:
                statistic = model_statistic(name)
                protocol = self._model_protocol(name, statistic, len(examined.images))
                scores[name] = Score(statistic.compute(examined), protocol)
        return scores

    def _model_protocol(self, metric: str, statistic: ModelStatistic, images: int) -> Record:
        record = {"metric": metric, **statistic.details}
        if not statistic.tests:
            return record
        reference = f"first {images} of test"
        if self.test_from:
            reference = f"test images {self.test_from} to {self.test_from + images - 1}"
        ours = {"reference": reference, "weights": "ema", "raygen": __version__}
        return {**record, **self.data, **ours}


def _merged(part: Gathered) -> Gathered:
    """What all ranks have made, in the order of the chunks: the rows of other ranks are 0."""
    return Gathered(
        None if part.moments is None else part.moments.merged(),
        None if part.features is None else all_reduce_sum(part.features),
    )


def _measured(extractor: Extractor, gathered: Gathered, samples: int) -> Measured:
    """What the statistics of one extractor see."""
    real = None if extractor.real is None else extractor.real[:samples]
    moments, features = gathered
    return Measured(
        samples, extractor.references, moments, features, real, extractor.total, extractor.head
    )


__all__ = [
    "IMPORTANCE_SAMPLES",
    "SAMPLE_SEED",
    "Asset",
    "Evaluator",
    "prepare",
    "require",
    "too_few_real",
]
