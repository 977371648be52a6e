"""32x32 colour images from noise: a grid, a folder of PNGs, or an .npz."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raygen.data.pictures import save_grid, tile
from raygen.errors import InputError
from raygen.folders import StudyFolder, TrialFolder
from raygen.metrics.model import CHUNK, Generative, draw_latents
from raygen.results import best_trial, load_study
from raygen.train.checkpoint import load_sampler


def find_checkpoint(source: Path) -> Path:
    """Return the checkpoint to sample from: of a study, its best trial's.

    Raises:
        InputError: nothing there to sample from.
    """
    if source.is_file():
        return source
    if StudyFolder(source).journal.exists():
        return StudyFolder(source).trial(best_trial(load_study(source))).best
    if TrialFolder(source).best.exists():
        return TrialFolder(source).best
    raise InputError(f"{source}: neither a checkpoint, nor a study, nor a trained configuration")


def generate(
    source: Path,
    output: Path,
    count: int,
    seed: int,
    device: torch.device,
    label: str | None = None,
) -> Path:
    """Generate `count` images and write them; the ending of `output` says how.

    `.png`: one grid. `.npz`: `images` uint8 (n, 32, 32, 3) and `labels` (n,). No ending: a folder
    with one PNG per image. The same seed gives the same images on the same device type.

    Raises:
        InputError: the checkpoint cannot be read, the model has no such class, or the ending is
            none of these.
    """
    if output.suffix not in (".png", ".npz", ""):
        raise InputError(f"{output}: must end in .png (a grid), .npz, or nothing (a folder)")
    learner, content = load_sampler(find_checkpoint(source), device)
    classes = content["data"]["classes"]
    chosen = None if label is None else _class_number(label, classes, content)
    chunks = sample_chunks(learner, count, seed, chosen)
    if output.suffix == "":
        output.mkdir(parents=True, exist_ok=True)
        width = len(str(count - 1))
        number = 0
        for images, _ in chunks:  # one chunk in memory at a time, however many are asked for
            for image in images:
                tile(image.unsqueeze(0), 1).save(output / f"{number:0{width}d}.png")
                number += 1
        return output
    parts = list(chunks)
    images = torch.cat([images for images, _ in parts])
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".png":
        save_grid(images, output, columns=max(1, round(count**0.5)))
    else:
        labels = torch.cat([labels for _, labels in parts])
        pixels = images.permute(0, 2, 3, 1).numpy()
        np.savez_compressed(output, images=pixels, labels=labels.numpy())
    return output


def sample_chunks(
    model: Generative, count: int, seed: int, label: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images uint8 (n, 3, 32, 32) and labels (n,), n <= 250, until there are `count`."""
    for index in range(-(-count // CHUNK)):
        size = min(CHUNK, count - index * CHUNK)
        latents, labels = draw_latents(model, seed, index, size)
        if label is not None:
            labels = torch.full_like(labels, label)
        yield model.sample(latents, labels).cpu(), labels.cpu()


def _class_number(label: str, classes: list[str], content: dict[str, object]) -> int:
    trial = content["trial"]
    assert isinstance(trial, dict)
    if not trial["model"].get("conditional"):
        raise InputError(f"--class {label}: the model is not conditional on the class")
    if label not in classes:
        raise InputError(f"--class {label}: no such class, choose from {', '.join(classes)}")
    return classes.index(label)
