"""Images from a function of the user's, named in `data.source` as `file.py:name`."""

from collections.abc import Mapping, Sized
from typing import Any

import numpy as np
from PIL import Image

from raygen.data.class_numbers import UNLABELLED, Arrays, Numbered, with_classes
from raygen.data.decode import to_bytes
from raygen.data.fit import Fit, Stack
from raygen.data.npz import read_arrays
from raygen.errors import InputError
from raygen.plugins import place_of, resolve
from raygen.progress_bar import ticking


def read_own(reference: str, fit: Fit, labels: str) -> Arrays:
    """Call the function, and read what it returns.

    Either a mapping of arrays, named and shaped as in an .npz (`images`, `labels`, `x_train`, …),
    or a dataset, or a pair of them for training and testing. A dataset is anything with a length
    and items (picture, label), as those of torchvision are; pictures are of PIL, or arrays uint8
    (h, w) or (h, w, c); `classes` holds the names of its classes, if it has them.

    Raises:
        InputError: the function fails, or returns something else.
    """
    try:
        given = resolve(reference)()
    except InputError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise InputError(f"data.source: {reference}: {place_of(error)}") from error
    if isinstance(given, Mapping):
        arrays = {str(name): _array(value, f"{reference}: {name}") for name, value in given.items()}
        return read_arrays(f"data.source: {reference}", arrays, fit, labels)[0]
    splits = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(splits) <= 2:
        raise InputError(
            f"data.source: {reference}: returns {len(splits)} things; one dataset is needed, or a "
            "pair for training and testing, or a mapping of arrays as in an .npz"
        )
    names = "train", "test"
    read = [
        _dataset(split, fit, labels != "none", f"data.source: {reference}: {name}")
        for split, name in zip(splits, names, strict=False)
        if split is not None or name == "train"
    ]
    return with_classes(read[0], read[1] if len(read) > 1 else None)


def _dataset(items: Any, fit: Fit, labelled: bool, where: str) -> Numbered:
    if not isinstance(items, Sized) or not hasattr(items, "__getitem__") or not len(items):
        raise InputError(f"{where}: a {type(items).__name__} without items or without a length")
    unlabelled = False
    stack, labels = Stack(len(items), fit), np.zeros(len(items), np.int64)
    for row in ticking(range(len(items)), "reading pictures", len(items)):
        at = f"{where}[{row}]"
        try:
            item = items[row]  # pyright: ignore[reportIndexIssue]
        except Exception as error:  # whatever the user's dataset raises
            raise InputError(f"{at}: {place_of(error)}") from error
        picture, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        stack.put(row, _picture(picture, at), at)
        if row == 0:
            unlabelled = label is None
        if labelled and unlabelled != (label is None):
            raise InputError(f"{at}: some have a label and some have none; set data.labels=none")
        if labelled and label is not None:
            labels[row] = _number(label, at)
    names = (
        list(map(str, getattr(items, "classes", None) or []))
        if labelled and not unlabelled
        else [UNLABELLED]
    )
    return Numbered(stack.images, labels, names, where)


def _array(value: Any, at: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except Exception as error:  # of rows of different lengths, of a dataset in a list
        raise InputError(f"{at}: a {type(value).__name__} that is no array") from error


def _picture(picture: Any, at: str) -> Image.Image:
    if isinstance(picture, Image.Image):
        return to_bytes(picture, None, at)
    pixels = _array(picture, at)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    ):
        raise InputError(
            f"{at}: {pixels.dtype} {pixels.shape}, but pictures must be of PIL, or uint8 (h, w) or "
            "(h, w, 3)"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _number(label: Any, at: str) -> int:
    number = np.asarray(label)
    if number.size != 1 or number.dtype.kind not in "iu" or int(number.reshape(())) < 0:
        raise InputError(f"{at}: label {label!r}: must be a whole number, 0 or above")
    return int(number.reshape(()))
