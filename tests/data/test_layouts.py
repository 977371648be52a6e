"""What users have: folders, Parquet and npz as they come, and the counts that a user expects.

One row per layout. Where torchvision reads the same folder, its ImageFolder is the witness.
"""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from data.loading import load, refusal
from raygen.config_file import load_space, load_train_job
from raygen.data import DataSpec, ImageData, load_data
from raygen.data.listing import PICTURES
from raygen.errors import InputError
from raygen.image_shape import CIFAR10
from raygen.metrics.stored import Pictures, open_images

TRAIN, TEST, VALIDATION = 40, 20, 10  # images of each split in every layout that has it


def counts(data: ImageData) -> tuple[int, int]:
    return len(data.train.labels), len(data.test.labels)


def grey(level: int) -> np.ndarray:
    return np.full((32, 32, 3), level, np.uint8)


def encoded(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey(level)).save(buffer, format="PNG")
    return buffer.getvalue()


def picture(file: Path, level: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = {".pgm": "PPM", ".ppm": "PPM"}.get(file.suffix.lower())
    Image.fromarray(grey(level)).save(file, format=kind)


def pictures(folder: Path, count: int, classes: tuple[str, ...] = ("crow", "owl")) -> None:
    for number in range(count):
        picture(folder / classes[number % len(classes)] / f"{number:03d}.png", number)


def table(
    file: Path,
    count: int,
    labels: list[int] | None = None,
    names: list[str] | None = None,
    images: Any = None,
) -> None:
    cells = [{"bytes": encoded(n), "path": None} for n in range(count)]
    column = pa.array(cells) if images is None else images
    numbers = labels or [n % 2 for n in range(count)]
    content = pa.table({"image": column, "label": numbers})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        content = content.replace_schema_metadata({"huggingface": info})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, file)


# The names of splits

PARQUET = {
    "hub": (["data/train-00000-of-00002", "data/train-00001-of-00002", "data/test-00000-of-00001"],
            (2 * TRAIN, TEST)),
    "hub, converted": (["plain_text/train/0000", "plain_text/test/0000"], (TRAIN, TEST)),
    "hub, converted in shards": (["default/train/0000", "default/train/0001", "default/test/0000"],
                                 (2 * TRAIN, TEST)),
    "flat": (["train", "test"], (TRAIN, TEST)),
    "capitals": (["Train", "Test"], (TRAIN, TEST)),
    "named": (["cifar10-train", "cifar10-test"], (TRAIN, TEST)),
    "underscores": (["birds_train_v2", "birds_test_v2"], (TRAIN, TEST)),
    "years": (["train2017", "val2017"], (TRAIN, VALIDATION)),
    "val": (["train", "val"], (TRAIN, VALIDATION)),
    "dev": (["train", "dev"], (TRAIN, VALIDATION)),
    "valid": (["training", "valid"], (TRAIN, VALIDATION)),
    "validation": (["train", "validation-00000-of-00001"], (TRAIN, VALIDATION)),
    "testing": (["training", "testing"], (TRAIN, TEST)),
    "all three": (["train", "validation", "test"], (TRAIN, TEST)),
    "one file": (["birds"], (36, 4)),
    "shards without a split": (["0000", "0001"], (72, 8)),
    "parts without a split": (["latest-part-0", "testbed-part-1"], (72, 8)),
    "train alone": (["train"], (36, 4)),
    "joined words": (["trainset", "testset"], (TRAIN, TEST)),
    "camel case": (["TrainImages", "TestImages"], (TRAIN, TEST)),
    "camel case, lower": (["birdsTrain", "birdsVal"], (TRAIN, VALIDATION)),
    "a beginning, converted by the hub": (["default/partial-train/0000", "default/test/0000"],
                                          (TRAIN, TEST)),
    "parts from 1": (["train-1-of-2", "train-2-of-2", "test-1-of-1"], (2 * TRAIN, TEST)),
    "without a known split": (["x_A", "holdout"], (72, 8)),
}  # fmt: skip
UNNAMED = ("shards without a split", "parts without a split", "without a known split")


def size_of(name: str) -> int:
    if any(word in name.lower() for word in ("val", "dev")):
        return VALIDATION
    return TEST if "test" in name.lower() and "testbed" not in name and "latest" not in name \
        else TRAIN  # fmt: skip


@pytest.mark.parametrize("layout", PARQUET)
def test_parquet_files_are_of_the_split_that_a_reader_sees_in_their_names(
    tmp_path: Path, layout: str
) -> None:
    names, expected = PARQUET[layout]
    for name in names:
        table(tmp_path / "set" / f"{name}.parquet", size_of(name))

    data = load(tmp_path / "set")

    assert counts(data) == expected
    left = (f"{tmp_path}/set: left out 1 Parquet files of validation, as test is there",)
    unnamed = (
        f"{tmp_path}/set: 2 Parquet files are one training set, as none names a split: "
        + ", ".join(f"{name}.parquet" for name in sorted(names)),
    )
    notes = {"all three": left} | dict.fromkeys(UNNAMED, unnamed)
    assert data.notes == notes.get(layout, ())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train", "test", "extra"], "set: extra.parquet does not say of which split it is, as "
         "other Parquet files do; known are train, training, test, testing"),
        (["data/train-0", "data/unsupervised-0"], "set: data/unsupervised-0.parquet does not say"),
        (["test"], "set: no training Parquet files (only test.parquet)"),
        (["val", "test"], "set: no training Parquet files (only test.parquet, val.parquet)"),
        (["birds_train_test"], "set/birds_train_test.parquet: names two splits, train and test"),
        (["fine/train/0", "fine/test/0", "coarse/train/0", "coarse/test/0"],
         "set: holds several data sets: coarse, fine; give the path of"),
        (["mnist/train-0", "cifar10/train-0"],
         "set: holds several data sets: cifar10, mnist"),
        (["A/train", "A/test", "B/test"],
         "set: holds several data sets: A, B; give the path of one of them"),
        (["A/train", "B/test"], "set: holds several data sets: A, B; give the path of one"),
        (["A/train", "A/test", "B/validation"], "set: holds several data sets: A, B; give"),
        (["default/train/0000", "default/partial-train/0000"],
         "set: default/partial-train/0000.parquet is a part of the split that "
         "default/train/0000.parquet is of; leave one"),
        (["train-00000-of-00002"], "set: train-*.parquet: part 2 of 2 is missing"),
        (["data/train-00001-of-00003-9f8a", "data/train-00002-of-00003-1c2d"],
         "set: data/train-*.parquet: part 1 of 3 is missing"),
        (["train-0", "test-0-of-2"], "set: test-*.parquet: part 2 of 2 is missing"),
        (["train-00000-of-00001-9f8a", "train-00000-of-00001-1c2d"],
         "set: train-*.parquet: part 1 of 1 is there twice"),
        (["trainval", "test"], "set/trainval.parquet: names two splits, train and val; rename"),
    ],
)  # fmt: skip
def test_parquet_files_whose_split_or_data_set_is_unclear_are_refused_by_name(
    tmp_path: Path, names: list[str], said: str
) -> None:
    for name in names:
        table(tmp_path / "set" / f"{name}.parquet", 4)

    assert refusal(tmp_path / "set", tmp_path).startswith(said)


def test_one_of_several_data_sets_is_read_by_its_path(tmp_path: Path) -> None:
    for name in ("fine/train/0", "fine/test/0", "coarse/train/0"):
        table(tmp_path / "set" / f"{name}.parquet", size_of(name))

    assert counts(load(tmp_path / "set" / "fine")) == (TRAIN, TEST)


def test_files_beside_parquet_ones_are_counted(tmp_path: Path) -> None:
    table(tmp_path / "set" / "data" / "train-0.parquet", TRAIN)
    table(tmp_path / "set" / ".cache" / "test-0.parquet", TEST)
    (tmp_path / "set" / "README.md").write_text("birds")
    picture(tmp_path / "set" / "thumbnail.png")

    data = load(tmp_path / "set")

    assert counts(data) == (36, 4)
    assert set(data.notes[0].removeprefix(f"{tmp_path}/set: left out ").split(", ")) == {
        "1 hidden", "1 .md", "1 pictures beside Parquet files"
    }  # fmt: skip


FOLDERS = {
    "torchvision": (["train", "test"], (TRAIN, TEST)),
    "ImageNet": (["train", "val"], (TRAIN, VALIDATION)),
    "capitals": (["Train", "Test"], (TRAIN, TEST)),
    "words": (["training", "testing"], (TRAIN, TEST)),
    "all three": (["train", "val", "test"], (TRAIN, TEST)),
    "prefixed": (["seg_train", "seg_test"], (TRAIN, TEST)),
    "joined words": (["trainset", "testset"], (TRAIN, TEST)),
    "joined images": (["train_images", "testimages"], (TRAIN, TEST)),
    "camel case": (["TrainImages", "TestImages"], (TRAIN, TEST)),
    "CycleGAN": (["trainA", "testA"], (TRAIN, TEST)),
    "underscores": (["training_set", "test_set"], (TRAIN, TEST)),
    "train alone": (["train"], (36, 4)),
    "classes": (["."], (36, 4)),
}


@pytest.mark.parametrize("layout", FOLDERS)
def test_folders_are_of_the_split_that_a_reader_sees_in_their_names(
    tmp_path: Path, layout: str
) -> None:
    names, expected = FOLDERS[layout]
    for name in names:
        pictures(tmp_path / "set" / name, size_of(name))

    data = load(tmp_path / "set")

    assert counts(data) == expected
    assert data.classes == ("crow", "owl")
    left = (f"{tmp_path}/set: left out {VALIDATION} pictures of validation, as test is there",)
    assert data.notes == (left if layout == "all three" else ())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train", "test", "extra"],
         "set: extra does not say of which split it is, as other folders do; known are train"),
        (["test"], "set: no training folders (only test)"),
        (["train", "training"], "set: train and training are both train; leave one"),
        (["birds/train", "birds/test"],
         "set/birds/test/crow/000.png: 'test' names a split below 'birds', where a class is"),
        (["seg_train", "seg_test", "seg_pred/all"],
         "set: seg_pred does not say of which split it is, as other folders do; known are train"),
        (["seg_train/seg_train", "seg_test/seg_test"],
         "set/seg_train: holds seg_train alone, which names a split where classes are expected; "
         "move what is in set/seg_train/seg_train up to set/seg_train"),
        (["training_set", "holdout"], "set: holdout and training_set both hold folders crow, owl, "
         "as splits do and classes do not; splits are named train, training, test, testing"),
        (["a", "b", "all"], "set: a and all both hold folders crow, owl"),
        (["train_images", "testimages", "extra"], "set: extra does not say of which split"),
        (["trainA", "testA", "trainB", "testB"], "set: testA and testB are both test; leave one"),
        (["trainval", "test_images"], "set/trainval: names two splits, train and val; rename"),
        (["cifar/train_set", "cifar/test_set"],
         "set/cifar/test_set/crow/000.png: 'test_set' names a split below 'cifar', where a class "
         "is expected; splits come above classes (is set/cifar the data set?)"),
        (["cifar/train_set"], "set: holds cifar alone, and that train_set, which names a split "
         "where a class is expected (is set/cifar the data set?)"),
        (["cifar/training_set", "cifar/holdout"], "set/cifar: holdout and training_set both hold"),
    ],
)  # fmt: skip
def test_folders_whose_split_is_unclear_are_refused_by_name(
    tmp_path: Path, names: list[str], said: str
) -> None:
    for name in names:
        pictures(tmp_path / "set" / name, 4)

    assert refusal(tmp_path / "set", tmp_path).startswith(said)


def test_a_split_inside_of_each_class_is_refused(tmp_path: Path) -> None:
    for name in ("owl/train", "owl/test", "crow/train", "crow/test"):
        picture(tmp_path / "set" / name / "0.png")

    assert "names a split below 'crow'" in refusal(tmp_path / "set", tmp_path)


def test_an_empty_test_folder_is_refused_and_not_replaced_by_a_hold_out(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "train", TRAIN)
    (tmp_path / "set" / "test").mkdir()

    assert refusal(tmp_path / "set", tmp_path).startswith("set/test: holds nothing")


def test_a_class_named_train_beside_other_classes_is_a_class(tmp_path: Path) -> None:
    """CIFAR-100 has one."""
    pictures(tmp_path / "set", 30, ("tractor", "train", "trout"))

    assert load(tmp_path / "set").classes == ("tractor", "train", "trout")


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("seg_train/crow", "seg_train/owl", "seg_test/crow", "seg_test/owl", "seg_pred"),
         "set: seg_pred does not say of which split it is"),
        (("train/crow", "train/owl", "test"), "set/test: pictures without a class, but"),
        (("trainA", "testA/owl"), "set/trainA: pictures without a class, but"),
        (("training_set/crow", "training_set/owl", "holdout/crow"),
         "set: holdout and training_set both hold folders crow, as splits do"),
    ],
)  # fmt: skip
def test_splits_of_other_classes_than_each_other_are_refused(
    tmp_path: Path, folders: tuple[str, ...], said: str
) -> None:
    pictures(tmp_path / "set", 10, folders)

    assert refusal(tmp_path / "set", tmp_path).startswith(said)


@pytest.mark.parametrize(
    "folders", [("trainA", "testA"), ("train_images", "testimages"), ("train", "test")]
)
def test_pictures_right_in_a_split_are_of_one_class(
    tmp_path: Path, folders: tuple[str, str]
) -> None:
    pictures(tmp_path / "set", TRAIN, folders)

    data = load(tmp_path / "set")

    assert data.classes == ("all",)
    assert sum(counts(data)) == TRAIN


def test_an_empty_test_folder_of_another_name_is_refused_too(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "train_set", TRAIN)
    (tmp_path / "set" / "test_set").mkdir()

    assert refusal(tmp_path / "set", tmp_path).startswith("set/test_set: holds nothing")


def test_a_folder_without_pictures_beside_splits_is_left_out_and_counted(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "train", TRAIN)
    pictures(tmp_path / "set" / "test", TEST)
    (tmp_path / "set" / "annotations").mkdir()

    data = load(tmp_path / "set")

    assert counts(data) == (TRAIN, TEST)
    assert data.notes == (f"{tmp_path}/set: left out 1 folders without pictures",)


@pytest.mark.parametrize(
    "folders",
    [
        ("crow/images", "owl/images"),
        ("crow/hooded", "crow/carrion", "owl/snowy"),
        ("vehicles/bullet_train", "vehicles/car", "animals/owl"),
        ("bullet_train", "restraint", "tractor"),
        ("iTrain", "owl"),
    ],
)
def test_folders_inside_of_classes_and_classes_with_a_word_of_a_split_stay_classes(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    pictures(tmp_path / "set", 30, folders)

    assert load(tmp_path / "set").classes == tuple(sorted({f.split("/")[0] for f in folders}))


def test_pictures_without_classes_equal_those_of_a_single_class(tmp_path: Path) -> None:
    pictures(tmp_path, TRAIN, ("birds",))

    flat = load(tmp_path / "birds")
    (tmp_path / "birds").rename(tmp_path / "all")
    (tmp_path / "birds").mkdir()
    (tmp_path / "all").rename(tmp_path / "birds" / "all")

    assert flat.classes == ("all",)
    assert flat.fingerprint == load(tmp_path / "birds").fingerprint


def test_labels_none_reads_all_pictures_as_of_one_kind(tmp_path: Path) -> None:
    pictures(tmp_path / "set", TRAIN, ("00000", "01000", "01000/deeper"))

    data = load_data(DataSpec(path=str(tmp_path / "set"), labels="none"))

    assert data.classes == ("all",)
    assert sum(counts(data)) == TRAIN


NPZ = {
    "Keras": (["x_train", "y_train", "x_test", "y_test"], (TRAIN, TEST), []),
    "capitals": (["X_train", "y_train", "X_test", "y_test"], (TRAIN, TEST), []),
    "MedMNIST": (["train_images", "train_labels", "val_images", "val_labels", "test_images",
                  "test_labels"], (TRAIN, TEST), ["val_images", "val_labels"]),
    "validation": (["x_train", "y_train", "x_val", "y_val"], (TRAIN, VALIDATION), []),
    "all three": (["x_train", "y_train", "x_val", "y_val", "x_test", "y_test"], (TRAIN, TEST),
                  ["x_val", "y_val"]),
    "camel case": (["trainImages", "trainLabels", "testImages", "testLabels"], (TRAIN, TEST), []),
    "joined words": (["trainimages", "trainlabels", "testimages", "testlabels"], (TRAIN, TEST), []),
    "plain": (["images", "labels"], (36, 4), []),
    "more arrays": (["images", "labels", "boxes", "label_names"], (36, 4),
                    ["boxes", "label_names"]),
}  # fmt: skip


@pytest.mark.parametrize("layout", NPZ)
def test_arrays_are_of_the_split_that_a_reader_sees_in_their_names(
    tmp_path: Path, layout: str
) -> None:
    keys, expected, left_out = NPZ[layout]
    arrays = {}
    for key in keys:
        images = "x" in key.lower().split("_") or "images" in key.lower()
        count = size_of(key)
        arrays[key] = np.zeros((count, 32, 32, 3), np.uint8) if images else np.arange(count) % 2
    np.savez(tmp_path / "set.npz", **arrays)

    data = load(tmp_path / "set.npz")

    assert counts(data) == expected
    text = ", ".join(f"1 array {key}" for key in left_out)
    assert data.notes == ((f"{tmp_path}/set.npz: left out {text}",) if left_out else ())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["x_test", "y_test"], "set.npz: no training arrays (only x_test)"),
        (["x_train", "y_train", "images", "labels"], "set.npz: images does not say of which split"),
        (["x_train", "y_train", "train_images"], "set.npz: x_train and train_images are both im"),
        (
            ["x_train", "y_train", "x_val"],
            "set.npz: x_val without y_val, but the other split has labels",
        ),
    ],
)
def test_arrays_whose_split_is_unclear_are_refused_by_name(
    tmp_path: Path, keys: list[str], said: str
) -> None:
    arrays = {
        key: np.arange(8) % 2 if key[0] in "yl" else np.zeros((8, 32, 32, 3), np.uint8)
        for key in keys
    }
    np.savez(tmp_path / "set.npz", **arrays)

    assert refusal(tmp_path / "set.npz", tmp_path).startswith(said)


# The listing


def apple(root: Path) -> None:
    (root / "owl" / "._001.png").write_bytes(b"\0\5\26\7")
    picture(root / "__MACOSX" / "owl" / "._001.png")


def nested(root: Path) -> None:
    picture(root / "owl" / "snowy" / "white" / "a.png")
    picture(root / "crow" / "hooded" / "b.png")


def mixed(root: Path) -> None:
    for suffix in PICTURES:
        picture(root / "owl" / f"mixed{suffix}")
        picture(root / "owl" / f"loud{suffix.upper()}")


def thumbnails(root: Path) -> None:
    picture(root / "owl" / ".thumbnails" / "a.png")
    picture(root / ".trash" / "a.png")


def linked(root: Path) -> None:
    picture(root.parent / "elsewhere" / "deep" / "a.png")
    (root / "owl" / "more").symlink_to(root.parent / "elsewhere")
    (root / "owl" / "b.png").symlink_to(root.parent / "elsewhere" / "deep" / "a.png")


def dangling(root: Path) -> None:
    (root / "owl" / "gone.png").symlink_to(root / "nowhere.png")


def folder_like_a_picture(root: Path) -> None:
    picture(root / "owl" / "series.png" / "a.png")
    (root / "crow" / "empty.png").mkdir()


def notes(root: Path) -> None:
    (root / "README.md").write_text("birds")
    (root / "owl" / "labels.txt").write_text("owls")


def loose(root: Path) -> None:
    picture(root / "cover.png")


WITNESSED = {  # what is added to 40 pictures: pictures that count, and the note
    "nothing": (lambda _: None, 0, ()),
    "nested": (nested, 2, ()),
    "mixed": (mixed, 2 * len(PICTURES), ()),
    "linked": (linked, 2, ()),
    "folder like a picture": (folder_like_a_picture, 1, ()),
    "notes": (notes, 0, {"1 .md", "1 .txt"}),
    "loose": (loose, 0, {"1 pictures outside of the folders of classes"}),
}
OURS = {  # here torchvision fails, or takes what no user means
    "apple": (apple, 0, {"1 hidden", "1 of __MACOSX"}),
    "thumbnails": (thumbnails, 0, {"2 hidden"}),
    "dangling": (dangling, 0, {"1 links to nothing"}),
}


def laid_out(tmp_path: Path, layout: str) -> tuple[Path, int, set[str]]:
    """A data set with what a layout adds; how many pictures count more, and what is left out."""
    add, more, left_out = (WITNESSED | OURS)[layout]
    root = tmp_path / "set"
    pictures(root, TRAIN)
    add(root)
    return root, more, left_out


@pytest.mark.parametrize("layout", WITNESSED | OURS)
def test_a_folder_of_classes_has_the_pictures_that_a_user_counts_and_the_rest_is_reported(
    tmp_path: Path, layout: str
) -> None:
    root, more, left_out = laid_out(tmp_path, layout)

    data = load(root)

    assert sum(counts(data)) == TRAIN + more
    assert data.classes == ("crow", "owl")
    reported = {
        part for note in data.notes
        for part in note.removeprefix(f"{root}: left out ").split(", ")
    }  # fmt: skip
    assert reported == set(left_out)
    if layout in WITNESSED:
        witness = ImageFolder(str(root), allow_empty=True)
        assert len(witness) == TRAIN + more
        assert witness.classes == list(data.classes)
        labels = torch.cat([data.train.labels, data.test.labels])
        assert sorted(labels.tolist()) == sorted(witness.targets)


@pytest.mark.parametrize("layout", WITNESSED | OURS)
def test_evaluating_a_folder_sees_the_pictures_that_learning_from_it_sees(
    tmp_path: Path, layout: str
) -> None:
    root, more, _ = laid_out(tmp_path, layout)

    store = open_images(root, CIFAR10)

    assert isinstance(store, Pictures)
    assert len(store) == TRAIN + more + (layout == "loose")  # an evaluation asks for no class
    assert store.read(list(range(len(store)))).shape == (len(store), 3, 32, 32)
    assert bool(store.notes) == (bool(load(root).notes) and layout != "loose")


def test_every_suffix_of_torchvision_is_a_picture() -> None:
    assert set(IMG_EXTENSIONS) <= set(PICTURES)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    pictures(tmp_path / "set", TRAIN)
    (tmp_path / "set" / "owl" / "again").symlink_to(tmp_path / "set" / "owl")
    (tmp_path / "set" / "owl" / "up").symlink_to("..")
    (tmp_path / "set" / "crow" / "self.png").symlink_to("self.png")

    data = load(tmp_path / "set")

    assert "links in a circle" in data.notes[0]
    assert counts(load(tmp_path / "set")) == counts(data)


def test_a_pipe_named_like_a_picture_is_left_out_and_not_waited_for(tmp_path: Path) -> None:
    pictures(tmp_path / "set", TRAIN)
    os.mkfifo(tmp_path / "set" / "owl" / "pipe.png")

    data = load(tmp_path / "set")

    assert sum(counts(data)) == TRAIN
    assert data.notes == (f"{tmp_path}/set: left out 1 neither files nor folders",)


def test_a_pipe_in_the_place_of_an_archive_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "set.npz")

    assert refusal(tmp_path / "set.npz", tmp_path).startswith("data.path: set.npz is none of")


def test_notes_are_no_part_of_what_a_study_records_of_its_data(tmp_path: Path) -> None:
    pictures(tmp_path / "set", TRAIN)
    before = load(tmp_path / "set").summary()
    notes(tmp_path / "set")

    assert load(tmp_path / "set").summary() == before


# Labels


def test_a_gap_in_the_labels_is_no_class(tmp_path: Path) -> None:
    table(tmp_path / "set.parquet", 4, [1, 3, 3, 1])
    images = np.zeros((4, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=[1, 3, 3, 1])

    for file in ("set.parquet", "set.npz"):
        data = load(tmp_path / file)
        assert data.classes == ("1", "3")
        assert sorted([*data.train.labels.tolist(), *data.test.labels.tolist()]) == [0, 0, 1, 1]


@pytest.mark.parametrize("label", [10**9, 2**31 - 1])
def test_a_huge_label_costs_no_memory(tmp_path: Path, label: int) -> None:
    table(tmp_path / "set.parquet", 4, [0, label, 0, label])
    np.savez(
        tmp_path / "set.npz", images=np.zeros((4, 32, 32, 3), np.uint8), labels=[0, label, 0, label]
    )

    for file in ("set.parquet", "set.npz"):
        assert load(tmp_path / file).classes == ("0", str(label))


@pytest.mark.parametrize("label", [2**31, 2**62])
def test_a_label_that_can_be_no_class_number_is_refused_by_its_row(
    tmp_path: Path, label: int
) -> None:
    table(tmp_path / "set.parquet", 4, [0, 1, label, 1])
    images = np.zeros((4, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.array([0, 1, label, 1], np.uint64))

    message = refusal(tmp_path / "set.parquet", tmp_path)
    assert message == f"set.parquet row 2: label {label} is above 2147483647"
    assert (
        refusal(tmp_path / "set.npz", tmp_path)
        == f"set.npz: labels[2] is {label}, above 2147483647"
    )


def test_a_class_with_a_name_and_no_images_stays_a_class(tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.parquet", 4, [0, 2, 0, 2], ["crow", "owl", "tit"])
    table(tmp_path / "set" / "test.parquet", 2, [0, 2], ["crow", "owl", "tit"])

    data = load(tmp_path / "set")

    assert data.classes == ("crow", "owl", "tit")
    assert data.train.labels.tolist() == [0, 2, 0, 2]


def test_classes_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    table(tmp_path / "set" / "train-0.parquet", 3, [0, 1, 2], ["crow", "owl", "tit"])
    table(tmp_path / "set" / "train-1.parquet", 3, [0, 1, 2], ["tit", "crow", "owl"])
    table(tmp_path / "set" / "test-0.parquet", 2, [0, 1], ["owl", "tit"])

    data = load(tmp_path / "set")

    assert data.classes == ("crow", "owl", "tit")
    assert data.train.labels.tolist() == [0, 1, 2, 2, 0, 1]
    assert data.test.labels.tolist() == [1, 2]


def test_a_class_name_that_the_training_images_lack_is_refused_by_name(tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.parquet", 2, [0, 1], ["crow", "owl"])
    table(tmp_path / "set" / "test.parquet", 2, [0, 1], ["crow", "wren"])

    assert refusal(tmp_path / "set", tmp_path) == (
        "set/test.parquet: has wren among its class names, but the training images have crow, owl"
    )


def test_a_class_that_only_the_test_split_has_is_refused_unless_it_has_a_name(
    tmp_path: Path,
) -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=[0, 1], x_test=images, y_test=[1, 7])
    table(tmp_path / "set" / "train.parquet", 2, [0, 1])
    table(tmp_path / "set" / "test.parquet", 2, [1, 7])
    table(tmp_path / "named" / "train.parquet", 2, [1, 1], ["crow", "owl", "tit"])
    table(tmp_path / "named" / "test.parquet", 2, [1, 2], ["crow", "owl", "tit"])

    rule = "test image 1 is of class 7, which no training image has (they have 0, 1)"
    assert refusal(tmp_path / "set.npz", tmp_path) == f"set.npz: {rule}"
    assert refusal(tmp_path / "set", tmp_path) == f"set/test.parquet: {rule}"
    assert load(tmp_path / "named").classes == ("crow", "owl", "tit")


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    table(tmp_path / "set.parquet", 4, [0, 1, 2, 1], ["crow", "owl", "crow"])

    assert refusal(tmp_path / "set.parquet", tmp_path) == (
        "set.parquet: classes 0 and 2 are both named 'crow' in its Hugging Face metadata; "
        "names of classes must differ"
    )


@pytest.mark.parametrize("layout", ["set.parquet", "set.npz", "set"])
def test_a_single_image_is_refused_as_it_cannot_be_split(tmp_path: Path, layout: str) -> None:
    table(tmp_path / "set.parquet", 1, [0])
    np.savez(tmp_path / "set.npz", images=np.zeros((1, 32, 32, 3), np.uint8), labels=[0])
    pictures(tmp_path / "set", 1)

    assert refusal(tmp_path / layout, tmp_path) == (
        f"{layout}: a single image, and one is held out for testing: none is left to train on; "
        "at least two are needed"
    )


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"^data\.path: must not be empty; give a path, or null"):
        DataSpec(path=path)


@pytest.mark.parametrize("setting", ["data.path=", "data.path=''", "data.path= "])
@pytest.mark.parametrize("form", ["tune", "train"])
def test_an_unset_variable_in_set_does_not_fall_back_to_other_images(
    tmp_path: Path, setting: str, form: str
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("family: vae\ndata: {source: shapes}\n")

    with pytest.raises(InputError) as caught:
        {"tune": load_space, "train": load_train_job}[form](file, [setting])

    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"--set {setting}")
    assert "data.path: " in message
    assert message.endswith("must not be empty; give a path, or null for data.source")


# Image columns


def image_columns() -> dict[str, Callable[[np.ndarray], Any]]:
    def lists(kind: Any) -> Callable[[np.ndarray], Any]:
        return lambda images: pa.array(images.tolist(), kind)

    byte = pa.uint8()
    return {
        "raw bytes": lambda images: pa.array([png(image) for image in images]),
        "large raw bytes": lambda images: pa.array(
            [png(image) for image in images], pa.large_binary()
        ),
        "bytes and path": lambda images: pa.array(
            [{"bytes": png(image), "path": "a.png"} for image in images]
        ),
        "lists": lists(pa.list_(pa.list_(pa.list_(byte)))),
        "large lists": lists(pa.large_list(pa.large_list(pa.large_list(byte)))),
        "fixed lists": lists(pa.list_(pa.list_(pa.list_(byte, 3), 32), 32)),
        "lists of int64": lists(pa.list_(pa.list_(pa.list_(pa.int64())))),
        "lists, channels first": lambda images: pa.array(images.transpose(0, 3, 1, 2).tolist()),
    }


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", image_columns())
def test_every_column_of_images_gives_the_same_pixels(tmp_path: Path, kind: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    table(tmp_path / "set" / "train.parquet", 6, images=image_columns()[kind](images))
    table(tmp_path / "set" / "test.parquet", 2)

    loaded = load(tmp_path / "set").train.images

    assert np.array_equal(loaded.permute(0, 2, 3, 1).numpy(), images)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (np.zeros((4, 28, 28, 3), int).tolist(), "row 0: 28x28, but images must be squares"),
        (np.zeros((4, 3072), int).tolist(), "row 0: lists of 3072 numbers, but images must"),
        ([*np.zeros((3, 32, 32, 3), int).tolist(), None], "row 3: a list of another length"),
        ([*np.zeros((2, 32, 32, 3), int).tolist(), [[[0]] * 32] * 31,
          np.zeros((32, 32, 3), int).tolist()], "row 2: a list of another length"),
        (np.full((4, 32, 32, 3), 256).tolist(), "row 0: pixels beyond 0 to 255"),
        (np.full((4, 32, 32, 3), -1).tolist(), "row 0: pixels beyond 0 to 255"),
        (np.full((4, 32, 32, 3), 0.5).tolist(), "lists of double, but pixels must be whole"),
    ],
)  # fmt: skip
def test_lists_that_are_no_images_are_refused_by_their_row(
    tmp_path: Path, cells: list[Any], said: str
) -> None:
    table(tmp_path / "set.parquet", 4, images=pa.array(cells))

    message = refusal(tmp_path / "set.parquet", tmp_path)

    assert message.startswith(("set.parquet ", "set.parquet: "))
    assert said in message
