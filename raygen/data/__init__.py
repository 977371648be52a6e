"""Any image source -> one uint8 tensor, labels and named splits, with a content hash."""

import hashlib
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from raygen.data.class_numbers import Arrays
from raygen.data.read import CIFAR10_CLASSES, hold_out, read_cifar10, read_path
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.errors import InputError
from raygen.spec import Spec

SHAPES_TRAIN, SHAPES_TEST = 4096, 1024


def _no_empty_path(path: str | None) -> str | None:
    if path is not None and not path.strip():
        # No ValueError: pydantic would make it a traceback where --data becomes a DataSpec.
        raise InputError("data.path: must not be empty; give a path, or null for data.source")
    return path


class DataSpec(Spec):
    """Which images to learn.

    `path` (a Parquet file or folder, an .npz, a folder with one subfolder per class) wins over
    `source`. Names say the splits, as users of Hugging Face and torchvision write them: train or
    training; test, testing, eval or evaluation; val, valid, validation or dev, which is held out
    where there is no test split and else left out. They may be joined or in camel case: testset,
    trainimages, TrainImages, trainA. Where no name does, one image in ten is held out. `limit`
    keeps that many training images, chosen with a fixed seed.

    Raises:
        InputError: `path` is empty.
    """

    source: Literal["cifar10", "shapes"] = "cifar10"
    path: Annotated[str | None, AfterValidator(_no_empty_path)] = None
    root: str = "data"
    limit: Annotated[int, Field(ge=16)] | None = None


class Split(NamedTuple):
    """Images (n, 3, 32, 32) uint8 and labels (n,) int64."""

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

    def summary(self) -> dict[str, Any]:
        """Return what a study or a checkpoint records of its data."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "classes": list(self.classes),
            "train": len(self.train.labels),
            "test": len(self.test.labels),
        }


def load_data(spec: DataSpec) -> ImageData:
    """Load the images that a configuration names.

    Raises:
        InputError: the source is missing, corrupt, empty, unlabelled or not 32x32, or it is not
            clear which images are for training (the message names the file).
    """
    notes: tuple[str, ...] = ()
    if spec.path is not None:
        name, arrays, notes = read_path(spec.path)
    elif spec.source == "shapes":
        train, test = draw_shapes(SHAPES_TRAIN, seed=0), draw_shapes(SHAPES_TEST, seed=1)
        name, arrays = "shapes", Arrays(SHAPES, *train, *test)
    else:
        name, arrays = "cifar10", read_cifar10(spec.root)
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


def fingerprint(*splits: Split) -> str:
    """SHA-256 of the pixels and labels, first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for images, labels in splits:
        digest.update(str(tuple(images.shape)).encode())
        digest.update(images.contiguous().numpy().data)
        digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()[:16]


__all__ = ["CIFAR10_CLASSES", "DataSpec", "ImageData", "Split", "fingerprint", "load_data"]
