"""Images from noise: a grid, a folder of PNGs, an .npz, or a short animation."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from raygen.apply import explore
from raygen.apply.image_writer import write_folder, write_gif, write_grid, write_npz
from raygen.apply.source import find_data, open_source
from raygen.errors import InputError
from raygen.image_shape import ImageShape
from raygen.metrics.model import CHUNK, Generative, draw_latents, even, labels_in_shares
from raygen.training.loop import Learner
from raygen.training.vae import VaeLearner

Chunks = Iterator[tuple[Tensor, Tensor]]
MOST_IN_ONE = 100_000  # images of a grid or an animation, which are made in memory
FRAMES = 16  # of an animation from one latent to the next, unless told
HOTTEST = 1.5  # temperature: networks have seen next to no latents from further out


class Ways(NamedTuple):
    """What to draw beside plain samples; the default changes nothing."""

    label: str | None = None  # this class only
    truncation: float | None = None
    interpolate: int | None = None  # frames from one latent to the next
    like: Path | None = None  # samples around what resembles this picture
    spread: float = 0.5  # how far around
    tile: int | None = None  # each image as a mosaic of so many in a row
    shard: int | None = None  # images in one .npz
    data: str | None = None  # where the training images are, if the study does not say
    temperature: float = 1.0  # times the standard deviation of latents


def generate(
    source: Path,
    output: Path,
    count: int,
    seed: int,
    device: torch.device,
    label: str | None = None,
    ways: Ways | None = None,
) -> Path:
    """Generate `count` images and write them; the ending of `output` says how.

    `.png`: one grid. `.npz`: `images` uint8 (n, h, w, c) and `labels` (n,). No ending: a folder
    with one PNG per image, in sub-folders of 10,000 if there are more. `.gif`: a loop through
    `count` latents. The same seed gives the same images on the same device type.

    Raises:
        InputError: the checkpoint cannot be read, the model has no such class, or the ending is
            none of these.
    """
    ways = ways or Ways(label)
    _check(output, ways)
    for name, value in (("--truncation", ways.truncation), ("--spread", ways.spread)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} {value}: must be a finite number")
    check_temperature("--temperature", ways.temperature)
    if output.suffix in (".png", ".gif") and count > MOST_IN_ONE:
        raise InputError(f"--count {count}: one {output.suffix} holds at most {MOST_IN_ONE:,}")
    opened = open_source(source, device)
    checkpoint, learner, content = opened.checkpoint, opened.learner, opened.content
    chosen = None
    if ways.label is not None:
        chosen = _class_number(ways.label, content["data"]["classes"], content)
        _check_seen(ways.label, chosen, checkpoint, content, ways.data)
    if output.suffix == ".gif":
        ways = ways._replace(interpolate=ways.interpolate or FRAMES)
    image = ImageShape.of(content["data"]["image"])
    chunks, total = _chunks(learner, image, count, seed, chosen, ways), count
    if ways.interpolate:
        total = count * ways.interpolate
    if ways.tile:
        chunks = ((explore.mosaic(images, ways.tile), labels) for images, labels in chunks)
    try:
        match output.suffix:
            case "":
                write_folder(chunks, output, total)
            case ".gif":
                write_gif(chunks, output)
            case ".png":
                columns = ways.interpolate or max(1, round(count**0.5))
                write_grid(chunks, output, columns)
            case _:
                return write_npz(chunks, output, total, ways.shard)
    except OSError as error:
        raise InputError(f"{output}: could not be written: {error.strerror}") from error
    return output


def check_temperature(name: str, temperature: float) -> None:
    """Refuse what is no temperature, under the name that the user knows it by.

    Raises:
        InputError: it is not above 0 and at most 1.5.
    """
    if not 0 < temperature <= HOTTEST:
        raise InputError(f"{name} {temperature:g}: must be above 0 and at most {HOTTEST:g}")


def sample_chunks(
    model: Generative,
    count: int,
    seed: int,
    counts: Tensor | None = None,
    temperature: float = 1.0,
) -> Chunks:
    """Yield images uint8 (n, c, h, w) and labels (n,), n <= 250, until there are `count`.

    Classes take turns; those of a conditional model come in the shares of `counts` (classes,).
    """
    labels = None
    if counts is not None and getattr(model, "conditional", False) and not even(counts):
        labels = labels_in_shares(counts, count)
    for latents, drawn in _latents(model, count, seed, None, labels):
        yield model.sample(explore.scaled(latents, temperature), drawn).cpu(), drawn.cpu()


def _latents(
    model: Generative, count: int, seed: int, label: int | None, shares: Tensor | None = None
) -> Chunks:
    for index in range(-(-count // CHUNK)):
        size = min(CHUNK, count - index * CHUNK)
        latents, labels = draw_latents(model, seed, index, size, shares)
        if label is not None:
            labels = torch.full_like(labels, label)
        yield latents, labels


def _chunks(
    learner: Learner, image: ImageShape, count: int, seed: int, label: int | None, ways: Ways
) -> Chunks:
    """Latents, changed as asked for, and the images of each chunk of them."""
    if ways.like is not None:
        picture = explore.read_square(ways.like, image)
        middle, at = explore.resembling(learner, picture, seed, label)
        latents = explore.around(middle, count, ways.spread, seed)
        stream = iter([(latents, torch.full((count,), at, device=learner.device))])
    else:
        stream = _latents(learner, count, seed, label)
    if ways.truncation is not None:
        cut = explore.scaled if isinstance(learner, VaeLearner) else explore.truncated
        threshold = ways.truncation
        stream = ((cut(latents, threshold), labels) for latents, labels in stream)
    if ways.temperature != 1:
        stream = ((explore.scaled(z, ways.temperature), labels) for z, labels in stream)
    if ways.interpolate:
        stream = explore.strips(stream, ways.interpolate)
    for latents, labels in stream:
        for part, of in zip(latents.split(CHUNK), labels.split(CHUNK), strict=True):
            yield learner.sample(part, of).cpu(), of.cpu()


def _check(output: Path, ways: Ways) -> None:
    if output.suffix not in (".png", ".npz", ".gif", ""):
        raise InputError(
            f"{output}: must end in .png (a grid), .npz, .gif (a loop), or no ending (a folder)"
        )
    if ways.shard is not None and output.suffix != ".npz":
        raise InputError(f"--shard: {output} is not an .npz")
    if ways.like is not None and ways.interpolate:
        raise InputError("--like and --interpolate: choose one")
    if ways.temperature != 1 and ways.truncation is not None:
        raise InputError("--temperature and --truncation: choose one")
    if ways.temperature != 1 and ways.like is not None:
        raise InputError("--temperature and --like: choose one (--spread says how far around)")


def _class_number(label: str, classes: list[str], content: dict[str, object]) -> int:
    trial = content["trial"]
    assert isinstance(trial, dict)
    if not trial["model"].get("conditional"):
        raise InputError(f"--class {label}: the model is not conditional on the class")
    if label not in classes:
        raise InputError(f"--class {label}: no such class, choose from {', '.join(classes)}")
    return classes.index(label)


def _check_seen(
    label: str, number: int, checkpoint: Path, content: dict[str, object], given: str | None
) -> None:
    """Refuse a class that has a name but no training image, if the images can be found."""
    try:
        data = find_data(checkpoint, content, given)
    except InputError:
        if given is not None:
            raise
        return
    if not (data.train.labels == number).any():
        raise InputError(f"--class {label}: no training image has this class")
