"""Grids of pictures: every image in its place, written whole."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raygen.data.decode import read_bytes
from raygen.data.pictures import save_grid, tile
from raygen.errors import InputError


def random_images(count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, 3, 32, 32), generator=random, dtype=torch.uint8)


def test_every_image_stands_at_its_row_and_column() -> None:
    images = random_images(6)

    grid = np.asarray(tile(images, columns=3))

    assert grid.shape == (64, 96, 3)
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        cell = grid[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        assert np.array_equal(cell, image.permute(1, 2, 0).numpy())


def test_the_last_row_ends_in_black() -> None:
    grid = np.asarray(tile(random_images(4), columns=3))

    assert grid.shape == (64, 96, 3)
    assert not grid[32:, 32:].any()
    assert grid[32:, :32].all()


def test_a_saved_grid_reads_back_as_it_was_and_alone_in_a_new_folder(tmp_path: Path) -> None:
    images = random_images(10)
    file = tmp_path / "new" / "folder" / "grid.png"

    save_grid(images, file, columns=5)

    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture), np.asarray(tile(images, columns=5)))
    assert os.listdir(file.parent) == ["grid.png"]


def test_a_second_grid_replaces_the_first(tmp_path: Path) -> None:
    save_grid(random_images(1), tmp_path / "grid.png", columns=1)
    save_grid(random_images(4), tmp_path / "grid.png", columns=2)

    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == (64, 64)


def test_a_file_larger_than_any_picture_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.png"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)

    with pytest.raises(InputError, match=r"huge.png: 1,099,511,627,776 bytes: a picture has"):
        read_bytes(file)
