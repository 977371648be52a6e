"""Readers: CIFAR-10 archive, Parquet, .npz, and a folder with one subfolder per class.

Every error names the file, and the row where there is one.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from raygen.cache import cached
from raygen.errors import InputError
from raygen.ticks import ticking

SIZE = 32
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")
HELD_OUT = 10  # without a test split, one image in ten becomes one


class Arrays(NamedTuple):
    """Images uint8 (n, 3, 32, 32), labels int64 (n,); the test split may be missing."""

    classes: Iterable[str]
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray | None = None
    test_labels: np.ndarray | None = None


def read_cifar10(root: str) -> Arrays:
    """Download CIFAR-10 to `root` if it is not there (MD5 checked), and read it."""
    from torchvision.datasets import CIFAR10

    try:
        train, test = (CIFAR10(root, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{root}/cifar-10-python.tar.gz: CIFAR-10 is not there and could not be downloaded "
            f"({error}); put the archive there, or set data.path to a copy in another format"
        ) from error
    parts = [
        (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, np.int64))
        for part in (train, test)
    ]
    return Arrays(CIFAR10_CLASSES, *parts[0], *parts[1])


def read_path(path: str) -> tuple[str, Arrays]:
    """Read whatever lies at `path`; return its name (the last part of the path) and its arrays."""
    place = Path(path).expanduser()
    if not place.exists():
        raise InputError(f"data.path: {path} not found")
    name = place.resolve().stem if place.is_file() else place.resolve().name
    if place.suffix == ".npz":
        arrays = _read_npz(place)
    elif place.suffix == ".parquet" or (place.is_dir() and any(place.rglob("*.parquet"))):
        arrays = _read_parquet(place)
    elif place.is_dir():
        arrays = _read_folder(place)
    else:
        raise InputError(
            f"data.path: {path} is none of a .parquet file, an .npz file, or a folder of images"
        )
    return name, arrays._replace(classes=tuple(arrays.classes))


def hold_out(arrays: Arrays) -> Arrays:
    """Split off every tenth image of a fixed shuffle as the test split."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(arrays.labels))
    count = max(1, len(order) // HELD_OUT)
    test, train = np.sort(order[:count]), np.sort(order[count:])
    images, labels = arrays.images, arrays.labels
    return Arrays(arrays.classes, images[train], labels[train], images[test], labels[test])


def decode(content: bytes, where: str) -> np.ndarray:
    """Decode one picture to uint8 (3, 32, 32).

    Raises:
        InputError: not a picture, or not 32x32.
    """
    try:
        picture = Image.open(io.BytesIO(content)).convert("RGB")
    except Exception as error:  # Pillow raises anything on damaged files, or on a claim of 40 GB
        raise InputError(f"{where}: not a readable picture") from error
    if picture.size != (SIZE, SIZE):
        width, height = picture.size
        raise InputError(f"{where}: {width}x{height}, but images must be {SIZE}x{SIZE}")
    return np.asarray(picture).transpose(2, 0, 1)


def _decode_all(contents: Sequence[bytes], places: Sequence[str]) -> np.ndarray:
    # One thread: with two, decoding 10,000 CIFAR-sized JPEGs took 1.6 s instead of 1.3 s.
    images = np.empty((len(contents), 3, SIZE, SIZE), np.uint8)
    pictures = enumerate(zip(contents, places, strict=True))
    for row, (content, where) in ticking(pictures, "decoding pictures", len(contents)):
        images[row] = decode(content, where)
    return images


def _read_parquet(path: Path) -> Arrays:
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    test_files = [file for file in files if file.stem.startswith(("test", "valid"))]
    train_files = [file for file in files if file not in test_files]
    if not train_files:
        raise InputError(f"{path}: no training Parquet file (only {test_files[0].name})")
    parts = [_read_parquet_files(part) for part in (train_files, test_files) if part]
    count = 1 + max(int(labels.max()) for _, _, labels in parts)
    classes = parts[0][0] or [str(k) for k in range(count)]
    return Arrays(classes, *(array for _, *arrays in parts for array in arrays))


def _read_parquet_files(files: list[Path]) -> tuple[list[str], np.ndarray, np.ndarray]:
    images, labels, names = [], [], []
    for file in files:
        table, image_column, label_column = _open_parquet(file)
        values = table[label_column].to_pylist()
        if None in values or any(not isinstance(v, int) or v < 0 for v in values):
            row = next(i for i, v in enumerate(values) if not isinstance(v, int) or v < 0)
            raise InputError(f"{file} row {row}: label {values[row]!r} is not a class number")
        names = names or _class_names(table.schema.metadata, label_column)
        if names and max(values) >= len(names):
            row = next(i for i, v in enumerate(values) if v >= len(names))
            raise InputError(
                f"{file} row {row}: label {values[row]}, but there are {len(names)} class names"
            )
        images.append(_decode_column(file, table[image_column]))
        labels.append(np.asarray(values, np.int64))
    return names, np.concatenate(images), np.concatenate(labels)


def _decode_column(file: Path, column: Any) -> np.ndarray:
    """Decode a column once per content: 60,000 JPEGs take 8 s, reading them back 0.1 s."""
    contents = [cell or b"" for cell in column.combine_chunks().field("bytes").to_pylist()]
    digest = hashlib.sha256()
    for content in contents:
        digest.update(len(content).to_bytes(8, "little") + content)
    places = [f"{file} row {row}" for row in range(len(contents))]
    pixels = cached(
        f"pixels-{digest.hexdigest()[:16]}",
        lambda: {"pixels": torch.from_numpy(_decode_all(contents, places))},
    )
    return pixels["pixels"].numpy()


def _open_parquet(file: Path) -> tuple[Any, str, str]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({_first_line(error)})") from error
    image = next((name for name in IMAGE_COLUMNS if name in table.column_names), None)
    label = next((name for name in LABEL_COLUMNS if name in table.column_names), None)
    kind = table.schema.field(image).type if image else None
    inside = kind.names if kind and pyarrow.types.is_struct(kind) else []
    if image is None or "bytes" not in inside:
        raise InputError(f"{file}: no image column ({' or '.join(IMAGE_COLUMNS)}: bytes, path)")
    if label is None:
        raise InputError(f"{file}: no label column ({' or '.join(LABEL_COLUMNS)})")
    if table.num_rows == 0:
        raise InputError(f"{file}: no rows")
    return table, image, label


def _class_names(metadata: dict[bytes, bytes] | None, label_column: str) -> list[str]:
    """Class names as the Hugging Face hub writes them into the schema, [] if it did not."""
    info = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    feature = info.get("info", {}).get("features", {}).get(label_column, {})
    return list(feature.get("names", []))


def _read_npz(file: Path) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {key: np.asarray(archive[key]) for key in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{file}: not a readable .npz file ({_first_line(error)})") from error
    pairs = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
    if "images" in arrays:
        pairs = {"train": ("images", "labels")}
    elif "x_train" not in arrays:
        raise InputError(
            f"{file}: has {', '.join(arrays) or 'nothing'}, but needs images and labels, "
            "or x_train, y_train, x_test and y_test"
        )
    parts = [_npz_split(file, arrays, *names) for names in pairs.values() if names[0] in arrays]
    count = 1 + max(int(labels.max()) for _, labels in parts)
    classes = [str(k) for k in range(count)]
    return Arrays(classes, *(array for part in parts for array in part))


def _npz_split(
    file: Path, arrays: dict[str, np.ndarray], image_key: str, label_key: str
) -> tuple[np.ndarray, np.ndarray]:
    images = arrays[image_key]
    if label_key not in arrays:
        raise InputError(f"{file}: {image_key} without {label_key}: labels are needed")
    labels = arrays[label_key].reshape(-1)
    if images.dtype != np.uint8:
        raise InputError(f"{file}: {image_key} is {images.dtype}, but pixels must be uint8")
    if images.ndim == 4 and images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1:] != (3, SIZE, SIZE):
        raise InputError(
            f"{file}: {image_key} has shape {arrays[image_key].shape}, not (n, 32, 32, 3)"
        )
    if len(images) == 0:
        raise InputError(f"{file}: {image_key} is empty")
    if len(images) != len(labels):
        raise InputError(f"{file}: {len(images)} images but {len(labels)} labels")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(f"{file}: {label_key} must be whole numbers from 0")
    return np.ascontiguousarray(images), labels.astype(np.int64)


def _read_folder(path: Path) -> Arrays:
    if (path / "train").is_dir():
        classes = _class_folders(path / "train")
        train = _read_classes(path / "train", classes)
        tests = [path / name for name in ("test", "val", "valid") if (path / name).is_dir()]
        for name in _class_folders(tests[0]) if tests else []:
            if name not in classes:
                raise InputError(f"{tests[0] / name}: a class that {path / 'train'} does not have")
        return Arrays(classes, *train, *(_read_classes(tests[0], classes) if tests else ()))
    classes = _class_folders(path)
    return Arrays(classes, *_read_classes(path, classes))


def _class_folders(path: Path) -> list[str]:
    classes = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        loose = any(p.suffix.lower() in SUFFIXES for p in path.iterdir())
        found = "pictures without a class" if loose else "nothing"
        raise InputError(f"{path}: holds {found}; it needs one subfolder per class")
    return classes


def _read_classes(path: Path, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (path / name).glob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"{path / name}: no pictures ({', '.join(sorted(SUFFIXES))})")
        files += found
        labels += [label] * len(found)
    contents = [file.read_bytes() for file in files]
    return _decode_all(contents, [str(file) for file in files]), np.asarray(labels, np.int64)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
