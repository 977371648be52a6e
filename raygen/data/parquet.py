"""Parquet files as the Hugging Face hub has them, with pictures or bare pixels in a column."""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from raygen.cache import cached
from raygen.data.class_numbers import (
    HIGHEST,
    UNLABELLED,
    Arrays,
    Numbered,
    joined,
    with_classes,
)
from raygen.data.decode import decode_all
from raygen.data.fit import Fit, fit_array
from raygen.data.listing import PICTURES, list_files
from raygen.data.splits import group_by_split, held_out, split_of, split_words, words_of
from raygen.document import shown
from raygen.errors import InputError, first_line
from raygen.untrusted import one_line

IMAGE_COLUMNS = ("img", "image", "images")
LABEL_COLUMNS = ("label", "labels", "fine_label")
DECODING = 3  # part of every cache key: raise it when the same bytes give other pixels

PART = re.compile(
    r"(?P<part>\d{1,9})-of-(?P<parts>\d{1,9})(?!\d)(?=[^/]*$)"
)  # train-00000-of-00002


def read_parquet(path: Path, fit: Fit, labels: str) -> tuple[Arrays, Counter[str], tuple[str, ...]]:
    """Read a file, or all files below a folder; return what is left out, and notes, too.

    The name of a file says its split, or else that of the nearest folder that does. Files none of
    which says one are the parts of one training set. `labels` is the column of the classes, or
    auto or none.

    Raises:
        InputError: a file's split is unknown, several configurations, a damaged file, a table
            without its columns, a label that is no class, or a picture that cannot be used.
    """
    if path.is_file():
        names, left_out = [path.name], Counter[str]()
        files = {path.name: path}
    else:
        listing = list_files(path, (".parquet",))
        left_out = _besides(listing.left_out)
        files = {file.relative_to(path).as_posix(): file for file in listing.files}
        names = list(files)
    splits = {name: _split(name, path) for name in names}
    groups = group_by_split(splits, path, "Parquet files")
    notes = ()
    if set(splits.values()) == {None} and len(names) > 1:
        some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        notes = (
            one_line(
                f"{path}: {len(names)} Parquet files are one training set, as none names a split: "
                f"{some}"
            ),
        )
    if path.is_dir():
        _refuse_missing_parts(path, names)
    if set(splits.values()) != {None}:
        _refuse_configurations(path, names)
    for group in groups.values():
        _refuse_partial(path, group)
    held = held_out(groups)
    if held == "test" and "validation" in groups:
        left_out["Parquet files of validation, as test is there"] += len(groups["validation"])
    used = [groups["train"], groups[held] if held else []]
    parts = _numbered([[_read_file(files[name], fit, labels) for name in part] for part in used])
    train, test = (joined(part) if part else None for part in parts)
    assert train is not None
    return with_classes(train, test), left_out, notes


def _besides(left_out: Counter[str]) -> Counter[str]:
    """Pictures are named as such: they are not read where there are Parquet files."""
    pictures = sum(count for suffix, count in left_out.items() if suffix in PICTURES)
    others = Counter({key: n for key, n in left_out.items() if key not in PICTURES})
    return others + Counter({"pictures beside Parquet files": pictures})


def _split(name: str, root: Path) -> str | None:
    stem, *folders = Path(name).with_suffix("").parts[::-1]
    for part in (stem, *folders):
        split = split_of(part, root / name)
        if split is not None:
            return split
    return None


def _refuse_configurations(path: Path, names: list[str]) -> None:
    """Refuse files of several folders, whatever split their last folders name."""
    folders = {
        "/".join(part for part in Path(name).parts[:-1] if not split_words(part)) for name in names
    }
    if len(folders) > 1:
        named = ", ".join(sorted(folder or "." for folder in folders))
        raise InputError(f"{path}: holds several data sets: {named}; give the path of one of them")


def _refuse_partial(path: Path, names: list[str]) -> None:
    """Refuse a split beside its beginning, which the hub calls partial-train: images twice."""
    partial = [name for name in names if "partial" in words_of(name)]
    whole = [name for name in names if name not in partial]
    if partial and whole:
        raise InputError(
            f"{path}: {partial[0]} is a part of the split that {whole[0]} is of; leave one"
        )


def _refuse_missing_parts(path: Path, names: list[str]) -> None:
    """Refuse `train-00000-of-00002` without its second part; parts count from 0 or from 1."""
    series: dict[tuple[str, int], list[int]] = {}
    for name in names:
        match = PART.search(name)
        if match:
            before = name[: match.start()]
            series.setdefault((before, int(match["parts"])), []).append(int(match["part"]))
    for (before, parts), numbers in series.items():
        first = 1 if 0 not in numbers and parts in numbers else 0
        for part in range(first, parts + first):
            if numbers.count(part) != 1:
                problem = "is there twice" if part in numbers else "is missing"
                raise InputError(
                    f"{path}: {before}*.parquet: part {part - first + 1} of {parts} {problem}"
                )


class _Labelled(NamedTuple):
    """The images of a file, and what its label column says: numbers, or text, or nothing."""

    images: np.ndarray
    labels: list[Any] | None
    names: list[str]
    where: Path


def _read_file(file: Path, fit: Fit, labels: str) -> _Labelled:
    import pyarrow

    try:
        table, image_column, label_column = _open(file, labels)
        values = None if label_column is None else table[label_column].to_pylist()
        images = _pixels(file, table[image_column].combine_chunks(), fit)
        names = _class_names(file, table.schema.metadata, label_column)
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({first_line(error)})") from error
    return _Labelled(images, values, names, file)


def _numbered(splits: list[list[_Labelled]]) -> list[list[Numbered]]:
    """Number the classes of the files of each split; texts are numbered in their order.

    Raises:
        InputError: a label that is no class; some files have labels and others none.
    """
    parts = [part for split in splits for part in split]
    without = [part for part in parts if part.labels is None]
    if without and len(without) < len(parts):
        raise InputError(
            f"{without[0].where}: has no label column, as other files have; "
            "set data.labels=none to leave the labels out"
        )
    texts = [part for part in parts if any(isinstance(v, str) for v in part.labels or ())]
    if texts and len(texts) == len(parts):
        trained = [str(value) for part in splits[0] for value in part.labels or ()]
        names = sorted(set(trained))
        return [[_by_text(part, names) for part in split] for split in splits]
    return [[_by_number(part) for part in split] for split in splits]


def _by_text(part: _Labelled, names: list[str]) -> Numbered:
    numbers = {name: number for number, name in enumerate(names)}
    for row, value in enumerate(part.labels or ()):
        if not isinstance(value, str) or value not in numbers:
            rule = "is not a text" if not isinstance(value, str) else "no training image has"
            raise InputError(f"{part.where} row {row}: label {shown(value)}: {rule}")
    labels = np.asarray([numbers[value] for value in part.labels or ()], np.int64)
    return Numbered(part.images, labels, names, part.where)


def _by_number(part: _Labelled) -> Numbered:
    if part.labels is None:
        return Numbered(part.images, np.zeros(len(part.images), np.int64), [UNLABELLED], part.where)
    return Numbered(part.images, _labels(part.where, part.labels), part.names, part.where)


def _labels(file: Path, values: list[Any]) -> np.ndarray:
    for row, value in enumerate(values):
        if not isinstance(value, int) or value < 0:
            raise InputError(f"{file} row {row}: label {value!r} is not a class number or text")
        if value > HIGHEST:
            raise InputError(f"{file} row {row}: label {value} is above {HIGHEST}")
    return np.asarray(values, np.int64)


def _pixels(file: Path, column: Any, fit: Fit) -> np.ndarray:
    """Images of a column of bytes, of {bytes, path}, or of nested lists of pixels."""
    import pyarrow

    if pyarrow.types.is_struct(column.type):
        column = column.field("bytes")
    if _listed(column.type):
        return fit_array(_listed_pixels(file, column), fit, f"{file} row 0")
    return _decoded(file, [cell or b"" for cell in column.to_pylist()], fit)


def _decoded(file: Path, contents: list[bytes], fit: Fit) -> np.ndarray:
    """Decode a column once per content: 60,000 JPEGs take 8 s, reading them back 0.1 s."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(len(content).to_bytes(8, "little") + content)
    places = [f"{file} row {row}" for row in range(len(contents))]
    pixels = cached(
        f"pixels-{DECODING}-{fit.words}-{digest.hexdigest()[:16]}",
        lambda: {"pixels": torch.from_numpy(decode_all(contents, places, fit))},
    )
    return pixels["pixels"].numpy()


def _listed(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _listed_pixels(file: Path, column: Any) -> np.ndarray:
    """Nested lists (h, w), (h, w, c) or (c, h, w) of whole numbers up to 255: (n, c, h, w)."""
    import pyarrow
    import pyarrow.compute

    rows, shape = len(column), []
    while _listed(column.type):
        counts = pyarrow.compute.list_value_length(column)  # pyright: ignore[reportAttributeAccessIssue]
        lengths = np.asarray(counts.fill_null(-1))
        if len(set(lengths.tolist())) > 1 or lengths[0] < 1:
            odd = int((lengths != max(lengths[0], 1)).argmax())
            row = odd * rows // len(lengths)
            raise InputError(
                f"{file} row {row}: a list of another length than others; images of different "
                "sizes must be stored as files (bytes)"
            )
        shape.append(int(lengths[0]))
        column = column.flatten()
    if len(shape) not in (2, 3) or (len(shape) == 3 and not {shape[0], shape[-1]} & {1, 3}):
        size = "x".join(map(str, shape))
        raise InputError(
            f"{file} row 0: lists of {size} numbers, but images must be height x width, with 3 "
            "or 1 channels behind or before"
        )
    if not pyarrow.types.is_integer(column.type) or column.null_count:
        raise InputError(f"{file}: lists of {column.type}, but pixels must be whole numbers")
    values = column.to_numpy(zero_copy_only=False).reshape(rows, *shape)
    outside = ((values < 0) | (values > 255)).reshape(rows, -1).any(axis=1)
    if outside.any():
        raise InputError(f"{file} row {int(outside.argmax())}: pixels beyond 0 to 255")
    images = values.astype(np.uint8)
    if len(shape) == 2:
        return images[:, None]
    return images if shape[0] in (1, 3) else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _open(file: Path, labels: str) -> tuple[Any, str, str | None]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    columns = one_line(", ".join(table.column_names)) or "nothing"
    image = next((name for name in IMAGE_COLUMNS if name in table.column_names), None)
    columns_of_labels = {"auto": LABEL_COLUMNS, "none": ()}.get(labels, (labels,))
    label = next((name for name in columns_of_labels if name in table.column_names), None)
    if image is None or not _holds_images(table.schema.field(image).type):
        raise InputError(
            f"{file}: no image column ({' or '.join(IMAGE_COLUMNS)}: bytes, {{bytes, path}} or "
            f"lists of pixels); it has {columns}"
        )
    if label is None and labels not in ("auto", "none"):
        raise InputError(f"{file}: no column {shown(labels)} (data.labels); it has {columns}")
    if table.num_rows == 0:
        raise InputError(f"{file}: no rows")
    return table, image, label


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return "bytes" in kind.names
    return types.is_binary(kind) or types.is_large_binary(kind) or _listed(kind)


def _class_names(
    file: Path, metadata: dict[bytes, bytes] | None, label_column: str | None
) -> list[str]:
    """Class names as the Hugging Face hub writes them into the schema, [] if it did not."""
    try:
        info = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        names = info["info"]["features"][label_column]["names"]
    except (ValueError, KeyError, TypeError, IndexError):
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    first = {name: number for number, name in reversed(list(enumerate(names)))}
    for number, name in enumerate(names):
        if first[name] != number:
            raise InputError(
                f"{file}: classes {first[name]} and {number} are both named {shown(name)} in its "
                "Hugging Face metadata; names of classes must differ"
            )
    return names
