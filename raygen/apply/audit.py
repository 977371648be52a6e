"""Does a model copy its training images? Several tests, each with its expected value.

None of them proves absence: each says how often something was seen, in how many images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raygen import __version__
from raygen.apply.copying import (
    area,
    cluster,
    copying_test,
    fewer,
    mann_whitney,
    near_duplicates,
    nearer_share,
    wilson,
)
from raygen.apply.generate import sample_chunks
from raygen.apply.nearest import Nearest, Space, feature_space, nearest, pixel_space
from raygen.apply.source import Source, file_hash, find_data, open_source
from raygen.data import ImageData
from raygen.data.batches import to_model_range
from raygen.data.pictures import save_grid
from raygen.errors import InputError
from raygen.files import write_json
from raygen.metrics.classifier import load_classifier, restore
from raygen.metrics.model import Autoencoder, Generative
from raygen.study_folder import TrialFolder
from raygen.training.checkpoint import load_sampler
from raygen.training.own import OwnLearner
from raygen.training.vae import VaeLearner

SAMPLE_SEED = 2_020_061  # other latents than those that the metrics see
CELLS = 8
LEAST = 50  # held-out images
PAIRS = 12  # in each space, as pictures
CHUNK = 250


class Membership(NamedTuple):
    """A score that may be higher for images the model was trained on, and its name."""

    by: str
    score: Callable[[Tensor, Tensor], Tensor]  # uint8 images and labels -> (n,), on the CPU


class Findings(NamedTuple):
    """The numbers, and the generated images (first) beside the training images nearest to them."""

    numbers: dict[str, Any]
    pairs: Tensor  # uint8 (4 * PAIRS, 3, 32, 32): by pixels, then by features


def audit(
    source: Path,
    given_data: str | None,
    samples: int,
    device: torch.device,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Audit a study's best model or a checkpoint; write audit.json and audit.png beside it.

    Raises:
        InputError: no checkpoint, not its data, or too few held-out images to compare with.
    """
    source_model = open_source(source, device)
    data = find_data(source_model.checkpoint, source_model.content, given_data)
    for note in data.notes:
        tell(note)
    flip = bool(source_model.content["trial"]["flip"])
    entry = load_classifier(data, device)
    classifier = restore(entry["state"], device)
    member, note = membership(source_model, device)
    result = measure_copying(
        source_model.learner, data, classifier.features, flip, samples, member, tell
    )
    written = {
        "schema": 1,
        "kind": "audit",
        "model": source_model.facts(),
        "data": data.summary(),
        "encoder_test_accuracy": round(entry["accuracy"], 4),
        **result.numbers,
        "membership_of": note,
        "pairs": source_model.folder.audit_pairs.name,
        "raygen": __version__,
    }
    save_grid(result.pairs, source_model.folder.audit_pairs)
    write_json(source_model.folder.audit, written)
    return written


@torch.no_grad()
def measure_copying(
    model: Generative,
    data: ImageData,
    features: Callable[[Tensor], Tensor],
    flip: bool,
    samples: int,
    member: Membership | None,
    tell: Callable[[str], None] = lambda _: None,
) -> Findings:
    """Every test on `samples` generated and as many held-out images (or all that there are).

    Raises:
        InputError: fewer than 50 held-out images.
    """
    if len(data.test.labels) < LEAST:
        raise InputError(
            f"{data.name}: {len(data.test.labels)} held-out images, but an audit needs {LEAST} "
            "or more to know how near new images lie to the training images"
        )
    device = model.device
    counts = torch.bincount(data.train.labels, minlength=len(data.classes))
    drawn = sample_chunks(model, samples, SAMPLE_SEED, counts)
    generated = torch.cat([images for images, _ in drawn])
    random = torch.Generator().manual_seed(SAMPLE_SEED)
    kept = torch.randperm(len(data.test.labels), generator=random)[:samples]
    held_out = data.test.images[kept]
    spaces = (
        pixel_space(device, flip),
        feature_space(features, data.train.images, device, flip),
    )
    centres = cluster(_encode(spaces[1], data.train.images[:10_000]), CELLS, SAMPLE_SEED)
    cells = (_cells(spaces[1], generated, centres), _cells(spaces[1], held_out, centres))
    tests, pairs = {}, []
    for space in spaces:
        to_train = nearest(space, generated, data.train.images)
        tests[space.name] = _tests(space, data, generated, held_out, to_train, cells)
        worst = to_train.distance.argsort()[:PAIRS]
        pair = generated[worst], data.train.images[to_train.number[worst]]
        pairs.append(torch.stack(pair, dim=1).flatten(0, 1))
        rate = tests[space.name]["near_duplicates"]["rate"]
        tell(f"{space.name}: {rate:.2%} of {len(generated)} are near duplicates (1% expected)")
    numbers = {
        "settings": {
            "samples": len(generated),
            "held_out": len(held_out),
            "flip": flip,
            "cells": CELLS,
            "sample_seed": SAMPLE_SEED,
        },
        "tests": tests,
        "membership": None if member is None else _membership(member, data, samples),
    }
    return Findings(numbers, torch.cat(pairs))


def _tests(
    space: Space,
    data: ImageData,
    generated: Tensor,
    held_out: Tensor,
    to_train: Nearest,
    cells: tuple[Tensor, Tensor],
) -> dict[str, Any]:
    new = nearest(space, held_out, data.train.images)
    # As many training as held-out images: the more there are, the nearer is the nearest.
    size = min(len(data.train.labels), len(data.test.labels))
    random = torch.Generator().manual_seed(SAMPLE_SEED + 1)
    some = [
        split.images[torch.randperm(len(split.labels), generator=random)[:size]]
        for split in (data.train, data.test)
    ]
    both = [nearest(space, generated, images).distance for images in some]
    unique, back = to_train.number.unique(return_inverse=True)
    # Alaa et al. 2022: authentic if its nearest training image has a training image nearer to it.
    spacing = nearest(space, data.train.images[unique], data.train.images, apart=unique).distance[
        back
    ]
    authentic = int((to_train.distance > spacing).sum())
    ranks = mann_whitney(to_train.distance.double().numpy(), new.distance.double().numpy())
    split = copying_test(to_train.distance, new.distance, cells, CELLS)
    quantiles = torch.tensor([0.01, 0.1, 0.5], dtype=torch.float64)
    low, high = wilson(authentic, len(generated))
    share = authentic / len(generated)
    reference = _authentic_reference(space, data, new)
    return {
        "near_duplicates": near_duplicates(to_train.distance, new.distance),
        "exact_copies": int((to_train.distance == 0).sum()),
        "nearer_to_train": nearer_share(both[0], both[1]),
        "authentic": {
            "share": share,
            "low": low,
            "high": high,
            "held_out": reference,
            "p": fewer(share, len(generated), reference, len(held_out)),
        },
        "copying": {"z": ranks.z, "p": ranks.p, "c_t": split.z, "c_t_p": split.p},
        "quantiles": {
            "generated": torch.quantile(to_train.distance.double(), quantiles).tolist(),
            "held_out": torch.quantile(new.distance.double(), quantiles).tolist(),
        },
    }


def _authentic_reference(space: Space, data: ImageData, new: Nearest) -> float:
    """The share of held-out images that are authentic by the same rule."""
    unique, back = new.number.unique(return_inverse=True)
    spacing = nearest(space, data.train.images[unique], data.train.images, apart=unique).distance[
        back
    ]
    return float((new.distance > spacing).double().mean())


def membership(
    source_model: Source, device: torch.device
) -> tuple[Membership | None, dict[str, Any]]:
    """What scores an image: the ELBO of a VAE, or the discriminator that a checkpoint holds.

    That of best.pt is not kept, so the one of last.pt beside it is taken.
    """
    if isinstance(source_model.learner, OwnLearner):
        return None, {"why_not": "a model of your own has neither an ELBO nor a discriminator"}
    if isinstance(source_model.learner, VaeLearner):
        return elbo_membership(source_model.learner), {"checkpoint": source_model.checkpoint.name}
    path, content = source_model.checkpoint, source_model.content
    last = TrialFolder(source_model.checkpoint.parent).last
    if "discriminator" not in content["learner"] and last.is_file():
        path, content = last, load_sampler(last, device)[1]
    if "discriminator" not in content["learner"]:
        return None, {"why_not": "no checkpoint contains the discriminator"}
    if (
        content["trial"] != source_model.content["trial"]
        or content["seed"] != source_model.content["seed"]
    ):
        return None, {"why_not": f"{last.name} is from another training run"}
    network = source_model.learner.discriminator
    network.load_state_dict(content["learner"]["discriminator"])
    network.eval()

    def score(images: Tensor, labels: Tensor) -> Tensor:
        return network(to_model_range(images.to(device)), labels.to(device)).float().cpu()

    kimg = content["kimg"]
    note = {"checkpoint": path.name, "kimg": kimg, "checkpoint_hash": file_hash(path)}
    return Membership("discriminator", score), note


def elbo_membership(model: Autoencoder) -> Membership:
    """The bound of the likelihood: higher where the model has seen the image."""

    def score(images: Tensor, labels: Tensor) -> Tensor:
        random = torch.Generator(model.device).manual_seed(SAMPLE_SEED)
        return model.elbo(images.to(model.device), random).cpu()

    return Membership("elbo", score)


def _membership(member: Membership, data: ImageData, samples: int) -> dict[str, Any]:
    count = min(samples, len(data.train.labels), len(data.test.labels))
    random = torch.Generator().manual_seed(SAMPLE_SEED + 2)
    scores = []
    for split in (data.train, data.test):
        rows = torch.randperm(len(split.labels), generator=random)[:count]
        chunks = [member.score(split.images[r], split.labels[r]) for r in rows.split(CHUNK)]
        scores.append(torch.cat(chunks))
    return {"by": member.by, "images": count, **area(scores[0], scores[1], SAMPLE_SEED)}


def _encode(space: Space, images: Tensor) -> Tensor:
    return torch.cat([space.encode(part) for part in images.split(CHUNK)])


def _cells(space: Space, images: Tensor, centres: Tensor) -> Tensor:
    return torch.cdist(_encode(space, images), centres).argmin(dim=1).cpu()
