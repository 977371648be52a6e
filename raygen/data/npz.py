"""An .npz of uint8 images and labels, with or without splits: Keras, MedMNIST and raygen's own."""

import re
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from raygen.data.class_numbers import HIGHEST, UNLABELLED, Arrays, Numbered, with_classes
from raygen.data.fit import Fit, fit_array
from raygen.data.splits import SPLIT_OF, group_by_split, held_out, split_of, words_of
from raygen.errors import InputError, first_line
from raygen.untrusted import one_line

# What numpy and zipfile raise on files that are none, damaged, encrypted, or of absurd claims.
DAMAGED = (
    OSError, ValueError, TypeError, EOFError, MemoryError, RuntimeError, OverflowError, KeyError,
    SyntaxError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
KINDS = {
    **dict.fromkeys(("x", "image", "images"), "images"),
    **dict.fromkeys(("y", "label", "labels"), "labels"),
}


def read_npz(file: Path, fit: Fit, labels: str) -> tuple[Arrays, Counter[str]]:
    """Read images and labels, if there are any; return what is left out, too.

    Arrays are `images` and `labels`, or `x_train`, `y_train`, `x_test`, `y_test`, `x_val`, `y_val`,
    in either order of the words; images are (n, h, w), (n, h, w, c) or (n, c, h, w).

    Raises:
        InputError: damaged, without its arrays, or of another shape or type.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return read_arrays(file, archive, fit, labels)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{file}: not a readable .npz file ({first_line(error)})") from error


def read_arrays(
    file: Path | str, archive: Mapping[str, np.ndarray], fit: Fit, wanted: str
) -> tuple[Arrays, Counter[str]]:
    """Read arrays by their names, as read_npz does; `file` is what errors call them.

    Raises:
        InputError: as read_npz.
    """
    images, labels = (_by_split(file, list(archive), kind) for kind in ("images", "labels"))
    if wanted == "none":
        labels = {}
    elif wanted != "auto":
        raise InputError(
            f"data.labels: {wanted} names a column of Parquet files, and {file} has arrays; "
            "give auto or none"
        )
    if not images:
        raise InputError(
            f"{file}: has {one_line(', '.join(archive)) or 'nothing'}, but needs images "
            "and labels, or x_train, y_train, x_test and y_test"
        )
    groups = group_by_split({key: split for split, key in images.items()}, file, "arrays")
    pairs = [
        (key, labels.get(split))
        for name in ("train", held_out(groups))
        for split, key in images.items()
        if key in groups.get(name or "", ())
    ]
    splits = [_split(file, archive, fit, *pair) for pair in pairs]
    if len({bool(label_key) for _, label_key in pairs}) > 1:
        image_key = next(key for key, label_key in pairs if label_key is None)
        raise InputError(
            f"{file}: {image_key} without {_expected(image_key)}, but the other split has labels; "
            "set data.labels=none to leave them out"
        )
    used = {key for pair in pairs for key in pair}
    left_out = Counter(f"array {key}" for key in archive if key not in used)
    return with_classes(splits[0], splits[1] if len(splits) > 1 else None), left_out


def _by_split(file: Path | str, keys: list[str], kind: str) -> dict[str | None, str]:
    """The arrays of images, or of labels, by the split that their names say (None: they do not)."""
    by_split: dict[str | None, str] = {}
    for key in keys:
        words = words_of(key)
        kinds = [KINDS[word] for word in words if word in KINDS]
        if kinds != [kind] or any(word not in KINDS and word not in SPLIT_OF for word in words):
            continue
        split = split_of(key, f"{file}: {key}")
        if split in by_split:
            raise InputError(f"{file}: {by_split[split]} and {key} are both {kind} of one split")
        by_split[split] = key
    return by_split


def _expected(image_key: str) -> str:
    """What the labels of an array of images are named."""
    return re.sub("image(?=s?)", "label", image_key.replace("x", "y").replace("X", "Y"))


def _split(
    file: Path | str,
    archive: Mapping[str, np.ndarray],
    fit: Fit,
    image_key: str,
    label_key: str | None,
) -> Numbered:
    images = _images(file, np.asarray(archive[image_key]), image_key, fit)
    if label_key is None:
        return Numbered(images, np.zeros(len(images), np.int64), [UNLABELLED], file)
    labels = np.asarray(archive[label_key]).reshape(-1)
    if len(images) != len(labels):
        raise InputError(f"{file}: {len(images)} images but {len(labels)} labels")
    if labels.dtype.kind == "U":
        names, numbers = np.unique(labels, return_inverse=True)
        return Numbered(images, numbers.astype(np.int64), names.tolist(), file)
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(f"{file}: {label_key} must be whole numbers from 0, or text")
    if labels.max() > HIGHEST:
        row = int((labels > HIGHEST).argmax())
        raise InputError(f"{file}: {label_key}[{row}] is {labels[row]}, above {HIGHEST}")
    return Numbered(images, labels.astype(np.int64), [], file)


def _images(file: Path | str, images: np.ndarray, key: str, fit: Fit) -> np.ndarray:
    if images.dtype != np.uint8:
        raise InputError(f"{file}: {key} is {images.dtype}, but pixels must be uint8")
    shape = images.shape
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            f"{file}: {key} has shape {shape}, not (n, height, width, 3) or (n, height, width)"
        )
    if len(images) == 0:
        raise InputError(f"{file}: {key} is empty")
    return np.ascontiguousarray(fit_array(images, fit, f"{file}: {key}"))
