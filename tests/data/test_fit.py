"""Images of any size and channels become squares of one shape, or a line says what to set."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.transforms import v2

from data.loading import load, refusal
from raygen.data import DataSpec, load_data
from raygen.data.fit import Fit, fit_array, resized
from raygen.image_shape import SIZES, ImageShape

COLOUR, GREY = (3,), ()


def save(folder: Path, sizes: list[tuple[int, int]], channels: tuple[int, ...] = COLOUR) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        pixels = random.integers(0, 256, (height, width, *channels), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [COLOUR, GREY])
def test_the_shape_is_that_of_the_pictures_where_nothing_is_said(
    tmp_path: Path, size: int, channels: tuple[int, ...]
) -> None:
    data = load(save(tmp_path / "set", [(size, size)] * 4, channels))

    assert data.image == ImageShape(3 if channels else 1, size)
    assert data.test.images.shape[1:] == data.image.chw


def test_grey_pictures_become_colours_where_others_are(tmp_path: Path) -> None:
    save(tmp_path / "set" / "train", [(32, 32)] * 4, GREY)
    save(tmp_path / "set" / "test", [(32, 32)] * 2, COLOUR)

    data = load(tmp_path / "set")

    assert data.image.channels == 3
    assert torch.equal(data.train.images[:, 0], data.train.images[:, 2])
    assert not torch.equal(data.test.images[:, 0], data.test.images[:, 2])


def test_one_picture_in_colour_among_grey_ones_makes_all_of_three_channels(tmp_path: Path) -> None:
    save(tmp_path / "set", [(32, 32)] * 5, GREY)
    (save(tmp_path / "other", [(32, 32)]) / "000.png").rename(tmp_path / "set" / "003b.png")

    data = load(tmp_path / "set")
    everything = torch.cat([data.train.images, data.test.images])

    assert data.image.channels == 3
    assert int((everything[:, 0] == everything[:, 1]).flatten(1).all(dim=1).sum()) == 5


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([(28, 28)] * 3, "set/000.png: 28x28, but images must be squares of 16, 32, 64, 128, 256; "
         "set data.size, such as 32, and data.fit (crop, pad or resize), such as pad"),
        ([(178, 218)] * 3, "set/000.png: 178x218, but images must be squares of 16, 32, 64, 128, "
         "256; set data.size, such as 256, and data.fit (crop, pad or resize), such as crop"),
        ([(512, 512)] * 3, "set/000.png: 512x512, but images must be squares of 16, 32, 64, 128, "
         "256; set data.size, such as 256, and data.fit (crop, pad or resize), such as crop"),
        ([(64, 64), (32, 32)], "set/001.png: 32x32, but {}/set/000.png is 64x64; set data.size, to "
         "which all are brought"),
    ],
)  # fmt: skip
def test_a_size_that_cannot_be_learnt_is_refused_with_what_to_set(
    tmp_path: Path, sizes: list[tuple[int, int]], said: str
) -> None:
    assert refusal(save(tmp_path / "set", sizes), tmp_path) == said.replace("{}/", "")


def test_splits_of_two_sizes_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "set" / "train", [(32, 32)] * 4)
    save(tmp_path / "set" / "test", [(64, 64)] * 2)

    assert refusal(tmp_path / "set", tmp_path) == (
        "set: training images are 32x32, but those held out 64x64; set data.size, to which all are "
        "brought"
    )
    assert load(tmp_path / "set", size=16).image.size == 16


@pytest.mark.parametrize("how", ["crop", "pad", "resize"])
@pytest.mark.parametrize("size", [(40, 60), (60, 40), (20, 28), (64, 64)])
def test_every_fit_gives_the_square_and_keeps_what_it_says(how: Any, size: tuple[int, int]) -> None:
    picture = Image.fromarray(np.full((size[1], size[0], 3), 200, np.uint8))

    square = np.asarray(resized(picture, 32, how))

    assert square.shape == (32, 32, 3)
    black = (square == 0).all(axis=-1).mean()
    scale = min(1.0, 32 / max(size))
    kept = round(size[0] * scale) * round(size[1] * scale) / 32**2
    assert black == pytest.approx(1 - kept if how == "pad" else 0.0, abs=0.02)


def test_crop_is_what_torchvision_users_write() -> None:
    """Resize of the shorter side with antialiasing, then CenterCrop (Pillow, Lanczos)."""
    yy, xx = np.mgrid[:90, :120]
    pixels = np.stack([xx * 2, yy * 2, 255 - xx * 2], axis=-1).astype(np.uint8)
    picture = Image.fromarray(pixels)
    other = v2.Compose([v2.Resize(32, v2.InterpolationMode.LANCZOS), v2.CenterCrop(32)])(picture)

    ours = np.asarray(resized(picture, 32, "crop")).astype(int)

    assert np.abs(ours - np.asarray(other).astype(int)).max() <= 3


def test_padding_keeps_every_pixel_of_a_digit() -> None:
    digits = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), np.uint8)

    fitted = fit_array(digits, Fit(32, None, "pad"), "x")

    assert np.array_equal(fitted[:, :, 2:30, 2:30], digits)
    assert fitted.sum() == digits.sum()


def test_channels_are_repeated_or_weighed_as_pillow_does() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)

    grey = fit_array(colours, Fit(None, 1), "x")

    pictures = [Image.fromarray(image.transpose(1, 2, 0)).convert("L") for image in colours]
    assert np.array_equal(grey[:, 0], np.stack([np.asarray(picture) for picture in pictures]))
    assert np.array_equal(fit_array(grey, Fit(None, 3), "x"), np.repeat(grey, 3, axis=1))


@pytest.mark.parametrize("shape", [(20, 16, 16), (20, 16, 16, 1), (20, 1, 16, 16), (20, 16, 16, 3)])
def test_arrays_of_every_layout_are_the_same_pictures(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels)
    pq.write_table(pa.table({"image": pa.array(pixels.tolist())}), tmp_path / "set.parquet")

    from_npz, from_parquet = load(tmp_path / "set.npz"), load(tmp_path / "set.parquet")

    assert from_npz.image == ImageShape(3 if shape[-1] == 3 else 1, 16)
    assert from_npz.classes == ("all",)
    assert from_npz.fingerprint == from_parquet.fingerprint


def test_digits_of_scikit_learn_are_read_and_enlarged(tmp_path: Path) -> None:
    digits = load_digits()
    pixels = (digits.images * 255 / 16).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", images=pixels, labels=digits.target)

    data = load(tmp_path / "digits.npz", size=16, fit="resize")

    assert data.image == ImageShape(1, 16)
    assert data.classes == tuple("0123456789")
    assert "8x8, but images must be squares" in refusal(tmp_path / "digits.npz", tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_drawn_shapes_are_the_same_pictures_at_every_size(channels: Any) -> None:
    small, large = (
        load_data(DataSpec(source="shapes", size=size, channels=channels)) for size in (32, 64)
    )

    halved = torch.nn.functional.avg_pool2d(large.test.images[:200].float(), 2)

    assert large.image == ImageShape(channels, 64)
    assert torch.equal(small.test.labels, large.test.labels)
    assert (halved - small.test.images[:200].float()).abs().mean() < 4
