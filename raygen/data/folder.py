"""A folder of pictures with one subfolder per class, as torchvision's ImageFolder reads it."""

from collections import Counter
from pathlib import Path

import numpy as np

from raygen.data.decode import decode_all, read_bytes
from raygen.data.labels import Arrays
from raygen.data.listing import PICTURES, list_files, subfolders
from raygen.data.splits import SPLIT_OF, group_by_split, held_out, split_of, split_words
from raygen.errors import InputError

OUTSIDE = "pictures outside of the folders of classes"


def read_folder(path: Path) -> tuple[Arrays, Counter[str]]:
    """Read FOLDER/class/**/picture, or FOLDER/split/class/**/picture; return what is left out, too.

    Raises:
        InputError: a class without pictures, pictures without a class, a folder beside those of
            the splits whose split is unknown, or a picture that cannot be used.
    """
    splits = _split_folders(path)
    if splits is None:
        classes = _classes(path)
        images, labels, left_out = _read_classes(path, classes)
        return Arrays(tuple(classes), images, labels), left_out
    held = held_out(splits)
    classes = _classes(splits["train"])
    if held:
        for name in _classes(splits[held]):
            if name not in classes:
                raise InputError(
                    f"{splits[held] / name}: a class that {splits['train']} does not have"
                )
    *train, left_out = _read_classes(splits["train"], classes)
    test = []
    if held:
        *test, besides = _read_classes(splits[held], classes)
        left_out += besides
    left_out += _beside(path)
    if held == "test" and "validation" in splits:
        pictures = len(list_files(splits["validation"]).files)
        left_out["pictures of validation, as test is there"] += pictures
    return Arrays(tuple(classes), *train, *test), left_out


def _split_folders(path: Path) -> dict[str, Path] | None:
    """The folder of each split, or None if the folders are those of classes.

    A folder `train` that holds pictures and stands beside other classes is a class: CIFAR-100 has
    it. One that holds folders is a split, and then all of its neighbours with pictures must be.
    """
    folders = subfolders(path)
    words = {name: set(split_words(name).values()) for name in folders}
    exact = [name for name in folders if name.lower() in SPLIT_OF]
    filled = [name for name in folders if name in exact or list_files(path / name).files]
    every = all(len(words[name]) == 1 for name in filled)
    splits = every and (exact or any(words[name] == {"train"} for name in filled))
    if not splits and not any(_holds_folders(path / name) for name in exact):
        return None
    named = {name: split_of(name, path / name) for name in filled}
    groups = group_by_split(named, path, "folders")
    for split, names in groups.items():
        if len(names) > 1:
            raise InputError(f"{path}: {' and '.join(names)} are both {split}; leave one")
    return {split: path / names[0] for split, names in groups.items()}


def _classes(path: Path) -> list[str]:
    classes = subfolders(path)
    if not classes:
        holds = "pictures without a class" if list_files(path, deep=False).files else "nothing"
        raise InputError(
            f"{path}: holds {holds}; it needs one subfolder per class "
            f"(for pictures of one kind: a single one, such as {path.name}/all)"
        )
    return classes


def _read_classes(path: Path, classes: list[str]) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    files: list[Path] = []
    labels: list[int] = []
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
    images = decode_all([read_bytes(file) for file in files], [str(file) for file in files])
    return images, np.asarray(labels, np.int64), left_out


def _refuse_splits(folder: Path, pictures: list[Path]) -> None:
    """Refuse a split below a class: its test pictures would be trained on."""
    for picture in pictures:
        for part in picture.relative_to(folder).parts[:-1]:
            if part.lower() in SPLIT_OF:
                raise InputError(
                    f"{picture}: {part!r} names a split below {folder.name!r}, where a class is "
                    f"expected; splits come above classes (is {folder} the data set?)"
                )


def _holds_folders(path: Path) -> bool:
    """Whether a folder holds pictures, and all of them in its folders."""
    return bool(list_files(path).files) and not list_files(path, deep=False).files


def _beside(path: Path) -> Counter[str]:
    """What lies right in a folder of folders and is not read."""
    pictures, left_out = list_files(path, deep=False)
    return left_out + Counter({OUTSIDE: len(pictures)})
