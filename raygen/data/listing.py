"""The files below a folder, and what is left out of them and why.

One listing for what is learnt from, evaluated and audited, so that all count the same files.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from raygen.errors import InputError
from raygen.untrusted import one_line

# Those of torchvision's ImageFolder, in either case.
PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
HIDDEN = "hidden"
MAC = "of __MACOSX"
DANGLING = "links to nothing"
CIRCLE = "links in a circle"
SPECIAL = "neither files nor folders"


class Listing(NamedTuple):
    """Files in the order of their names, and how many others there are by the reason."""

    files: list[Path]
    left_out: Counter[str]


def list_files(root: Path, suffixes: Sequence[str] = PICTURES, deep: bool = True) -> Listing:
    """Files with one of the suffixes (lower case; either case counts) at any depth of a folder.

    Not `deep`: of those right in the folder.

    Links are followed as by torchvision, but not in a circle. Left out are hidden files and folders
    (so AppleDouble's `._x.png`), `__MACOSX`, links to nothing, pipes and devices, and all else.

    Raises:
        InputError: a folder cannot be read.
    """
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    folders = [(root, frozenset({_identity(root)}))]
    while folders:
        folder, above = folders.pop()
        for entry in _entries(folder):
            path, suffix = folder / entry.name, Path(entry.name).suffix.lower()
            match _kind(entry):
                case "folder" if not deep:
                    continue
                case "folder":
                    identity = _identity(path)
                    if identity in above:
                        left_out[CIRCLE] += 1
                    else:
                        folders.append((path, above | {identity}))
                case "file" if suffix in suffixes:
                    files.append(path)
                case "file":
                    left_out[suffix or "without a suffix"] += 1
                case reason:
                    left_out[reason] += 1
    return Listing(sorted(files), left_out)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders right below one, in order, without hidden ones and `__MACOSX`.

    Raises:
        InputError: the folder cannot be read.
    """
    return [entry.name for entry in _entries(folder) if _kind(entry) == "folder"]


def left_out_note(place: Path | str, left_out: Counter[str]) -> tuple[str, ...]:
    """One line on what is left out, most of it first, or nothing."""
    parts = [f"{count:,} {reason}" for reason, count in left_out.most_common() if count]
    return (one_line(f"{place}: left out {', '.join(parts)}"),) if parts else ()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error


def _kind(entry: os.DirEntry[str]) -> str:
    """A folder, a file, or why it is left out."""
    if entry.name.startswith("."):
        return HIDDEN
    try:
        if entry.is_dir():
            return MAC if entry.name == "__MACOSX" else "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself
        return CIRCLE
    return DANGLING if entry.is_symlink() else SPECIAL


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error
    return status.st_dev, status.st_ino
