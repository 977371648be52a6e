"""Does generated data help? One classifier on real, on generated, and on both kinds of images.

Trained on generated and tested on real images: the classification accuracy score of Ravuri and
Vinyals 2019, which is the GAN-train of Shmelkov, Schmid and Alahari 2018. Their GAN-test is the
reverse: how well a classifier of real images recognises generated ones.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raygen import __version__
from raygen.apply.generate import sample_chunks
from raygen.apply.source import Source, find_data, open_source
from raygen.data import ImageData, Split
from raygen.data.batches import to_model_range
from raygen.errors import InputError
from raygen.files import write_json
from raygen.metrics.classifier import BATCH, EPOCHS, Classifier, train_classifier
from raygen.metrics.model import Generative
from raygen.posterior import t_quantile

FRACTIONS = (0.01, 0.1, 1.0)
ARMS = ("real", "generated", "both")
SAMPLE_SEED = 1_904_887  # other latents than those that the metrics see
MOST = 50_000  # generated images, unless asked for more


class Settings(NamedTuple):
    """How to measure: the same number of steps for every classifier."""

    samples: int | None = None  # default: as many as there are training images, at most MOST
    steps: int | None = None  # of each classifier; default: those of five epochs of the real images
    seeds: int = 3
    fractions: tuple[float, ...] = FRACTIONS


def augment(
    source: Path,
    given_data: str | None,
    settings: Settings,
    device: torch.device,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure a study's best model or a checkpoint, and write augment.json beside it.

    Raises:
        InputError: no checkpoint, not its data, or a class without training images.
    """
    source_model: Source = open_source(source, device)
    data = find_data(source_model.checkpoint, source_model.content, given_data)
    for note in data.notes:
        tell(note)
    result = {
        "schema": 1,
        "kind": "augment",
        "model": source_model.facts(),
        "data": data.summary(),
        **measure_gain(source_model.learner, data, source_model.conditional, settings, tell),
        "raygen": __version__,
    }
    write_json(source_model.folder.augment, result)
    return result


def measure_gain(
    model: Generative,
    data: ImageData,
    conditional: bool,
    settings: Settings,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train every classifier, and report each. Seeds also choose which real labels are used.

    Images of a model without classes are labelled by the classifier of the real part
    ("pseudo"), so it has no GAN-test.

    Raises:
        InputError: fewer than two classes, or one without training images.
    """
    _check_classes(data)
    count = settings.samples or min(len(data.train.labels), MOST)
    steps = settings.steps or max(EPOCHS * len(data.train.labels) // BATCH, 100)
    parts = list(sample_chunks(model, count, SAMPLE_SEED))
    drawn = Split(*(torch.cat(chunks) for chunks in zip(*parts, strict=True)))
    right: dict[tuple[str, float], list[Tensor]] = {}  # per class, one row per seed
    recognised = []
    for seed in range(settings.seeds):
        shared: Tensor | None = None  # of generated images alone: the same for every fraction
        for fraction in settings.fractions:
            real = _part(data.train, fraction, len(data.classes), seed)

            def trained(split: Split, seed: int = seed) -> Classifier:
                device = model.device
                return train_classifier(data._replace(train=split), device, steps, seed)

            teacher = trained(real)
            generated = drawn
            if not conditional:
                generated = Split(drawn.images, predict(teacher, drawn.images, model.device))
            here = {"real": class_accuracy(teacher, data.test, data.classes, model.device)}
            if shared is None or not conditional:
                shared = class_accuracy(trained(generated), data.test, data.classes, model.device)
            here["generated"] = shared
            mixed = trained(_mixed(real, generated))
            here["both"] = class_accuracy(mixed, data.test, data.classes, model.device)
            if conditional and fraction == max(settings.fractions):
                recognised.append(class_accuracy(teacher, drawn, data.classes, model.device))
            for arm, accuracies in here.items():
                right.setdefault((arm, fraction), []).append(accuracies)
            weights = torch.bincount(data.test.labels, minlength=len(data.classes))
            said = ", ".join(f"{arm} {_overall(here[arm], weights):.3f}" for arm in ARMS)
            tell(f"seed {seed}, {fraction:.0%} of the real labels: {said}")
    return {
        "settings": {
            "samples": count,
            "steps": steps,
            "batch": BATCH,
            "seeds": settings.seeds,
            "sample_seed": SAMPLE_SEED,
            "mixture": "half of what is shown is real, half generated",
            "classifier": "raygen classifier, flipped at random",
        },
        "labels": "conditional" if conditional else "pseudo",
        **_summary(data, right, recognised, settings.fractions),
    }


def _summary(
    data: ImageData,
    right: dict[tuple[str, float], list[Tensor]],
    recognised: list[Tensor],
    fractions: Sequence[float],
) -> dict[str, Any]:
    weights = torch.bincount(data.test.labels, minlength=len(data.classes))
    arms = []
    for fraction in fractions:
        accuracies = {}
        for arm in ARMS:
            accuracies[arm] = [_overall(per_class, weights) for per_class in right[arm, fraction]]
            arms.append({"fraction": fraction, "arm": arm, **mean_interval(accuracies[arm])})
        # The same seed chose the same labels and first weights, so differences are taken in pairs.
        pairs = zip(accuracies["both"], accuracies["real"], strict=True)
        gain = [both - real for both, real in pairs]
        arms.append({"fraction": fraction, "arm": "gain", **mean_interval(gain)})
    top = max(fractions)
    by_class = {arm: _mean(right[arm, top], len(data.classes)) for arm in ARMS}
    by_class["gan_test"] = _mean(recognised, len(data.classes))
    even = torch.ones(len(data.classes))  # drawn labels go round: all classes are as frequent
    gan_test = [_overall(per_class, even) for per_class in recognised]
    return {
        "arms": arms,
        "gan_train": mean_interval(
            [_overall(per_class, weights) for per_class in right["generated", top]]
        ),
        "gan_test": mean_interval(gan_test) if gan_test else None,
        "classes": [
            {"class": name, **{key: values[i] for key, values in by_class.items()}}
            for i, name in enumerate(data.classes)
        ],
    }


def mean_interval(values: Sequence[float]) -> dict[str, Any]:
    """Values, their mean, and its 95% t interval; None with a single value."""
    n = len(values)
    mean = sum(values) / n
    low = high = None
    if n > 1:
        sd = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
        half = t_quantile(n - 1) * sd / math.sqrt(n)
        low, high = round(mean - half, 6), round(mean + half, 6)
    rounded = [round(value, 6) for value in values]
    return {"mean": round(mean, 6), "low": low, "high": high, "values": rounded}


@torch.no_grad()
def predict(classifier: Classifier, images: Tensor, device: torch.device) -> Tensor:
    """Uint8 images (n, 3, 32, 32) -> the likeliest class of each (n,), on the CPU."""
    parts = [
        classifier(to_model_range(part.to(device))).argmax(dim=1).cpu()
        for part in images.split(1000)
    ]
    return torch.cat(parts)


def class_accuracy(
    classifier: Classifier, split: Split, classes: tuple[str, ...], device: torch.device
) -> Tensor:
    """Share of the images of each class that are recognised (classes,); nan for a class of none."""
    hit = (predict(classifier, split.images, device) == split.labels).double()
    total = torch.bincount(split.labels, minlength=len(classes))
    return torch.bincount(split.labels, hit, minlength=len(classes)) / total


def _overall(accuracies: Tensor, weights: Tensor) -> float:
    defined = ~accuracies.isnan()
    return float((accuracies[defined] * weights[defined]).sum() / weights[defined].sum())


def _mean(rows: list[Tensor], classes: int) -> list[float | None]:
    if not rows:
        return [None] * classes
    means = torch.stack(rows).mean(dim=0).tolist()
    return [None if math.isnan(value) else round(value, 6) for value in means]


def _part(split: Split, fraction: float, classes: int, seed: int) -> Split:
    """That fraction of every class, at least one image of each, chosen by the seed."""
    if fraction >= 1:
        return split
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(seed))
    kept = []
    for label in range(classes):
        of_class = order[split.labels[order] == label]
        kept.append(of_class[: max(1, round(fraction * len(of_class)))])
    rows = torch.cat(kept).sort().values
    return Split(split.images[rows], split.labels[rows])


def _mixed(one: Split, other: Split) -> Split:
    """Both, the smaller repeated until it is as large as the other."""
    size = max(len(one.labels), len(other.labels))
    rows = [torch.arange(size) % len(split.labels) for split in (one, other)]
    images = torch.cat([one.images[rows[0]], other.images[rows[1]]])
    return Split(images, torch.cat([one.labels[rows[0]], other.labels[rows[1]]]))


def _check_classes(data: ImageData) -> None:
    if len(data.classes) < 2:
        raise InputError(f"{data.name}: has only one class, so there is nothing to classify")
    counts = torch.bincount(data.train.labels, minlength=len(data.classes)).tolist()
    for name, count in zip(data.classes, counts, strict=True):
        if not count:
            raise InputError(f"{data.name}: no training image of class {name}")
