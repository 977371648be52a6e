"""A folder of pictures, or of one subfolder per class, as torchvision's ImageFolder reads it."""

from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np

from raygen.data.class_numbers import UNLABELLED, Arrays
from raygen.data.decode import decode_all, read_bytes
from raygen.data.fit import Fit
from raygen.data.listing import PICTURES, list_files, subfolders
from raygen.data.splits import (
    SPLIT_OF,
    are_splits,
    group_by_split,
    held_out,
    split_of,
    split_words,
)
from raygen.errors import InputError
from raygen.untrusted import one_line

OUTSIDE = "pictures outside of the folders of classes"
UNSAYING = ("images", "imgs", "data")  # crow/images beside owl/images: classes, and no splits


def read_folder(path: Path, fit: Fit, labels: str) -> tuple[Arrays, Counter[str]]:
    """Read FOLDER/class/**/picture, or FOLDER/split/class/**/picture; return what is left out, too.

    Pictures right in a folder, without subfolders, are of one class; so are all at any depth with
    `labels` none.

    Raises:
        InputError: a class without pictures, a split without the classes of the other, a folder
            beside those of the splits whose split is unknown, or a picture that cannot be used.
    """
    splits = _split_folders(path)
    if splits is None:
        classes = _classes(path, labels)
        images, numbers, left_out = _read_classes(path, classes, fit)
        return Arrays(tuple(classes or [UNLABELLED]), images, numbers), left_out
    held = held_out(splits)
    classes = _classes(splits["train"], labels)
    if held:
        _check_same(splits["train"], classes, splits[held], _classes(splits[held], labels))
    *train, left_out = _read_classes(splits["train"], classes, fit)
    test = []
    if held:
        *test, besides = _read_classes(splits[held], classes, fit)
        left_out += besides
    left_out += _beside(path)
    empty = [name for name in subfolders(path) if not list_files(path / name).files]
    left_out["folders without pictures"] += len(empty)
    if held == "test" and "validation" in splits:
        pictures = len(list_files(splits["validation"]).files)
        left_out["pictures of validation, as test is there"] += pictures
    return Arrays(tuple(classes or [UNLABELLED]), *train, *test), left_out


def _split_folders(path: Path) -> dict[str, Path] | None:
    """The folder of each split, or None if the folders are those of classes.

    A folder `train` that holds pictures and stands beside other classes is a class: CIFAR-100 has
    it. One that holds folders, or that stands beside one of test or validation, is a split, and
    then all of its neighbours with pictures must be.
    """
    folders = subfolders(path)
    words = {name: set(split_words(name).values()) for name in folders}
    exact = [name for name in folders if name.lower() in SPLIT_OF]
    filled = [name for name in folders if words[name] or list_files(path / name).files]
    every = all(len(words[name]) == 1 for name in filled)
    splits = every and (exact or any(words[name] == {"train"} for name in filled))
    nested = any(_holds_folders(path / name) for name in exact)
    if not (splits or nested or are_splits(filled)):
        return None
    named = {name: split_of(name, path / name) for name in filled}
    groups = group_by_split(named, path, "folders")
    for split, names in groups.items():
        if len(names) > 1:
            raise InputError(f"{path}: {' and '.join(names)} are both {split}; leave one")
    return {split: path / names[0] for split, names in groups.items()}


def _check_same(train: Path, classes: list[str], held: Path, others: list[str]) -> None:
    """Refuse a held-out split whose classes are not those that are learnt."""
    if bool(classes) != bool(others):
        without = held if classes else train
        raise InputError(
            f"{without}: pictures without a class, but {train if classes else held} has one "
            "subfolder per class; set data.labels=none to leave the classes out"
        )
    for name in others:
        if name not in classes:
            raise InputError(f"{held / name}: a class that {train} does not have")


def _classes(path: Path, labels: str) -> list[str]:
    """The classes below a folder; [] for pictures without."""
    if labels == "none":
        return []
    classes = subfolders(path)
    if not classes and list_files(path, deep=False).files:
        return []
    if not classes:
        raise InputError(f"{path}: holds nothing; it needs pictures, or one subfolder per class")
    _refuse_level_above(path, classes)
    _refuse_likeness(path, classes)
    return classes


def _read_classes(
    path: Path, classes: list[str], fit: Fit
) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    files: list[Path] = []
    labels: list[int] = []
    if not classes:
        files, left_out = list_files(path)
        if not files:
            raise InputError(f"{path}: no pictures ({', '.join(PICTURES)})")
        labels = [0] * len(files)
    else:
        left_out = _beside(path)
    for label, name in enumerate(classes):
        folder = path / name
        pictures, besides = list_files(folder) if folder.is_dir() else ([], Counter())
        if not pictures:
            raise InputError(f"{folder}: no pictures ({', '.join(PICTURES)})")
        _refuse_splits(folder, pictures)
        files += pictures
        labels += [label] * len(pictures)
        left_out += besides
    images = decode_all(map(read_bytes, files), [str(file) for file in files], fit)
    return images, np.asarray(labels, np.int64), left_out


def _refuse_level_above(path: Path, classes: list[str]) -> None:
    """Refuse a single folder that is a split, or the data set: all would be one class."""
    folder = path / classes[0]
    if len(classes) > 1 or not _holds_folders(folder):
        return
    if split_words(folder.name):
        raise InputError(
            f"{path}: holds {folder.name} alone, which names a split where classes are expected; "
            f"move what is in {folder} up to {path}"
        )
    inside = [name for name in subfolders(folder) if list_files(folder / name).files]
    if len(inside) == 1 and split_words(inside[0]):
        raise InputError(
            f"{path}: holds {folder.name} alone, and that {inside[0]}, which names a split where "
            f"a class is expected (is {folder} the data set?)"
        )
    if not are_splits(inside):  # those are refused below a class, with the picture
        _refuse_likeness(folder, inside)


def _refuse_likeness(path: Path, names: list[str]) -> None:
    """Refuse "classes" that hold the same folders: they look like splits of unknown names."""
    folders = {
        name: {
            inside
            for inside in subfolders(path / name)
            if inside not in UNSAYING and not split_words(inside)
        }
        for name in names
    }
    nested = [name for name in names if folders[name] and _holds_folders(path / name)]
    for name, other in permutations(nested, 2):
        if folders[name] <= folders[other]:
            shared = sorted(folders[name])[:5]
            raise InputError(
                f"{path}: {name} and {other} both hold folders {one_line(', '.join(shared))}, "
                f"as splits do and classes do not; splits are named {', '.join(SPLIT_OF)}"
            )


def _refuse_splits(folder: Path, pictures: list[Path]) -> None:
    """Refuse a split below a class: its test pictures would be trained on."""
    levels: dict[Path, dict[str, Path]] = {}
    for picture in pictures:
        inside = folder
        for part in picture.relative_to(folder).parts[:-1]:
            levels.setdefault(inside, {}).setdefault(part, picture)
            inside /= part
    for level, parts in levels.items():
        splits = [part for part in parts if part.lower() in SPLIT_OF]
        if not splits and are_splits(parts):
            splits = [part for part in parts if split_words(part)]
        if splits:
            raise InputError(
                f"{parts[splits[0]]}: {splits[0]!r} names a split below {level.name!r}, where a "
                f"class is expected; splits come above classes (is {level} the data set?)"
            )


def _holds_folders(path: Path) -> bool:
    """Whether a folder holds pictures, and all of them in its folders."""
    pictures = list_files(path).files
    return bool(pictures) and all(picture.parent != path for picture in pictures)


def _beside(path: Path) -> Counter[str]:
    """What lies right in a folder of folders and is not read."""
    pictures, left_out = list_files(path, deep=False)
    return left_out + Counter({OUTSIDE: len(pictures)})
