"""An .npz of uint8 images and labels, with or without splits: Keras, MedMNIST and raygen's own."""

import re
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from raygen.data.class_numbers import HIGHEST, Arrays, Numbered, with_classes
from raygen.data.decode import SIZE
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


def read_npz(file: Path) -> tuple[Arrays, Counter[str]]:
    """Read images and labels; return what is left out, too.

    Arrays are `images` and `labels`, or `x_train`, `y_train`, `x_test`, `y_test`, `x_val`, `y_val`,
    in either order of the words.

    Raises:
        InputError: damaged, without its arrays, or of another shape or type.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return _read(file, archive)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"{file}: not a readable .npz file ({first_line(error)})") from error


def _read(file: Path, archive: Any) -> tuple[Arrays, Counter[str]]:
    images, labels = (_by_split(file, archive.files, kind) for kind in ("images", "labels"))
    if not images:
        raise InputError(
            f"{file}: has {one_line(', '.join(archive.files)) or 'nothing'}, but needs images "
            "and labels, or x_train, y_train, x_test and y_test"
        )
    groups = group_by_split({key: split for split, key in images.items()}, file, "arrays")
    pairs = [
        (key, labels.get(split))
        for name in ("train", held_out(groups))
        for split, key in images.items()
        if key in groups.get(name or "", ())
    ]
    splits = [_split(file, archive, *pair) for pair in pairs]
    used = {key for pair in pairs for key in pair}
    left_out = Counter(f"array {key}" for key in archive.files if key not in used)
    return with_classes(splits[0], splits[1] if len(splits) > 1 else None), left_out


def _by_split(file: Path, keys: list[str], kind: str) -> dict[str | None, str]:
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


def _split(file: Path, archive: Any, image_key: str, label_key: str | None) -> Numbered:
    if label_key is None:
        expected = re.sub("image(?=s?)", "label", image_key.replace("x", "y").replace("X", "Y"))
        raise InputError(f"{file}: {image_key} without {expected}: labels are needed")
    images, labels = np.asarray(archive[image_key]), np.asarray(archive[label_key]).reshape(-1)
    shape = images.shape
    if images.dtype != np.uint8:
        raise InputError(f"{file}: {image_key} is {images.dtype}, but pixels must be uint8")
    if images.ndim == 4 and shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1:] != (3, SIZE, SIZE):
        raise InputError(f"{file}: {image_key} has shape {shape}, not (n, {SIZE}, {SIZE}, 3)")
    if len(images) == 0:
        raise InputError(f"{file}: {image_key} is empty")
    if len(images) != len(labels):
        raise InputError(f"{file}: {len(images)} images but {len(labels)} labels")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(f"{file}: {label_key} must be whole numbers from 0")
    if labels.max() > HIGHEST:
        row = int((labels > HIGHEST).argmax())
        raise InputError(f"{file}: {label_key}[{row}] is {labels[row]}, above {HIGHEST}")
    return Numbered(np.ascontiguousarray(images), labels.astype(np.int64), [], file)
