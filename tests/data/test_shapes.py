"""Drawn shapes: always the same, evenly mixed, visible, and ten different ones."""

import numpy as np
import pytest

from raygen.data import DataSpec, load_data
from raygen.data.shapes import SHAPES, draw_shapes


def contrast(images: np.ndarray) -> np.ndarray:
    """Largest difference within one row and channel: in a row, paper has one colour and ink too."""
    rows = images.astype(int)
    return (rows.max(axis=3) - rows.min(axis=3)).max(axis=(1, 2))


def test_the_same_seed_draws_the_same_pictures() -> None:
    one, other = draw_shapes(100, seed=3), draw_shapes(100, seed=3)

    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


def test_another_seed_draws_other_pictures() -> None:
    one, other = draw_shapes(100, seed=3)[0], draw_shapes(100, seed=4)[0]

    assert (one != other).any(axis=(1, 2, 3)).all()


def test_pictures_are_32_by_32_in_eight_bits() -> None:
    images, labels = draw_shapes(20, seed=0)

    assert (images.shape, images.dtype) == ((20, 3, 32, 32), np.uint8)
    assert (labels.shape, labels.dtype) == ((20,), np.int64)


@pytest.mark.parametrize("count", [10, 100, 4096])
def test_the_ten_classes_are_even_to_within_one(count: int) -> None:
    counts = np.bincount(draw_shapes(count, seed=1)[1], minlength=10)

    assert len(counts) == len(SHAPES) == 10
    assert counts.max() - counts.min() <= 1


def test_classes_are_mixed_and_not_in_order() -> None:
    labels = draw_shapes(1000, seed=1)[1]

    assert len(set(labels[:50])) > 5
    assert not np.array_equal(labels, np.sort(labels))


@pytest.mark.parametrize("label", range(10), ids=list(SHAPES))
def test_every_shape_stands_out_from_its_paper_by_a_quarter_of_the_range(label: int) -> None:
    images, labels = draw_shapes(1000, seed=5)

    assert contrast(images[labels == label]).min() >= 64


@pytest.mark.parametrize("label", range(10), ids=list(SHAPES))
def test_every_shape_covers_a_visible_part_and_leaves_paper(label: int) -> None:
    """Ink is the only flat colour of a picture, but for paper that is not shaded."""
    images, labels = draw_shapes(1000, seed=5)
    shares = []
    for picture in images[labels == label]:
        border = np.concatenate([picture[:, :, 0], picture[:, :, -1]], axis=1).T
        inked = np.abs(picture.transpose(1, 2, 0)[:, :, None].astype(int) - border).max(-1) > 40
        shares.append(inked.all(axis=2).mean())

    assert np.mean(shares) > 0.05
    assert max(shares) < 0.9


def test_two_classes_in_one_place_are_two_pictures() -> None:
    """Each shape holds a point on its own side of every other: no two distance fields agree."""
    import torch

    axis = torch.linspace(-1, 1, 41)
    inside = [shape(axis.view(1, 1, -1), axis.view(1, -1, 1)) < 0 for shape in SHAPES.values()]

    for i, one in enumerate(inside):
        assert 0.1 < one.float().mean() < 0.9
        for other in inside[:i]:
            assert (one ^ other).float().mean() > 0.05


def test_the_data_set_has_both_splits_without_a_common_picture() -> None:
    data = load_data(DataSpec(source="shapes"))

    assert data.classes == tuple(SHAPES)
    assert (len(data.train.labels), len(data.test.labels)) == (4096, 1024)
    train = {image.numpy().tobytes() for image in data.train.images}
    assert len(train) == 4096
    assert not any(image.numpy().tobytes() in train for image in data.test.images)


def test_a_limit_keeps_as_many_pictures_with_their_labels_and_the_whole_test_split() -> None:
    whole, part = (
        load_data(DataSpec(source="shapes")),
        load_data(DataSpec(source="shapes", limit=100)),
    )
    label_of = {
        image.numpy().tobytes(): int(label)
        for image, label in zip(whole.train.images, whole.train.labels, strict=True)
    }

    assert len(part.train.labels) == 100
    assert len(part.test.labels) == 1024
    for image, label in zip(part.train.images, part.train.labels, strict=True):
        assert label_of[image.numpy().tobytes()] == int(label)


def test_the_fingerprint_follows_the_pictures() -> None:
    whole = load_data(DataSpec(source="shapes"))
    again = load_data(DataSpec(source="shapes"))
    part = load_data(DataSpec(source="shapes", limit=100))

    assert whole.fingerprint == again.fingerprint != part.fingerprint
    assert whole.summary()["train"] == 4096
