"""Known data sets by name, through torchvision: downloaded where they are missing, and checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raygen.data.class_numbers import UNLABELLED, Arrays
from raygen.data.decode import decode_all, read_bytes
from raygen.data.fit import Fit, fit_array
from raygen.errors import InputError

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


class Split(NamedTuple):
    """One split as torchvision holds it: images (n, c, h, w) uint8, labels (n,), class names."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


class Known(NamedTuple):
    """A data set: what it is called, how a split is read, and what it is brought to."""

    title: str
    file: str  # that torchvision looks for below the root
    read: Callable[[str, bool, Fit], Split]  # root, whether to train on it, fit
    fit: Fit = Fit()


def read_known(name: str, root: str, fit: Fit) -> Arrays:
    """Download a data set to `root` if it is not there (checksums are compared), and read it.

    Raises:
        InputError: it is not there and cannot be downloaded, or its images need a size.
    """
    entry = KNOWN[name]
    if fit.size is None and entry.fit.size is not None:
        fit = entry.fit._replace(channels=fit.channels)
    try:
        train, test = (entry.read(root, part, fit) for part in (True, False))
    except (OSError, RuntimeError, ImportError) as error:
        raise InputError(
            f"{root}/{entry.file}: {entry.title} is not there and could not be downloaded "
            f"({error}); put the archive there, or set data.path to a copy in another format"
        ) from error
    splits = [(fit_array(part.images, fit, name), part.labels) for part in (train, test)]
    return Arrays(train.classes, *splits[0], *splits[1])


def _cifar(kind: str) -> Callable[[str, bool, Fit], Split]:
    def read(root: str, train: bool, fit: Fit) -> Split:
        part = _torchvision(kind)(root, train=train, download=True)
        images = np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))
        classes = CIFAR10_CLASSES if kind == "CIFAR10" else tuple(part.classes)
        return Split(images, np.asarray(part.targets, np.int64), classes)

    return read


def _mnist(kind: str) -> Callable[[str, bool, Fit], Split]:
    def read(root: str, train: bool, fit: Fit) -> Split:
        part = _torchvision(kind)(root, train=train, download=True)
        classes = tuple(name.partition(" - ")[0] for name in part.classes)  # "7 - seven"
        return Split(part.data.numpy()[:, None], part.targets.numpy().astype(np.int64), classes)

    return read


def _svhn(root: str, train: bool, fit: Fit) -> Split:
    part = _torchvision("SVHN")(root, split="train" if train else "test", download=True)
    return Split(part.data, part.labels.astype(np.int64), tuple("0123456789"))


def _stl10(root: str, train: bool, fit: Fit) -> Split:
    part = _torchvision("STL10")(root, split="train" if train else "test", download=True)
    return Split(part.data, part.labels.astype(np.int64), tuple(part.classes))


def _celeba(root: str, train: bool, fit: Fit) -> Split:
    part = _torchvision("CelebA")(root, split="train" if train else "test", download=True)
    files = [Path(root) / "celeba/img_align_celeba" / name for name in part.filename]
    images = decode_all(map(read_bytes, files), [str(file) for file in files], fit)
    return Split(images, np.zeros(len(images), np.int64), (UNLABELLED,))


def _torchvision(kind: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, kind)


KNOWN = {
    "cifar10": Known("CIFAR-10", "cifar-10-python.tar.gz", _cifar("CIFAR10")),
    "cifar100": Known("CIFAR-100", "cifar-100-python.tar.gz", _cifar("CIFAR100")),
    "mnist": Known("MNIST", "MNIST/raw", _mnist("MNIST"), Fit(32, None, "pad")),
    "fashion_mnist": Known(
        "Fashion-MNIST", "FashionMNIST/raw", _mnist("FashionMNIST"), Fit(32, None, "pad")
    ),
    "svhn": Known("SVHN", "train_32x32.mat", _svhn),
    "stl10": Known("STL-10", "stl10_binary.tar.gz", _stl10, Fit(64, None, "resize")),
    "celeba": Known("CelebA", "celeba/img_align_celeba", _celeba, Fit(64, None, "crop")),
}
