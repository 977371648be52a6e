"""Any image source -> one uint8 tensor, labels and named splits, with a content hash."""

import hashlib
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from raygen.data.class_numbers import Arrays, without_labels
from raygen.data.fit import Fit, How, in_colour
from raygen.data.known import CIFAR10_CLASSES, KNOWN, read_known
from raygen.data.own_source import read_own
from raygen.data.read import hold_out, read_path
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.errors import InputError
from raygen.image_shape import ImageShape
from raygen.plugins import is_reference
from raygen.spec import Spec, imported, key_of

SHAPES_TRAIN, SHAPES_TEST = 4096, 1024
SOURCES = (*KNOWN, "shapes")


def _known_or_own(source: str) -> str:
    if not is_reference(source):
        return key_of(SOURCES)(source)
    if not callable(imported(source)):
        raise ValueError(f"{source}: must be a function that returns images")
    return source


def _no_empty_path(path: str | None) -> str | None:
    if path is not None and not path.strip():
        # No ValueError: pydantic would make it a traceback where --data becomes a DataSpec.
        raise InputError("data.path: must not be empty; give a path, or null for data.source")
    return path


class DataSpec(Spec):
    """Which images to learn.

    `path` (a Parquet file or folder, an .npz, a folder of pictures or with one subfolder per class,
    or hf://USER/NAME) wins over `source`, the name of a known set or `file.py:function` of the
    user's. Images are brought to `size` x `size` and to `channels` (3 or 1): `crop`
    takes the square in the middle, `pad` puts a black border around, `resize` loses the
    proportions. Without a size they must be squares of 16 to 256 already, and they are grey if all
    are. `labels`: auto, none to leave classes out, or the column of Parquet files.

    Names say the splits, as users of Hugging Face and torchvision write them: train or
    training; test, testing, eval or evaluation; val, valid, validation or dev, which is held out
    where there is no test split and else left out. They may be joined or in camel case: testset,
    trainimages, TrainImages, trainA. Where no name does, one image in ten is held out. `limit`
    keeps that many training images, chosen with a fixed seed.

    Raises:
        InputError: `path` is empty.
    """

    source: Annotated[str, AfterValidator(_known_or_own)] = "cifar10"
    path: Annotated[str | None, AfterValidator(_no_empty_path)] = None
    root: str = "data"
    size: Literal[16, 32, 64, 128, 256] | None = None
    channels: Literal[1, 3] | None = None
    fit: How = "crop"
    labels: str = "auto"
    limit: Annotated[int, Field(ge=16)] | None = None


class Split(NamedTuple):
    """Images (n, c, h, w) uint8 and labels (n,) int64."""

    images: Tensor
    labels: Tensor


class ImageData(NamedTuple):
    """A data set in memory."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str
    notes: tuple[str, ...] = ()  # for the user: what of the source is left out

    @property
    def image(self) -> ImageShape:
        """The shape of every image."""
        return ImageShape(*self.train.images.shape[1:3])

    def summary(self) -> dict[str, Any]:
        """Return what a study or a checkpoint records of its data."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "classes": list(self.classes),
            "image": list(self.image.chw),
            "train": len(self.train.labels),
            "test": len(self.test.labels),
        }


def data_at(place: str) -> DataSpec:
    """Return the images of a path, or of a known source of that name."""
    return DataSpec(source=place) if place in SOURCES else DataSpec(path=place)


def read_here(spec: DataSpec) -> ImageData | None:
    """Load the images of a path on this machine or of one's own function; None of others.

    Raises:
        InputError: as `load_data`.
    """
    here = spec.path is not None and "://" not in spec.path
    return load_data(spec) if here or (spec.path is None and is_reference(spec.source)) else None


def load_data(spec: DataSpec) -> ImageData:
    """Load the images that a configuration names.

    Raises:
        InputError: the source is missing, corrupt, empty or of a size that cannot be used, or it is
            not clear which images are for training (the message names the file).
    """
    notes: tuple[str, ...] = ()
    fit = Fit(spec.size, spec.channels, spec.fit)
    if spec.path is not None:
        name, arrays, notes = read_path(spec.path, fit, spec.labels)
    elif spec.source == "shapes":
        train, test = (
            draw_shapes(count, seed, spec.size or 32, spec.channels or 3)
            for count, seed in ((SHAPES_TRAIN, 0), (SHAPES_TEST, 1))
        )
        name, arrays = "shapes", Arrays(SHAPES, *train, *test)
    elif is_reference(spec.source):
        name = spec.source.rpartition(":")[2]
        arrays = read_own(spec.source, fit, spec.labels)
    else:
        name, arrays = spec.source, read_known(spec.source, spec.root, fit)
    if spec.labels == "none":
        arrays = without_labels(arrays)
    arrays = _of_one_shape(arrays, spec.path or spec.source)
    if arrays.test_labels is None:
        if len(arrays.labels) < 2:
            raise InputError(
                f"{spec.path}: a single image, and one is held out for testing: none is left to "
                "train on; at least two are needed"
            )
        arrays = hold_out(arrays)
    assert arrays.test_images is not None
    assert arrays.test_labels is not None
    images, labels = torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels)
    if spec.limit is not None and spec.limit < len(labels):
        kept = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        kept = kept[: spec.limit].sort().values
        images, labels = images[kept], labels[kept]
    train = Split(images, labels)
    test = Split(torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels))
    return ImageData(name, tuple(arrays.classes), train, test, fingerprint(train, test), notes)


def _of_one_shape(arrays: Arrays, place: str) -> Arrays:
    """Make both splits grey or both of colours; refuse splits of different sizes."""
    if arrays.test_images is None:
        return arrays
    sizes = [images.shape[2] for images in (arrays.images, arrays.test_images)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{place}: training images are {sizes[0]}x{sizes[0]}, but those held out "
            f"{sizes[1]}x{sizes[1]}; set data.size, to which all are brought"
        )
    train, test = in_colour([arrays.images, arrays.test_images])
    return arrays._replace(images=train, test_images=test)


def fingerprint(*splits: Split) -> str:
    """SHA-256 of the pixels and labels, first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for images, labels in splits:
        digest.update(str(tuple(images.shape)).encode())
        digest.update(images.contiguous().numpy().data)
        digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()[:16]


__all__ = [
    "CIFAR10_CLASSES", "SOURCES", "DataSpec", "ImageData", "Split", "data_at", "fingerprint",
    "load_data", "read_here",
]  # fmt: skip
