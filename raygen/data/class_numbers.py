"""Class numbers as the files have them -> positions among the classes that there are."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from raygen.data.fit import in_colour
from raygen.errors import InputError
from raygen.untrusted import one_line

HIGHEST = 2**31 - 1


UNLABELLED = "all"  # the class of pictures without one


class Arrays(NamedTuple):
    """Images uint8 (n, c, h, w), labels int64 (n,); the test split may be missing."""

    classes: Iterable[str]
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray | None = None
    test_labels: np.ndarray | None = None


def without_labels(arrays: Arrays) -> Arrays:
    """The same images as those of a single class."""
    test = None if arrays.test_labels is None else np.zeros_like(arrays.test_labels)
    return arrays._replace(
        classes=(UNLABELLED,), labels=np.zeros_like(arrays.labels), test_labels=test
    )


class Numbered(NamedTuple):
    """Images of one split with numbers as labels, and the names of 0, 1, …, if they have names."""

    images: np.ndarray
    labels: np.ndarray
    names: list[str]
    where: Path | str


def with_classes(train: Numbered, test: Numbered | None) -> Arrays:
    """Say which classes there are, and label every image by the position of its class.

    The classes are those that have names, in the order of the training images' names; splits are
    matched by name. Without names they are the numbers of training images: a gap is no class.

    Raises:
        InputError: a label has no name, or a name that the training images do not have, or, without
            names, is that of no training image.
    """
    splits = [train, test] if test is not None else [train]
    names = train.names or (test.names if test is not None else [])
    if names:
        labels = [_by_name(split, names) for split in splits]
        classes = names
    else:
        occurring = np.unique(train.labels)
        if test is not None:
            _refuse_untrained(test, occurring)
        labels = [np.searchsorted(occurring, split.labels) for split in splits]
        classes = [str(number) for number in occurring]
    parts = [
        part
        for split, numbers in zip(splits, labels, strict=True)
        for part in (split.images, numbers.astype(np.int64))
    ]
    return Arrays(tuple(classes), *parts)


def joined(parts: list[Numbered]) -> Numbered:
    """Join the files of one split; where they name classes, by name.

    Raises:
        InputError: as with_classes.
    """
    names = next((part.names for part in parts if part.names), [])
    labels = [_by_name(part, names) if names else part.labels for part in parts]
    images = np.concatenate(in_colour([part.images for part in parts]))
    return Numbered(images, np.concatenate(labels), names, parts[0].where)


def _refuse_untrained(test: Numbered, trained: np.ndarray) -> None:
    """Refuse a class that only the test split has, as a folder is refused for it."""
    strange = np.setdiff1d(test.labels, trained)
    if len(strange):
        row = int((test.labels == strange[0]).argmax())
        raise InputError(
            f"{test.where}: test image {row} is of class {strange[0]}, which no training image has "
            f"(they have {_some([str(number) for number in trained])})"
        )


def _by_name(split: Numbered, names: list[str]) -> np.ndarray:
    """Positions in `names`, by name where the split has names, else by number."""
    strange = [name for name in split.names if name not in names]
    if strange:
        raise InputError(
            f"{split.where}: has {_some(strange)} among its class names, but the training images "
            f"have {_some(names)}"
        )
    count = len(split.names or names)
    if split.labels.max() >= count:
        row = int((split.labels >= count).argmax())
        raise InputError(
            f"{split.where} row {row}: label {split.labels[row]}, but there are {count} class names"
        )
    positions = [names.index(name) for name in split.names] or range(count)
    return np.asarray(positions, np.int64)[split.labels]


def _some(names: list[str], most: int = 10) -> str:
    """The first few of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return one_line(", ".join(names[:most])) + more
