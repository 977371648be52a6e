"""Readers: every format gives the same arrays, and every bad input an error that names it."""

import contextlib
import io
import json
import pickle
import struct
import tarfile
import urllib.error
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision.datasets
from PIL import Image
from torchvision.datasets.folder import default_loader

from data.loading import load, refusal
from raygen.data import CIFAR10_CLASSES, DataSpec, load_data
from raygen.data.class_numbers import Arrays
from raygen.data.decode import decode_all
from raygen.data.fit import Fit
from raygen.data.read import hold_out
from raygen.errors import InputError
from raygen.image_shape import CIFAR10
from raygen.metrics.stored import open_images

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "cifar10_jpeg"


def random_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def labels_of(count: int, classes: int = 3) -> np.ndarray:
    return np.arange(count) % classes


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind)
    return buffer.getvalue()


def write_parquet(
    file: Path,
    contents: list[bytes | None],
    labels: list[Any],
    names: list[str] | None = None,
    columns: tuple[str, str] = ("img", "label"),
) -> Path:
    """A table as the Hugging Face hub writes it."""
    cells = [{"bytes": content, "path": None} for content in contents]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image, label = columns
    table = pa.table({image: pa.array(cells, image_type), label: pa.array(labels)})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def write_images(file: Path, images: np.ndarray, labels: np.ndarray, **more: Any) -> Path:
    return write_parquet(file, [encoded(image) for image in images], labels.tolist(), **more)


def write_folder(folder: Path, images: np.ndarray, names: list[str], kind: str = "png") -> None:
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name / f"{number:04d}.{kind}")


def pixels(data: torch.Tensor) -> np.ndarray:
    return data.permute(0, 2, 3, 1).numpy()


def contents_of(*splits: Any) -> list[tuple[bytes, int]]:
    """Every image with its label, in no order."""
    return sorted(
        (image.tobytes(), int(label))
        for images, labels in splits
        for image, label in zip(pixels(images), labels, strict=True)
    )


# Parquet


def test_a_parquet_folder_with_both_splits_gives_every_image_in_order(tmp_path: Path) -> None:
    train, test = random_images(9), random_images(6, seed=1)
    folder = tmp_path / "birds"
    write_images(folder / "data" / "train-00000-of-00002.parquet", train[:5], labels_of(9)[:5])
    write_images(folder / "data" / "train-00001-of-00002.parquet", train[5:], labels_of(9)[5:])
    write_images(folder / "data" / "test-00000-of-00001.parquet", test, labels_of(6))

    data = load(folder)

    assert np.array_equal(pixels(data.train.images), train)
    assert np.array_equal(data.train.labels, labels_of(9))
    assert np.array_equal(pixels(data.test.images), test)
    assert np.array_equal(data.test.labels, labels_of(6))
    assert data.name == "birds"
    assert data.classes == ("0", "1", "2")


def test_a_single_parquet_file_is_split_without_loss(tmp_path: Path) -> None:
    images = random_images(30)

    data = load(write_images(tmp_path / "birds.parquet", images, labels_of(30)))

    assert data.name == "birds"
    assert len(data.test.labels) == 3
    assert contents_of(data.train, data.test) == sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels_of(30), strict=True)
    )


def test_class_names_come_from_the_schema_of_the_hub(tmp_path: Path) -> None:
    names = ["crow", "owl", "tit"]

    data = load(write_images(tmp_path / "a.parquet", random_images(12), labels_of(12), names=names))

    assert data.classes == ("crow", "owl", "tit")


@pytest.mark.parametrize("columns", [("image", "label"), ("img", "labels"), ("img", "fine_label")])
def test_the_other_column_names_of_the_hub_are_known(
    tmp_path: Path, columns: tuple[str, str]
) -> None:
    file = write_images(tmp_path / "a.parquet", random_images(12), labels_of(12), columns=columns)

    assert len(load(file).train.labels) == 11


def test_a_second_reading_takes_the_pixels_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_images(tmp_path / "a.parquet", random_images(12), labels_of(12))
    first = load(file)
    monkeypatch.setattr("raygen.data.decode.decode", lambda *_: pytest.fail("decoded again"))

    assert load(file).fingerprint == first.fingerprint


def test_a_jpeg_is_decoded_as_pillow_decodes_it(tmp_path: Path) -> None:
    jpegs = [encoded(image, "JPEG") for image in random_images(12)]

    data = load(write_parquet(tmp_path / "a.parquet", list(jpegs), labels_of(12).tolist()))

    expected = {np.asarray(Image.open(io.BytesIO(jpeg))).tobytes() for jpeg in jpegs}
    assert {content for content, _ in contents_of(data.train, data.test)} == expected


GOOD = [encoded(image) for image in random_images(4)]
LABELS = [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("contents", "labels", "said"),
    [
        ([*GOOD[:2], GOOD[2][:100], GOOD[3]], LABELS, "row 2: not a readable picture"),
        ([*GOOD[:3], b"no picture"], LABELS, "row 3: not a readable picture"),
        ([GOOD[0], None, *GOOD[2:]], LABELS, "row 1: not a readable picture"),
        ([GOOD[0], encoded(np.zeros((28, 30, 3), np.uint8)), *GOOD[2:]], LABELS,
         "row 1: 30x28, but bad.parquet row 0 is 32x32; set data.size, to which all are brought"),
        (GOOD, [0, None, 0, 1], "row 1: label None is not a class number or text"),
        (GOOD, [0, 1, -1, 1], "row 2: label -1 is not a class number or text"),
        (GOOD, ["a", "b", None, "b"], "row 2: label None: is not a text"),
        (GOOD, [0.0, 1.0, 0.0, 1.0], "row 0: label 0.0 is not a class number or text"),
    ],
)  # fmt: skip
def test_a_bad_row_of_a_table_is_named(
    tmp_path: Path, contents: list[bytes | None], labels: list[Any], said: str
) -> None:
    file = write_parquet(tmp_path / "bad.parquet", contents, labels)

    assert refusal(file, tmp_path) == f"bad.parquet {said}"


def test_a_corrupt_jpeg_in_one_file_of_many_names_that_file(tmp_path: Path) -> None:
    jpegs = [encoded(image, "JPEG") for image in random_images(4)]
    write_parquet(tmp_path / "set" / "train-0.parquet", list(jpegs), LABELS)
    write_parquet(tmp_path / "set" / "train-1.parquet", [*jpegs[:3], jpegs[3][:200]], LABELS)

    message = refusal(tmp_path / "set", tmp_path)

    assert message == "set/train-1.parquet row 3: not a readable picture"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (("picture", "label"), "no image column"),
        (("img", "label"), "no column 'target' (data.labels); it has img, label"),
    ],
)
def test_a_table_without_its_columns_is_refused(
    tmp_path: Path, columns: tuple[str, str], said: str
) -> None:
    file = write_parquet(tmp_path / "bad.parquet", list(GOOD), LABELS, columns=columns)

    assert refusal(file, tmp_path, labels="target").startswith(f"bad.parquet: {said}")


def test_labels_are_the_column_that_is_named_or_text_or_nothing(tmp_path: Path) -> None:
    columns = ("img", "kind")
    file = write_parquet(tmp_path / "set.parquet", list(GOOD), ["owl", "crow"] * 2, columns=columns)

    unlabelled = load(file)
    labelled = load_data(DataSpec(path=str(file), labels="kind"))

    assert unlabelled.classes == ("all",)
    assert labelled.classes == ("crow", "owl")
    assert [*labelled.train.labels, *labelled.test.labels].count(1) == 2


@pytest.mark.parametrize("cells", [[{"path": "a.png"}] * 4, ["a.png"] * 4, [1, 2, 3, 4]])
def test_an_image_column_without_bytes_or_pixels_is_refused(
    tmp_path: Path, cells: list[Any]
) -> None:
    pq.write_table(pa.table({"img": cells, "label": LABELS}), tmp_path / "bad.parquet")

    assert refusal(tmp_path / "bad.parquet", tmp_path).startswith("bad.parquet: no image column")


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "bad.parquet", [], [])

    assert refusal(file, tmp_path) == "bad.parquet: no rows"


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 or so")

    assert refusal(tmp_path / "bad.parquet", tmp_path).startswith("bad.parquet: not a readable")


def test_a_folder_with_a_test_table_only_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "test.parquet", list(GOOD), LABELS)

    assert refusal(tmp_path / "set", tmp_path).startswith("set: no training Parquet file")


def test_a_label_beyond_the_class_names_is_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "bad.parquet", list(GOOD), [0, 1, 2, 0], names=["a", "b"])

    assert refusal(file, tmp_path) == "bad.parquet row 2: label 2, but there are 2 class names"


def test_a_class_that_appears_in_the_test_table_only_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", list(GOOD), LABELS)
    write_parquet(tmp_path / "set" / "test.parquet", list(GOOD), [0, 1, 2, 3])

    assert refusal(tmp_path / "set", tmp_path) == (
        "set/test.parquet: test image 2 is of class 2, which no training image has (they have 0, 1)"
    )


# .npz


def test_an_npz_of_images_and_labels_is_split_without_loss(tmp_path: Path) -> None:
    images = random_images(30)
    np.savez(tmp_path / "birds.npz", images=images, labels=labels_of(30))

    data = load(tmp_path / "birds.npz")

    assert data.name == "birds"
    assert data.classes == ("0", "1", "2")
    assert contents_of(data.train, data.test) == sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels_of(30), strict=True)
    )


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2)], ids=["nhwc", "nchw"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["flat", "column"])
def test_an_npz_in_the_layout_of_keras_keeps_its_splits(
    tmp_path: Path,
    order: tuple[int, ...],
    save: Callable[..., None],
    shape: tuple[int, ...],
) -> None:
    train, test = random_images(6), random_images(3, seed=1)
    save(
        tmp_path / "a.npz",
        x_train=train.transpose(order),
        y_train=labels_of(6).reshape(shape).astype(np.uint8),
        x_test=test.transpose(order),
        y_test=labels_of(3).reshape(shape).astype(np.uint8),
    )

    data = load(tmp_path / "a.npz")

    assert np.array_equal(pixels(data.train.images), train)
    assert np.array_equal(pixels(data.test.images), test)
    assert np.array_equal(data.train.labels, labels_of(6))
    assert data.train.labels.dtype == torch.int64


IMAGES = random_images(4)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": IMAGES / 255, "labels": LABELS}, "images is float64, but pixels must be uint8"),
        ({"images": IMAGES.astype(int), "labels": LABELS}, "images is int64"),
        ({"images": IMAGES[:, :28], "labels": LABELS}, "images: 32x28, but images must be squa"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, "images has shape (4, 32, 32, 2)"),
        ({"images": np.uint8(3), "labels": LABELS}, "images has shape ()"),
        ({"images": IMAGES[:0], "labels": []}, "images is empty"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "4 images but 3 labels"),
        ({"images": IMAGES, "labels": np.eye(4)}, "4 images but 16 labels"),
        ({"images": IMAGES, "labels": [0.0, 1, 0, 1]}, "labels must be whole numbers"),
        ({"images": IMAGES, "labels": [0, 1, 0, -1]}, "labels must be whole numbers"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "x_test without y_test"),
        ({"pictures": IMAGES, "labels": LABELS}, "has pictures, labels, but needs images"),
        ({}, "has nothing"),
    ],
)
def test_a_bad_npz_is_refused_by_its_name_and_array(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)

    assert refusal(tmp_path / "bad.npz", tmp_path).startswith(f"bad.npz: {said}")


def test_an_npz_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.mkdir, (tmp_path / "sprung",)

    np.savez(tmp_path / "bad.npz", images=np.array([Trap()], dtype=object), labels=[0])

    assert refusal(tmp_path / "bad.npz", tmp_path).startswith("bad.npz: not a readable .npz")
    assert not (tmp_path / "sprung").exists()


def truncated(file: Path) -> None:
    np.savez(file, images=IMAGES, labels=LABELS)
    file.write_bytes(file.read_bytes()[:-200])


def flipped(file: Path) -> None:
    np.savez_compressed(file, images=IMAGES, labels=LABELS)
    content = bytearray(file.read_bytes())
    content[500:600] = bytes(100)
    file.write_bytes(content)


def one_array(file: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, IMAGES)


def no_arrays(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images", "text")
        archive.writestr("labels", "text")


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_text("images and labels"),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(pickle.dumps({"images": IMAGES})),
        truncated,
        flipped,
        one_array,
        no_arrays,
    ],
    ids=["text", "empty", "pickle", "truncated", "damaged", "npy", "zip of texts"],
)
def test_a_file_that_is_no_whole_npz_is_refused(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "bad.npz")

    assert refusal(tmp_path / "bad.npz", tmp_path).startswith("bad.npz: ")


def outcome(read: Callable[[Path], Any], file: Path) -> str:
    """Read a file that may be damaged: the refusal, or nothing."""
    try:
        read(file)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_with_any_damage_is_read_or_refused_in_one_line(
    tmp_path: Path, save: Callable[..., None]
) -> None:
    """Most of it in the headers of arrays and of the archive."""
    save(tmp_path / "whole.npz", images=IMAGES, labels=LABELS)
    whole = (tmp_path / "whole.npz").read_bytes()
    random = np.random.default_rng(0)

    for number in range(300):
        damaged = bytearray(whole)
        start = 0 if number % 2 else len(damaged) - 600
        for place in random.integers(start, start + 300, 4):
            damaged[place] = random.integers(256)
        (tmp_path / "bad.npz").write_bytes(damaged)
        for read in (load, lambda path: open_images(path, CIFAR10)):
            assert "\n" not in outcome(read, tmp_path / "bad.npz")


def test_a_table_with_any_damage_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", list(GOOD), LABELS).read_bytes()
    random = np.random.default_rng(0)

    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, len(damaged), 3):
            damaged[place] = random.integers(256)
        (tmp_path / "bad.parquet").write_bytes(damaged)
        assert "\n" not in outcome(load, tmp_path / "bad.parquet")


# Folders of classes


@pytest.mark.parametrize("kind", ["png", "webp", "PNG"])
def test_a_folder_of_classes_is_split_without_loss(tmp_path: Path, kind: str) -> None:
    images = random_images(20)
    names = ["owl", "crow"] * 10
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        (tmp_path / "birds" / name).mkdir(parents=True, exist_ok=True)
        file = tmp_path / "birds" / name / f"{number}.{kind}"
        Image.fromarray(image).save(file, **({"lossless": True} if kind == "webp" else {}))

    data = load(tmp_path / "birds")

    assert data.name == "birds"
    assert data.classes == ("crow", "owl")
    assert contents_of(data.train, data.test) == sorted(
        (image.tobytes(), data.classes.index(name))
        for image, name in zip(images, names, strict=True)
    )


@pytest.mark.parametrize("test", ["test", "val", "valid"])
def test_a_folder_with_train_and_test_keeps_its_splits(tmp_path: Path, test: str) -> None:
    train, held = random_images(6), random_images(4, seed=1)
    write_folder(tmp_path / "birds" / "train", train, ["owl", "crow", "tit"] * 2)
    write_folder(tmp_path / "birds" / test, held, ["owl", "crow", "tit", "tit"])

    data = load(tmp_path / "birds")

    assert data.classes == ("crow", "owl", "tit")
    assert contents_of(data.train) == sorted(
        (image.tobytes(), label) for image, label in zip(train, [1, 0, 2] * 2, strict=True)
    )
    assert contents_of(data.test) == sorted(
        (image.tobytes(), label) for image, label in zip(held, [1, 0, 2, 2], strict=True)
    )


def test_a_folder_with_train_alone_is_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "birds" / "train", random_images(20), ["owl", "crow"] * 10)

    data = load(tmp_path / "birds")

    assert (len(data.train.labels), len(data.test.labels)) == (18, 2)


def test_the_name_of_a_class_may_look_like_a_pattern(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", random_images(20), ["[owl]", "crow*"] * 10)

    assert load(tmp_path / "set").classes == ("[owl]", "crow*")


def test_notes_and_hidden_folders_beside_the_pictures_are_left_alone(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", random_images(20), ["owl", "crow"] * 10)
    (tmp_path / "set" / "README.md").write_text("birds")
    (tmp_path / "set" / "owl" / "notes.txt").write_text("owls")
    (tmp_path / "set" / ".git").mkdir()

    assert load(tmp_path / "set").classes == ("crow", "owl")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()

    assert refusal(tmp_path / "set", tmp_path).startswith("set: holds nothing")


def test_a_class_without_pictures_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", random_images(4), ["owl"] * 4)
    (tmp_path / "set" / "crow").mkdir()

    assert refusal(tmp_path / "set", tmp_path).startswith("set/crow: no pictures")


def test_a_class_that_the_test_split_lacks_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "set" / "train", random_images(4), ["owl", "crow"] * 2)
    write_folder(tmp_path / "set" / "test", random_images(2), ["owl"] * 2)

    assert refusal(tmp_path / "set", tmp_path).startswith("set/test/crow: no pictures")


def test_a_class_that_only_the_test_split_has_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "set" / "train", random_images(4), ["owl", "crow"] * 2)
    write_folder(tmp_path / "set" / "test", random_images(3), ["owl", "crow", "tit"])

    assert refusal(tmp_path / "set", tmp_path).startswith("set/test/tit: ")


def test_a_picture_of_the_wrong_size_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", np.zeros((2, 48, 64, 3), np.uint8), ["owl"] * 2)

    message = refusal(tmp_path / "set", tmp_path)

    assert message.startswith("set/owl/0000.png: 64x48, but images must be squares of 16, 32,")
    assert message.endswith("set data.size, such as 64, and data.fit (crop, pad or resize), "
                            "such as crop")  # fmt: skip


def test_a_damaged_picture_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", random_images(4), ["owl", "crow"] * 2)
    (tmp_path / "set" / "owl" / "0002.png").write_bytes(b"not a picture")

    assert refusal(tmp_path / "set", tmp_path) == "set/owl/0002.png: not a readable picture"


# Any path


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere", tmp_path) == "data.path: nowhere not found"


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("not images")

    message = refusal(tmp_path / "images.txt", tmp_path)

    assert message.startswith("data.path: images.txt is none of")


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 100])
def test_a_hold_out_is_disjoint_complete_a_tenth_and_always_the_same(count: int) -> None:
    images, labels = np.arange(count).reshape(-1, 1, 1, 1), np.arange(count)

    split = hold_out(Arrays(["a"], images, labels))
    again = hold_out(Arrays(["a"], images, labels))

    assert split.test_labels is not None
    assert split.test_images is not None
    assert sorted([*split.labels, *split.test_labels]) == list(range(count))
    assert len(split.test_labels) == max(1, count // 10)
    assert np.array_equal(split.images.ravel(), split.labels)
    assert np.array_equal(split.test_images.ravel(), split.test_labels)
    assert np.array_equal(split.labels, again.labels)


def rgb(content: bytes, where: str) -> np.ndarray:
    return decode_all([content], [where], Fit(32, 3))[0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_pictures_of_every_mode_become_the_rgb_that_torchvision_reads(
    tmp_path: Path, mode: str
) -> None:
    picture = Image.fromarray(random_images(1)[0]).convert(mode)
    if "A" in mode:  # alpha is dropped, not laid on a background
        picture.putalpha(Image.fromarray(random_images(1, seed=1)[0][..., 0]))
    file = tmp_path / f"a.{'tif' if mode in ('CMYK', 'YCbCr') else 'png'}"
    picture.save(file)

    decoded = rgb(file.read_bytes(), "x").transpose(1, 2, 0)

    assert np.array_equal(decoded, np.asarray(default_loader(str(file))))


def test_a_transparent_palette_keeps_its_colours_without_a_warning() -> None:
    picture = Image.fromarray(random_images(1)[0]).quantize(16)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", transparency=bytes(range(0, 256, 16)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = rgb(buffer.getvalue(), "x").transpose(1, 2, 0)

    assert np.array_equal(decoded, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_to_8_bits_and_not_clipped(kind: str) -> None:
    levels = np.linspace(0, 65_535, 1024).astype(np.uint16).reshape(32, 32)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format=kind)

    decoded = rgb(buffer.getvalue(), "x")

    assert np.array_equal(decoded, np.broadcast_to((levels / 257).round(), (3, 32, 32)))
    assert (decoded.min(), decoded.max()) == (0, 255)


@pytest.mark.parametrize(("dtype", "said"), [("float32", "floating-point"), ("int32", "whole")])
def test_pixels_without_a_known_white_are_refused(dtype: str, said: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((32, 32), dtype)).save(buffer, format="TIFF")

    with pytest.raises(InputError, match=rf"here: pixels are 32-bit {said} numbers.*8 or 16 bits"):
        rgb(buffer.getvalue(), "here")


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda image: image),
        (2, np.fliplr),
        (3, lambda image: np.rot90(image, 2)),
        (4, np.flipud),
        (5, lambda image: image.transpose(1, 0, 2)),
        (6, lambda image: np.rot90(image, -1)),
        (7, lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_a_picture_is_turned_as_its_exif_says(
    orientation: int, upright: Callable[[np.ndarray], np.ndarray]
) -> None:
    """The eight orientations of EXIF 2.32, section 4.6.4: where its row 0 and column 0 are."""
    image = random_images(1)[0]
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", exif=exif)

    decoded = rgb(buffer.getvalue(), "x").transpose(1, 2, 0)

    assert np.array_equal(decoded, upright(image))


def test_the_channels_of_a_picture_keep_their_order() -> None:
    red = encoded(np.full((32, 32, 3), (250, 100, 10), np.uint8))

    assert rgb(red, "x")[:, 0, 0].tolist() == [250, 100, 10]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_with_any_damage_is_decoded_or_refused(kind: str) -> None:
    content = encoded(random_images(1)[0], kind)
    random = np.random.default_rng(0)

    for _ in range(150):
        damaged = bytearray(content[: random.integers(1, len(content) + 1)])
        for place in random.integers(0, min(len(damaged), 300), 6):
            damaged[place] = random.integers(256)
        with contextlib.suppress(InputError):
            assert rgb(bytes(damaged), "here").shape == (3, 32, 32)


def test_a_picture_that_claims_a_billion_pixels_is_refused() -> None:
    content = bytearray(encoded(random_images(1)[0]))
    content[16:24] = struct.pack(">II", 40_000, 40_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))

    with pytest.raises(InputError, match="here: "):
        rgb(bytes(content), "here")


# CIFAR-10


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Error downloading cifar-10-python.tar.gz:"),
        RuntimeError("File not found or corrupted."),
        urllib.error.URLError("Temporary failure in name resolution"),
    ],
)
def test_a_download_that_fails_is_one_error_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)

    with pytest.raises(InputError) as caught:
        load_data(DataSpec(root=str(tmp_path)))

    assert f"{tmp_path}/cifar-10-python.tar.gz" in str(caught.value)
    assert "data.path" in str(caught.value)
    assert "\n" not in str(caught.value)


def write_archive(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """A small archive in the layout of cs.toronto.edu/~kriz/cifar.html; returns all of its rows."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(0, 256, (60, 3072), dtype=np.uint8)
    labels = np.arange(60) % 10
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        part = slice(number * 10, number * 10 + 10)
        batch = {"data": rows[part], "labels": labels[part].tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10_CLASSES)}))
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, "cifar-10-batches-py")
    return rows, labels


def test_the_rows_of_the_archive_are_planes_of_red_green_and_blue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of CIFAR-10: 1024 red, then 1024 green, then 1024 blue, each row by row."""
    rows, labels = write_archive(tmp_path)
    # Its checksums are those of the real archive.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)

    data = load_data(DataSpec(root=str(tmp_path)))

    assert (data.name, data.classes) == ("cifar10", CIFAR10_CLASSES)
    assert np.array_equal(data.train.images.numpy(), rows[:50].reshape(-1, 3, 32, 32))
    assert np.array_equal(data.test.images.numpy(), rows[50:].reshape(-1, 3, 32, 32))
    assert np.array_equal(data.train.labels, labels[:50])
    assert np.array_equal(data.test.labels, labels[50:])


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"no photographs at {PHOTOGRAPHS}")
def test_the_photographs_are_60000_in_ten_even_classes() -> None:
    data = load(PHOTOGRAPHS)

    for split, count in ((data.train, 50_000), (data.test, 10_000)):
        assert tuple(split.images.shape) == (count, 3, 32, 32)
        assert split.images.dtype == torch.uint8
        assert torch.bincount(split.labels).tolist() == [count // 10] * 10
    assert len(data.classes) == 10
    # Krizhevsky 2009: the means per channel of CIFAR-10 are 0.491, 0.482 and 0.447.
    means = data.train.images.float().mean(dim=(0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.491, 0.482, 0.447], abs=0.003)
