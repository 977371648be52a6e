"""One evaluation of a model: every metric of the study from one pass over the samples."""

import hashlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raygen import __version__
from raygen.cache import cached
from raygen.compute import tf32
from raygen.data import ImageData
from raygen.data.batches import to_model_range
from raygen.distributed import rank, world_size
from raygen.metrics import METRICS
from raygen.metrics import classifier as classifier_module
from raygen.metrics import inception as inception_module
from raygen.metrics.elbo import (
    ACTIVE,
    IMPORTANCE_SAMPLES,
    active_units,
    bits_per_dim,
    test_elbo,
    test_iwae,
)
from raygen.metrics.frechet import (
    FeatureMoments,
    FeatureStats,
    Grouped,
    frechet_distance,
    frechet_error,
    symmetric_root,
)
from raygen.metrics.model import CHUNK, Autoencoder, Generative, draw_latents
from raygen.metrics.protocol import Record, Score

SAMPLE_SEED = 20_140_610  # the same latents in every evaluation of every trial


Asset = dict[str, Any]


class Extractor(NamedTuple):
    """Features of uint8 images, and the reference they are compared with."""

    features: Callable[[Tensor], Tensor]
    dim: int
    reference: FeatureStats
    root: Tensor
    protocol: Record


def require(metrics: tuple[str, ...]) -> None:
    """Fail early, before anything is started, if an extractor's weights cannot be had.

    Raises:
        InputError: with what to do about it.
    """
    if any(METRICS[name].features == "inception" for name in metrics):
        inception_module.find_weights()


def prepare(metrics: tuple[str, ...], data: ImageData, device: torch.device) -> dict[str, Asset]:
    """Make what every evaluator of a study shares: trained weights and reference statistics.

    Made once and sent to every node, so that all trials are measured by the very same numbers.

    Raises:
        InputError: the weights of an extractor cannot be had.
    """
    needed = {METRICS[name].features for name in metrics}
    return {name: EXTRACTORS[name].prepare(data, device) for name in sorted(needed - {None})}  # pyright: ignore[reportArgumentType]


class Evaluator:
    """Measures models of one study: built once, called at every milestone of every trial."""

    def __init__(
        self,
        metrics: tuple[str, ...],
        data: ImageData,
        samples: int,
        device: torch.device,
        assets: dict[str, Asset] | None = None,
    ) -> None:
        """Load the extractors; `assets` comes from `prepare`, which is called if it is not given.

        Raises:
            InputError: the weights of an extractor cannot be had.
        """
        assets = prepare(metrics, data, device) if assets is None else assets
        self.metrics, self.samples, self.device = metrics, samples, device
        self.test_images = data.test.images[:samples]
        self.data = {"data": data.name, "data_hash": data.fingerprint}
        self.extractors = {
            name: EXTRACTORS[name].load(asset, device) for name, asset in assets.items()
        }

    @torch.no_grad()
    @tf32(False)  # what is measured does not depend on how it was trained
    def __call__(self, model: Generative) -> dict[str, Score]:
        """Return a score per metric, the same on every rank."""
        moments = self._sample_moments(model) if self.extractors else {}
        # Both metrics that need it come from one pass.
        elbo = cache(lambda: test_elbo(_autoencoder(model), self.test_images, SAMPLE_SEED))
        scores = {}
        for name in self.metrics:
            features = METRICS[name].features
            if features is not None:
                extractor = self.extractors[features]
                grouped, root = moments[features], extractor.root
                value = frechet_distance(extractor.reference, grouped.stats(), root)
                error = frechet_error(extractor.reference, grouped, root)
                scores[name] = Score(value, self._sample_protocol(name, extractor), error)
                continue
            if name == "million_parameters":
                scores[name] = Score(model.parameters / 1e6, {"metric": name})
                continue
            # These have no error to compare trials by: all see the same test images.
            value = self._reconstruction_value(name, model, elbo)
            scores[name] = Score(value, self._reconstruction_protocol(name))
        return scores

    def _sample_moments(self, model: Generative) -> dict[str, Grouped]:
        moments = {
            name: Grouped(extractor.dim, self.device) for name, extractor in self.extractors.items()
        }
        for index in range(rank(), -(-self.samples // CHUNK), world_size()):
            count = min(CHUNK, self.samples - index * CHUNK)
            images = model.sample(*draw_latents(model, SAMPLE_SEED, index, count))
            for name, extractor in self.extractors.items():
                moments[name].add(index, extractor.features(images))
        return {name: total.merged() for name, total in moments.items()}

    def _sample_protocol(self, metric: str, extractor: Extractor) -> Record:
        sampling = {"samples": self.samples, "sample_seed": SAMPLE_SEED, "weights": "ema"}
        return {
            "metric": metric,
            **extractor.protocol,
            **self.data,
            **sampling,
            "raygen": __version__,
        }

    def _reconstruction_value(
        self, name: str, model: Generative, elbo: Callable[[], float]
    ) -> float:
        images, dims = self.test_images, self.test_images[0].numel()
        if name == "active_units":
            return float(active_units(_autoencoder(model), images))
        if name == "iwae_bits_per_dim":
            count = IMPORTANCE_SAMPLES
            bound = test_iwae(_autoencoder(model), images, SAMPLE_SEED, count)
            return bits_per_dim(bound, dims)
        return elbo() if name == "elbo" else bits_per_dim(elbo(), dims)

    def _reconstruction_protocol(self, metric: str) -> Record:
        samples = IMPORTANCE_SAMPLES if metric == "iwae_bits_per_dim" else 1
        measured: Record = {
            "likelihood": "discretised to 256 levels",
            "beta": 1,
            "posterior_samples": samples,
        }
        if metric == "active_units":
            measured = {"active": f"variance of the posterior mean above {ACTIVE}"}
        reference = f"first {len(self.test_images)} of test"
        ours = {"reference": reference, "weights": "ema", "raygen": __version__}
        return {"metric": metric, **measured, **self.data, **ours}


class ExtractorKind(NamedTuple):
    """How an extractor is made once per study, and loaded by every evaluator."""

    prepare: Callable[[ImageData, torch.device], Asset]
    load: Callable[[Asset, torch.device], Extractor]


def prepare_classifier(data: ImageData, device: torch.device) -> Asset:
    """Train raygen's own classifier, or take it from the cache, with its reference statistics."""
    entry = classifier_module.load_classifier(data, device)
    model = classifier_module.restore(entry["state"], device)
    weights = _hash_weights(model)

    def features(images: Tensor) -> Tensor:
        return model.features(to_model_range(images))

    key = f"fd_classifier-{classifier_module.RECIPE}-{weights}"
    reference = _reference(key, features, classifier_module.FEATURES, data, device)
    return {**entry, **reference, "hash": weights}


def load_classifier(asset: Asset, device: torch.device) -> Extractor:
    """Build features of raygen's own classifier, standardised over the training split."""
    model = classifier_module.restore(asset["state"], device)
    plain = _stats(asset, device)
    # Each feature divided by its spread over the training set: then the distance does not depend
    # on the scale at which a classifier happens to work.
    scale = plain.cov.diagonal().sqrt().clamp(min=1e-6)
    stats = FeatureStats(plain.mean / scale, plain.cov / torch.outer(scale, scale), plain.count)
    protocol = {
        "encoder": f"raygen classifier, {classifier_module.FEATURES} features, standardised",
        "encoder_hash": asset["hash"],
        "encoder_test_accuracy": round(asset["accuracy"], 4),
        "reference": f"train, {stats.count} images",
        "resize": "none",
    }

    def features(images: Tensor) -> Tensor:
        return model.features(to_model_range(images)) / scale

    root = symmetric_root(stats.cov)
    return Extractor(features, classifier_module.FEATURES, stats, root, protocol)


def prepare_inception(data: ImageData, device: torch.device) -> Asset:
    """Compute the reference statistics of FID, or take them from the cache."""
    inception = inception_module.load_inception(device)
    key = f"fid-{inception_module.HASH}"
    features = partial(inception_module.inception_features, inception)
    return _reference(key, features, inception_module.FEATURES, data, device)


def load_inception(asset: Asset, device: torch.device) -> Extractor:
    """Build the features of FID."""
    inception = inception_module.load_inception(device)
    stats = _stats(asset, device)
    protocol = {
        "encoder": "inception-2015-12-05 pool3",
        "encoder_hash": inception_module.HASH,
        "reference": f"train, {stats.count} images",
        "resize": "tf1 bilinear to 299",
    }
    features = partial(inception_module.inception_features, inception)
    root = symmetric_root(stats.cov)
    return Extractor(features, inception_module.FEATURES, stats, root, protocol)


EXTRACTORS = {
    "classifier": ExtractorKind(prepare_classifier, load_classifier),
    "inception": ExtractorKind(prepare_inception, load_inception),
}


def _reference(
    key: str,
    features: Callable[[Tensor], Tensor],
    dim: int,
    data: ImageData,
    device: torch.device,
) -> Asset:
    """Mean, covariance and count of the features of the training split, cached."""

    def make() -> Asset:
        moments = FeatureMoments(dim, device)
        with torch.no_grad():
            for chunk in data.train.images.split(CHUNK):
                moments.add(features(chunk.to(device)))
        stats = moments.stats()
        return {"mean": stats.mean.cpu(), "cov": stats.cov.cpu(), "count": stats.count}

    return cached(f"reference-{key}-{data.fingerprint}", make)


def _stats(asset: Asset, device: torch.device) -> FeatureStats:
    return FeatureStats(asset["mean"].to(device), asset["cov"].to(device), asset["count"])


def _hash_weights(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def _autoencoder(model: Generative) -> Autoencoder:
    assert hasattr(model, "elbo"), "config lets only VAE studies ask for an ELBO"
    return model  # pyright: ignore[reportReturnType]
