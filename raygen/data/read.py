"""Whatever lies at a path. Every error names the file.

What is read: Parquet files (raygen.data.parquet), an .npz (raygen.data.npz), a folder of pictures
(raygen.data.folder). What lies on the hub is brought here first (raygen.data.hub).
"""

from pathlib import Path

import numpy as np

from raygen.data.class_numbers import Arrays
from raygen.data.fit import Fit
from raygen.data.folder import read_folder
from raygen.data.hub import HUB, fetch_dataset
from raygen.data.listing import left_out_note, list_files
from raygen.data.npz import read_npz
from raygen.data.parquet import read_parquet
from raygen.errors import InputError

HELD_OUT = 10  # without a test split, one image in ten becomes one


def read_path(path: str, fit: Fit, labels: str) -> tuple[str, Arrays, tuple[str, ...]]:
    """Read whatever lies at `path`: its name (the last part of the path), arrays, and notes.

    A note is one line on what is left out, or on how names were understood.

    Raises:
        InputError: nothing there, or as the reader of its kind.
    """
    place = fetch_dataset(path) if path.startswith(HUB) else Path(path).expanduser()
    if not place.exists():
        raise InputError(f"data.path: {path} not found")
    name = place.resolve().stem if place.is_file() else place.resolve().name
    if path.startswith(HUB):
        name = path.removeprefix(HUB).partition("@")[0].rpartition("/")[2]
    suffix = place.suffix.lower() if place.is_file() else ""
    notes: tuple[str, ...] = ()
    if suffix == ".npz":
        arrays, left_out = read_npz(place, fit, labels)
    elif suffix == ".parquet" or (place.is_dir() and list_files(place, (".parquet",)).files):
        arrays, left_out, notes = read_parquet(place, fit, labels)
    elif place.is_dir():
        if labels not in ("auto", "none"):
            raise InputError(
                f"data.labels: {labels} names a column of Parquet files, and {path} is a folder of "
                "pictures; give auto or none"
            )
        arrays, left_out = read_folder(place, fit, labels)
    else:
        raise InputError(
            f"data.path: {path} is none of a .parquet file, an .npz file, or a folder of images"
        )
    return name, arrays, (*notes, *left_out_note(path, left_out))


def hold_out(arrays: Arrays) -> Arrays:
    """Split off every tenth image of a fixed shuffle as the test split; two images are needed."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(arrays.labels))
    count = max(1, len(order) // HELD_OUT)
    test, train = np.sort(order[:count]), np.sort(order[count:])
    images, labels = arrays.images, arrays.labels
    return Arrays(arrays.classes, images[train], labels[train], images[test], labels[test])
