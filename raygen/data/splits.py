"""Which split of a data set a name stands for; a name that says nothing is never taken for one."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from raygen.errors import InputError

Item = TypeVar("Item")

# The words by which Hugging Face's datasets and torchvision name the splits.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
# What is written right behind such a word: testset, trainimages, trainval.
ENDINGS = ("set", "images", "imgs", "data", "labels", *SPLIT_OF)
JOINED = re.compile(f"({'|'.join(SPLIT_OF)})({'|'.join(ENDINGS)})")
CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def split_words(name: str) -> dict[str, str]:
    """The words of a name that stand for a split, each with the split.

    `cifar10-test`, `train-00000-of-00002`, `Val.2017`, `TrainImages`, `trainA` and `testset` have
    one, `latest` and `testbed` none.
    """
    return {word: SPLIT_OF[word] for word in words_of(name) if word in SPLIT_OF}


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case.

    Words end at whatever is no letter, at a capital inside (trainA), and where a word for a split
    ends and one of the endings follows (testset).
    """
    words: list[str] = []
    for run in re.findall(r"[^\W\d_]+", name):
        # `TESTset` is in no camel case: whole first.
        whole = JOINED.fullmatch(run.lower())
        for part in [run] if whole else CAMEL_CASE.split(run):
            joined = JOINED.fullmatch(part.lower())
            words += joined.groups() if joined else [part.lower()]
    return words


def are_splits(names: Iterable[str]) -> bool:
    """Whether one of the names stands for training, and another for what is held out from it."""
    splits = {name: words for name in names if (words := set(split_words(name).values()))}
    return any(
        "train" in training and held - {"train"} and name != other
        for name, training in splits.items()
        for other, held in splits.items()
    )


def split_of(name: str, where: Path | str) -> str | None:
    """The split that a name stands for, or None.

    Raises:
        InputError: it stands for two.
    """
    words = split_words(name)
    if len(set(words.values())) > 1:
        raise InputError(f"{where}: names two splits, {' and '.join(words)}; rename it to one")
    return next(iter(words.values()), None)


def group_by_split(
    splits: Mapping[Item, str | None], where: Path | str, kind: str
) -> dict[str, list]:
    """Sort items by the split that each one's name stands for: all are for training if none does.

    Raises:
        InputError: some names stand for a split and others do not, or none is for training.
    """
    unnamed = [item for item, split in splits.items() if split is None]
    if len(unnamed) == len(splits):
        return {"train": unnamed}
    if unnamed:
        raise InputError(
            f"{where}: {unnamed[0]} does not say of which split it is, as other {kind} do; "
            f"known are {', '.join(SPLIT_OF)}"
        )
    groups: dict[str, list[Item]] = {}
    for item, split in splits.items():
        groups.setdefault(split or "", []).append(item)
    if "train" not in groups:
        raise InputError(
            f"{where}: no training {kind} (only {', '.join(map(str, splits))}); "
            f"their names have {' or '.join(SPLITS['train'])}"
        )
    return groups


def held_out(splits: Mapping[str, object]) -> str | None:
    """The split to hold out: test, or validation where there is no test, or None."""
    return next((split for split in ("test", "validation") if split in splits), None)
