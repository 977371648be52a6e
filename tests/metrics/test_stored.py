"""Images on disk in the place of a model."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from raygen.errors import InputError
from raygen.image_shape import CIFAR10
from raygen.metrics.model import CHUNK, draw_latents
from raygen.metrics.stored import StoredImages, open_images

CPU = torch.device("cpu")


def some_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def drawn(model: StoredImages, count: int) -> Tensor:
    chunks = [
        model.sample(*draw_latents(model, 0, index, min(CHUNK, count - index * CHUNK)))
        for index in range(-(-count // CHUNK))
    ]
    return torch.cat(chunks)


def write_folder(root: Path, images: np.ndarray) -> Path:
    for number, image in enumerate(images):
        file = root / f"{number // 10}" / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return root


@pytest.mark.parametrize("key", ["images", "samples", "arr_0"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("first", [False, True])
def test_all_images_of_an_archive_come_out_as_they_went_in(
    tmp_path: Path, key: str, save: object, first: bool
) -> None:
    images = some_images(300)
    stored = images.transpose(0, 3, 1, 2) if first else images
    assert callable(save)
    save(tmp_path / "x.npz", **{key: stored, "labels": np.zeros(300)})

    model = StoredImages(open_images(tmp_path / "x.npz", CIFAR10), CPU, 300, seed=0)

    for _ in range(2):  # an archive starts again from its beginning
        assert np.array_equal(drawn(model, 300).permute(0, 2, 3, 1).numpy(), images)


def test_pictures_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    images = some_images(30)
    write_folder(tmp_path, images)

    model = StoredImages(open_images(tmp_path, CIFAR10), CPU, 30, seed=0)

    assert np.array_equal(drawn(model, 30).permute(0, 2, 3, 1).numpy(), images)
    assert model.origin == {"source": "stored images, all"}


def test_fewer_than_all_are_drawn_by_chance_and_not_from_the_front(tmp_path: Path) -> None:
    """A folder is often sorted by class."""
    images = some_images(600)
    np.savez(tmp_path / "x.npz", images=images)
    store = open_images(tmp_path / "x.npz", CIFAR10)

    def chosen(seed: int) -> list[int]:
        found = drawn(StoredImages(store, CPU, 260, seed), 260).permute(0, 2, 3, 1).numpy()
        keys = {image.tobytes(): row for row, image in enumerate(images)}
        return [keys[image.tobytes()] for image in found]

    assert len(set(chosen(0))) == 260
    assert max(chosen(0)) > 500
    assert chosen(0) == chosen(0) != chosen(1)


def test_a_chunk_in_the_middle_is_read_without_those_before(tmp_path: Path) -> None:
    images = some_images(600)
    np.savez_compressed(tmp_path / "x.npz", images=images)
    model = StoredImages(open_images(tmp_path / "x.npz", CIFAR10), CPU, 600, seed=0)

    second = model.sample(*draw_latents(model, 0, 1, CHUNK))

    assert np.array_equal(second.permute(0, 2, 3, 1).numpy(), images[250:500])


def test_an_archive_is_read_at_constant_memory(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((20_000, 32, 32, 3), np.uint8))
    model = StoredImages(open_images(tmp_path / "x.npz", CIFAR10), CPU, 20_000, seed=0)

    tracemalloc.start()
    for index in range(80):
        model.sample(*draw_latents(model, 0, index, CHUNK))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 10_000_000  # all of them are 61 MB


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((4, 28, 28, 1), np.uint8)}, r"\(4, 28, 28, 1\), not \(n, 32, 32, 3\)"),
        ({"images": np.zeros((4, 32, 32, 3))}, "is float64, but pixels must be uint8"),
        ({"images": np.zeros((0, 32, 32, 3), np.uint8)}, "images is empty"),
        ({"weights": np.zeros(3)}, "has weights, but needs images"),
    ],
)
def test_an_archive_of_something_else_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)

    with pytest.raises(InputError, match=message):
        open_images(tmp_path / "x.npz", CIFAR10)


def test_a_damaged_archive_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=some_images(9))
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputError, match=r"half.npz: not a readable .npz file"):
        open_images(tmp_path / "half.npz", CIFAR10)
    with pytest.raises(InputError, match="no pictures in it"):
        open_images(tmp_path / "empty", CIFAR10)
