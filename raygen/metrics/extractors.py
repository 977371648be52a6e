"""What turns images into features, and the real features that generated ones are compared with."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raygen.cache import cached
from raygen.compute import Precision, tf32
from raygen.data import ImageData, Split
from raygen.data.batches import to_model_range
from raygen.errors import InputError
from raygen.metrics import METRICS, FeatureEncoder, Features, classifier, dinov2, inception
from raygen.metrics.frechet import symmetric_root
from raygen.metrics.model import CHUNK
from raygen.metrics.moments import FeatureMoments, FeatureStats
from raygen.metrics.own_encoder import check_encoder, encoder_network, features_of
from raygen.metrics.protocol import Record
from raygen.metrics.statistic import Reference, sample_statistic
from raygen.progress_bar import ticking

Asset = dict[str, Any]

DISTANCES = ("frechet:DISTANCE", "kernel:DISTANCE")  # which are told of where images are too few
FEW = 100  # real images whose features are compared one by one, as many as generated ones


class Network(NamedTuple):
    """Features of uint8 images, and the name of their cache entries."""

    features: Callable[[Tensor], Tensor]
    dim: int
    key: str
    protocol: Record
    head: Tensor | None = None  # features -> logits, for the inception score
    standardised: bool = False  # each feature is divided by its spread over the training set


class Extractor(NamedTuple):
    """A network and what the features of generated images are compared with.

    `real` are features of training images, of which there are `total`, in a fixed random order, if
    a metric needs them.
    """

    features: Callable[[Tensor], Tensor]
    dim: int
    references: dict[str, Reference]
    real: Tensor | None
    total: int
    protocol: Record
    head: Tensor | None


class Kind(NamedTuple):
    """How an extractor is made once per study, and built by every evaluator."""

    dim: int
    prepare: Callable[[ImageData, torch.device], Asset]
    build: Callable[[Asset, torch.device], Network]


def require(metrics: tuple[str, ...]) -> None:
    """Fail early, before anything is started, if an extractor's weights cannot be had.

    Raises:
        InputError: with what to do about it.
    """
    needed = {METRICS[name].features for name in metrics}
    if "inception" in needed:
        inception.inception_weights()
    if "dinov2" in needed:
        dinov2.dinov2_weights()


@tf32(False)
def prepare(
    metrics: tuple[str, ...],
    data: ImageData,
    device: torch.device,
    samples: int | None = None,
    precision: Precision = "float32",
) -> dict[str, Asset]:
    """Make what every evaluator of a study shares: trained weights and reference statistics.

    Made once and sent to every node, so that all trials are measured by the very same numbers.
    Real features are kept of as many images as there are `samples`, by default of all. Evaluators
    are to have the same `precision`: TF32 on one side only moved distances by 2 %.

    Raises:
        InputError: the weights of an extractor cannot be had, or a metric needs more real images.
    """
    for name in metrics:
        problem = too_few_real(name, data)
        if problem is not None:
            raise InputError(problem)
    assets: dict[str, Asset] = {}
    for name, features in sorted(extractors_of(metrics).items()):
        asset = _kind(features).prepare(data, device)
        network = _network(features, asset, device, precision)
        compared = [
            (METRICS[metric].against, statistic.needs)
            for metric in metrics
            if METRICS[metric].extractor == name and (statistic := sample_statistic(metric)).real
        ]
        asset["total"] = len(data.train.images)
        if ("train", "moments") in compared or network.standardised:
            asset |= _moments(network, data, "train", device)
        if ("test", "moments") in compared:
            moments = _moments(network, data, "test", device)
            asset |= {f"test_{key}": value for key, value in moments.items()}
        if any(needs == "features" for _, needs in compared):
            asset["real"] = _real(network, data, samples, device)
        assets[name] = asset
    return assets


def too_few_real(metric: str, data: ImageData) -> str | None:
    """Say how many real images a metric needs, if the split it compares with has too few.

    With fewer than one more than there are features, their covariance has no full rank, and a
    distance to it says more about how few they are than about the model.
    """
    least, images = _least_real(metric), _real_images(metric, data)
    if images >= least:
        return None
    split = {"train": "training", "test": "test"}[METRICS[metric].against]
    instead = [
        name
        for name, other in METRICS.items()
        if other.features in (METRICS[metric].features, "classifier")
        and other.computed_by in DISTANCES
        and _real_images(name, data) >= _least_real(name)
    ]
    return (
        f"{metric} needs {least} or more real images, {data.name} has {images} {split} "
        f"image{'' if images == 1 else 's'}; give more"
        + (f", or use {' or '.join(instead)}" if instead else "")
    )


def _least_real(metric: str) -> int:
    features = METRICS[metric].features
    if features is None:
        return 0
    statistic = sample_statistic(metric)
    if not statistic.real:
        return 0
    return _kind(features).dim + 1 if statistic.needs == "moments" else FEW


def _real_images(metric: str, data: ImageData) -> int:
    split: Split = getattr(data, METRICS[metric].against)
    return len(split.labels)


def extractors_of(metrics: tuple[str, ...]) -> dict[str, Features | FeatureEncoder]:
    """Whose features the metrics of samples are computed from, by name."""
    return {
        metric.extractor: metric.features
        for metric in map(METRICS.__getitem__, metrics)
        if metric.extractor and metric.features
    }


def load_extractor(
    features: Features | FeatureEncoder,
    asset: Asset,
    device: torch.device,
    precision: Precision = "float32",
) -> Extractor:
    """Build an extractor from what `prepare` made at the same precision."""
    network = _network(features, asset, device, precision)
    splits = {
        split: _stats(asset, prefix, device)
        for split, prefix in (("train", ""), ("test", "test_"))
        if f"{prefix}mean" in asset
    }
    encode, real = network.features, asset["real"].to(device) if "real" in asset else None
    if network.standardised:
        # Then the distance does not depend on the scale at which a classifier happens to work.
        scale = splits["train"].cov.diagonal().sqrt().clamp(min=1e-6)
        encode = partial(_scaled, network.features, scale)
        real = None if real is None else real / scale
        for split, (mean, cov, count) in splits.items():
            splits[split] = FeatureStats(mean / scale, cov / torch.outer(scale, scale), count)
    references = {
        split: Reference(stats, symmetric_root(stats.cov)) for split, stats in splits.items()
    }
    total = asset.get("total", 0)
    return Extractor(encode, network.dim, references, real, total, network.protocol, network.head)


def _network(
    features: Features | FeatureEncoder, asset: Asset, device: torch.device, precision: Precision
) -> Network:
    """Build the network of an extractor, whose features are made in parts where memory is short."""
    network = _kind(features).build(asset, device)
    rounded = precision == "tf32" and device.type == "cuda"  # elsewhere float32 is not rounded
    network = network._replace(features=_Features(network.features, rounded))
    if not rounded:
        return network
    stamped = {**network.protocol, "precision": "tf32"}
    return network._replace(key=f"{network.key}-tf32", protocol=stamped)


class _Features:
    """Features of images at one precision, of as many images at once as memory takes."""

    def __init__(self, network: Callable[[Tensor], Tensor], rounded: bool) -> None:
        self.network, self.rounded, self.most = network, rounded, CHUNK

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (n, d) of uint8 images.

        Raises:
            torch.OutOfMemoryError: there is no room for a single image.
        """
        while True:
            try:
                with tf32(self.rounded):
                    return torch.cat([self.network(part) for part in images.split(self.most)])
            except torch.OutOfMemoryError:
                if self.most == 1:
                    raise
                self.most = (self.most + 1) // 2


def _prepare_classifier(data: ImageData, device: torch.device) -> Asset:
    """Train raygen's own classifier, or take it from the cache."""
    entry = classifier.load_classifier(data, device)
    weights = _hash_weights(classifier.restore(entry["state"], device))
    task = "classes" if classifier.labelled(data) else "quarter turns"
    return {**entry, "hash": weights, "task": task}


def _build_classifier(asset: Asset, device: torch.device) -> Network:
    model = classifier.restore(asset["state"], device)

    def features(images: Tensor) -> Tensor:
        return model.features(to_model_range(images))

    protocol = {
        "encoder": f"raygen classifier, {classifier.FEATURES} features, standardised",
        "encoder_hash": asset["hash"],
        "encoder_test_accuracy": round(asset["accuracy"], 4),
        "resize": "none",
    }
    if asset["task"] != "classes":
        protocol["encoder_task"] = asset["task"]
    key = f"fd_classifier-{classifier.RECIPE}-{asset['hash']}"
    return Network(features, classifier.FEATURES, key, protocol, standardised=True)


def _build_inception(_: Asset, device: torch.device) -> Network:
    network = inception.load_inception(device)
    protocol = {
        "encoder": "inception-2015-12-05 pool3",
        "encoder_hash": inception.HASH,
        "resize": "tf1 bilinear to 299",
    }
    features = _coloured(partial(inception.inception_features, network))
    key = f"fid-{inception.HASH}"
    head: Tensor = network.fc.weight  # pyright: ignore
    return Network(features, inception.FEATURES, key, protocol, head)


def _prepare_dinov2(_: ImageData, __: torch.device) -> Asset:
    return {"hash": dinov2.weights_hash()}


def _build_dinov2(asset: Asset, device: torch.device) -> Network:
    features = _coloured(partial(dinov2.dinov2_features, dinov2.load_dinov2(device)))
    protocol = {
        "encoder": "dinov2 vit-l/14, class token",
        "encoder_hash": asset["hash"],
        "resize": "tf1 bilinear to 224",
    }
    return Network(features, dinov2.FEATURES, f"dinov2-{asset['hash']}", protocol)


def _build_pixels(asset: Asset, _: torch.device) -> Network:
    def features(images: Tensor) -> Tensor:
        return images.flatten(1).float()

    return Network(features, asset["values"], "pixels", {"encoder": "none, pixels"})


def _coloured(features: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Show a network of coloured images grey ones three times, as torch-fidelity does."""
    return lambda images: features(images.expand(-1, 3, -1, -1))


EXTRACTORS = {
    "classifier": Kind(classifier.FEATURES, _prepare_classifier, _build_classifier),
    "inception": Kind(inception.FEATURES, lambda *_: {}, _build_inception),
    "dinov2": Kind(dinov2.FEATURES, _prepare_dinov2, _build_dinov2),
    "pixels": Kind(0, lambda data, _: {"values": data.image.values}, _build_pixels),
}


def _kind(features: Features | FeatureEncoder) -> Kind:
    """How raygen's extractor of that name is made, or an encoder of one's own."""
    if not isinstance(features, FeatureEncoder):
        return EXTRACTORS[features]
    return Kind(
        features.dim, partial(_prepare_encoder, features), partial(_build_encoder, features)
    )


def _prepare_encoder(encoder: FeatureEncoder, data: ImageData, device: torch.device) -> Asset:
    network = encoder_network(encoder, device)
    check_encoder(encoder, network, data.train.images[:2].to(device))
    return {"hash": _hash_weights(network)}


def _build_encoder(encoder: FeatureEncoder, asset: Asset, device: torch.device) -> Network:
    network = encoder_network(encoder, device)
    weights = _hash_weights(network)
    if weights != asset["hash"]:
        raise InputError(
            f"{encoder.name}: its weights (hash {weights}) are not those that the real images were "
            f"encoded with ({asset['hash']}); it must load the same ones whenever it is called"
        )
    protocol = {
        "encoder": encoder.name,
        "encoder_hash": weights,
        "encoder_code": encoder.code,
    }
    key = f"encoder-{encoder.dim}-{encoder.code}-{weights}"
    return Network(partial(features_of, network), encoder.dim, key, protocol)


def _moments(network: Network, data: ImageData, split: str, device: torch.device) -> Asset:
    """Mean, covariance and count of the features of a split, cached."""

    def make() -> Asset:
        moments = FeatureMoments(network.dim, device)
        with torch.no_grad():
            chunks = getattr(data, split).images.split(CHUNK)
            for chunk in ticking(chunks, f"features of the {split} images", len(chunks)):
                moments.add(network.features(chunk.to(device)))
        stats = moments.stats()
        return {"mean": stats.mean.cpu(), "cov": stats.cov.cpu(), "count": stats.count}

    part = "" if split == "train" else f"{split}-"
    return cached(f"reference-{network.key}-{part}{data.fingerprint}", make)


def _real(network: Network, data: ImageData, samples: int | None, device: torch.device) -> Tensor:
    """Features of training images in a fixed random order: of the first `samples`, cached."""
    total = len(data.train.images)
    count = min(samples or total, total)
    order = real_order(total)[:count]

    def make() -> Asset:
        with torch.no_grad():
            chunks = [
                network.features(data.train.images[chosen].to(device)).cpu()
                for chosen in order.split(CHUNK)
            ]
        return {"features": torch.cat(chunks)}

    return cached(f"features-{network.key}-{count}-{data.fingerprint}", make)["features"]


def real_order(count: int) -> Tensor:
    """The order in which training images serve as references: data is often sorted by class."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _scaled(features: Callable[[Tensor], Tensor], scale: Tensor, images: Tensor) -> Tensor:
    return features(images) / scale


def _stats(asset: Asset, prefix: str, device: torch.device) -> FeatureStats:
    mean, cov = asset[f"{prefix}mean"].to(device), asset[f"{prefix}cov"].to(device)
    return FeatureStats(mean, cov, asset[f"{prefix}count"])


def _hash_weights(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
