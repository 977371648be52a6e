"""One evaluation of a model: every metric of the study from one pass over the samples."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from raygen import __version__
from raygen.compute import tf32
from raygen.data import ImageData
from raygen.distributed import all_reduce_sum, rank, world_size
from raygen.metrics import METRICS
from raygen.metrics.elbo import (
    ACTIVE,
    IMPORTANCE_SAMPLES,
    active_units,
    bits_per_dim,
    test_elbo,
    test_iwae,
    test_rate_distortion,
)
from raygen.metrics.extractors import (
    MOMENTS,
    Asset,
    Extractor,
    load_extractor,
    prepare,
    require,
    too_few_real,
)
from raygen.metrics.frechet import Grouped, frechet_distance, frechet_error, frechet_infinity
from raygen.metrics.inception_score import SPLITS, inception_score
from raygen.metrics.kernel import SUBSET_SIZE, SUBSETS, kernel_distance
from raygen.metrics.mind import LINES, mind
from raygen.metrics.model import (
    CHUNK,
    Autoencoder,
    Generative,
    draw_latents,
    even,
    labels_in_shares,
)
from raygen.metrics.neighbours import DENSITY_K, MANIFOLD_K, Neighbourhoods, neighbourhoods
from raygen.metrics.protocol import Record, Score
from raygen.ticks import ticking

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
    ) -> None:
        """Load the extractors; `assets` comes from `prepare`, which is called if it is not given.

        Bounds of the likelihood are of the first `samples` test images, or where the first
        `selected_by` of them chose the model, of those behind them, if there are enough.

        Raises:
            InputError: the weights of an extractor cannot be had, or too few real images.
        """
        assets = prepare(metrics, data, device, samples) if assets is None else assets
        self.metrics, self.samples, self.device = metrics, samples, device
        others = len(data.test.images) - selected_by
        self.test_from = selected_by if others >= LEAST_UNSEEN else 0
        self.test_images = data.test.images[self.test_from :][:samples]
        self.data = {"data": data.name, "data_hash": data.fingerprint}
        self.counts = torch.bincount(data.train.labels, minlength=len(data.classes))
        self.labels = torch.empty(0, dtype=torch.int64)
        needed = {METRICS[metric].features for metric in metrics}
        self.extractors = {
            name: load_extractor(name, asset, device)
            for name, asset in assets.items()
            if name in needed
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
            mine = [metric for metric in sampled if METRICS[metric].features == name]
            measured = _Measured(extractor, gathered[name], samples)
            for metric in mine:
                protocol = self._sample_protocol(metric, measured, model, seed)
                scores[metric] = measured.score(metric, protocol)
        scores |= self._bounds(model, samples)
        return {name: scores[name] for name in self.metrics}

    def _gather(self, model: Generative, samples: int, seed: int) -> dict[str, Gathered]:
        """Generate once; each rank makes some of the chunks, and all get what all have made."""
        found = {}
        for name, extractor in self.extractors.items():
            kinds = {METRICS[m].statistic for m in self.metrics if METRICS[m].features == name}
            size = samples, extractor.dim
            # Fréchet distances need no features: those of 50,000 images would take 400 MB.
            found[name] = Gathered(
                Grouped(extractor.dim, self.device) if kinds & {*MOMENTS} else None,
                torch.zeros(size, device=self.device) if kinds - {*MOMENTS} else None,
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
                moments, rows = found[name]
                if moments is not None:
                    moments.add(index, features)
                if rows is not None:
                    rows[start : start + count] = features
        return {name: _merged(part) for name, part in found.items()}

    def _in_shares(self, model: Generative) -> bool:
        """Whether the labels of a model's samples follow the data's: classes in turn do if even."""
        return getattr(model, "conditional", False) and not even(self.counts)

    def _labels(self, samples: int) -> Tensor:
        """The labels of at least so many samples, made once: fewer samples take their first."""
        if len(self.labels) < samples:
            self.labels = labels_in_shares(self.counts, samples)
        return self.labels

    def _sample_protocol(
        self, metric: str, measured: "_Measured", model: Generative, seed: int
    ) -> Record:
        origin = getattr(model, "origin", None) or {"weights": "ema", "sample_seed": seed}
        record = {"metric": metric, **measured.extractor.protocol, **measured.details(metric)}
        if METRICS[metric].statistic != "inception_score":  # which knows no real images
            record |= self.data
        if self._in_shares(model):
            record["labels"] = "in the training data's class shares"
        return {**record, "samples": measured.samples, **origin, "raygen": __version__}

    def _bounds(self, model: Generative, samples: int) -> dict[str, Score]:
        """Scores of the metrics that need no samples.

        They have no error to compare trials by: all see the same test images.
        """
        images = self.test_images[:samples]
        dims = images[0].numel()
        # What several metrics need comes from one pass.
        elbo = cache(lambda: test_elbo(_autoencoder(model), images, SAMPLE_SEED))
        parts = cache(lambda: test_rate_distortion(_autoencoder(model), images, SAMPLE_SEED))
        measures = {
            "million_parameters": lambda: model.parameters / 1e6,
            "active_units": lambda: float(active_units(_autoencoder(model), images)),
            "elbo": elbo,
            "bits_per_dim": lambda: bits_per_dim(elbo(), dims),
            "rate": lambda: bits_per_dim(-parts()[0], dims),
            "distortion": lambda: bits_per_dim(-parts()[1], dims),
            "iwae_bits_per_dim": lambda: bits_per_dim(
                test_iwae(_autoencoder(model), images, SAMPLE_SEED, IMPORTANCE_SAMPLES), dims
            ),
        }
        return {
            name: Score(measures[name](), self._bound_protocol(name, len(images)))
            for name in self.metrics
            if METRICS[name].features is None
        }

    def _bound_protocol(self, metric: str, images: int) -> Record:
        if metric == "million_parameters":
            return {"metric": metric}
        samples = IMPORTANCE_SAMPLES if metric == "iwae_bits_per_dim" else 1
        measured: Record = {
            "likelihood": "discretised to 256 levels",
            "beta": 1,
            "posterior_samples": samples,
        }
        if metric == "active_units":
            measured = {"active": f"variance of the posterior mean above {ACTIVE}"}
        reference = f"first {images} of test"
        if self.test_from:
            reference = f"test images {self.test_from} to {self.test_from + images - 1}"
        ours = {"reference": reference, "weights": "ema", "raygen": __version__}
        return {"metric": metric, **measured, **self.data, **ours}


class _Measured:
    """Scores of one extractor's features; the distances between them are made once."""

    def __init__(self, extractor: Extractor, gathered: Gathered, samples: int) -> None:
        self.extractor, self.samples = extractor, samples
        self.moments, self.features = gathered
        self.real = None if extractor.real is None else extractor.real[:samples]
        self._balls: Neighbourhoods | None = None

    def score(self, name: str, protocol: Record) -> Score:
        """Compute one metric."""
        metric = METRICS[name]
        match metric.statistic:
            case "frechet":
                reference, root = self.extractor.references[metric.against]
                assert self.moments is not None
                value = frechet_distance(reference, self.moments.stats(), root)
                return Score(value, protocol, frechet_error(reference, self.moments, root))
            case "frechet_infinity":
                reference, root = self.extractor.references[metric.against]
                assert self.moments is not None
                return Score(frechet_infinity(reference, self.moments, root), protocol)
            case "inception_score":
                assert self.features is not None
                assert self.extractor.head is not None
                mean, spread, error = inception_score(self.features @ self.extractor.head.mT)
                return Score(mean, protocol, error, spread)
            case "kernel":
                mean, spread, error = kernel_distance(*self._pair())
                return Score(mean, protocol, error, spread)
            case "mind":
                return Score(mind(*self._pair()), protocol)
            case kind:
                if self._balls is None:
                    self._balls = neighbourhoods(*self._pair())
                each: Tensor = getattr(self._balls, kind)
                # The others are means over real images, each of which depends on all samples.
                known = kind in ("precision", "density")
                error = float(each.std() / len(each) ** 0.5) if known else None
                return Score(float(each.mean()), protocol, error)

    def details(self, name: str) -> Record:
        """Return what a protocol says of the reference and the statistic."""
        metric = METRICS[name]
        real = 0 if self.real is None else len(self.real)
        some = {"reference": f"train, {real} of {self.extractor.total} images"}
        match metric.statistic:
            case "frechet" | "frechet_infinity":
                count = self.extractor.references[metric.against].stats.count
                limit = {"limit": "line in 1/N through halves and quarters"}
                return {
                    "reference": f"{metric.against}, {count} images",
                    **(limit if metric.statistic == "frechet_infinity" else {}),
                }
            case "inception_score":
                return {"splits": SPLITS}
            case "kernel":
                size = min(SUBSET_SIZE, self.samples, real)
                return {**some, "kernel": "cubic, unbiased", "subsets": f"{SUBSETS} of {size}"}
            case "mind":
                return {**some, "lines": LINES}
            case kind:
                k = MANIFOLD_K if kind in ("precision", "recall") else DENSITY_K
                return {**some, "neighbours": k}

    def _pair(self) -> tuple[Tensor, Tensor]:
        assert self.features is not None
        assert self.real is not None
        return self.features, self.real


def _merged(mine: Gathered) -> Gathered:
    """What all ranks have made, in the order of the chunks: the rows of others are 0 in mine."""
    return Gathered(
        None if mine.moments is None else mine.moments.merged(),
        None if mine.features is None else all_reduce_sum(mine.features),
    )


def _autoencoder(model: Generative) -> Autoencoder:
    assert hasattr(model, "elbo"), "config lets only VAE studies ask for an ELBO"
    return model  # pyright: ignore[reportReturnType]


__all__ = [
    "IMPORTANCE_SAMPLES",
    "SAMPLE_SEED",
    "Asset",
    "Evaluator",
    "prepare",
    "require",
    "too_few_real",
]
