"""Batches: every image once an epoch, a pure function of seed and position, the same on ranks."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from raygen.data import Split, batches
from raygen.data.batches import Batches, to_model_range, to_pixels

CPU = torch.device("cpu")


def split(count: int) -> Split:
    """Image k has k in its first pixel and the label k; its columns differ, so flips show."""
    images = torch.zeros(count, 3, 32, 32, dtype=torch.uint8)
    images[..., 31] = 255
    images[:, 0, 0, 1] = torch.arange(count).byte()
    return Split(images, torch.arange(count))


def labels(stream: Batches, position: int) -> list[int]:
    return stream.at(position)[1].tolist()


def mirrored(images: Tensor) -> Tensor:
    """Whether the bright column of `split` stands on the left."""
    return images[:, 0, 5, 0] > 0


def test_an_epoch_shows_every_image_once() -> None:
    stream = Batches(split(60), 12, seed=0, device=CPU)

    for epoch in range(3):
        seen = [k for step in range(5) for k in labels(stream, epoch * 60 + step * 12)]
        assert sorted(seen) == list(range(60))


def test_two_epochs_have_two_orders() -> None:
    stream = Batches(split(60), 60, seed=0, device=CPU)

    assert labels(stream, 0) != labels(stream, 60)


def test_an_image_keeps_its_label() -> None:
    images, found = Batches(split(60), 20, seed=0, device=CPU, flip=False).at(0)

    assert to_pixels(images)[:, 0, 0, 1].tolist() == found.tolist()


def test_the_same_seed_and_position_give_the_same_batch() -> None:
    one = Batches(split(60), 8, seed=5, device=CPU)
    other = Batches(split(60), 8, seed=5, device=CPU)
    for position in range(0, 200, 8):
        one.at(position)

    # In another order, as after a resume.
    for position in (200, 56, 0, 120):
        assert all(map(torch.equal, one.at(position), other.at(position)))


def test_two_seeds_give_two_orders() -> None:
    one, other = (Batches(split(60), 60, seed=seed, device=CPU) for seed in (0, 1))

    assert labels(one, 0) != labels(other, 0)


def test_a_batch_across_the_end_of_an_epoch_takes_the_head_of_the_next() -> None:
    stream = Batches(split(10), 10, seed=0, device=CPU)
    first, second = labels(stream, 0), labels(stream, 10)

    assert labels(stream, 7) == first[7:] + second[:7]


def test_batches_larger_than_the_data_run_over_whole_epochs() -> None:
    stream = Batches(split(4), 10, seed=0, device=CPU)

    found = labels(stream, 0)

    assert sorted(found[:4]) == sorted(found[4:8]) == [0, 1, 2, 3]
    assert len(found) == 10


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("position", [0, 8, 50, 56, 64])
def test_the_shares_of_all_ranks_are_together_the_batch_of_one(
    monkeypatch: pytest.MonkeyPatch, ranks: int, position: int
) -> None:
    whole = Batches(split(58), 8, seed=3, device=CPU).at(position)

    monkeypatch.setattr(batches, "world_size", lambda: ranks)
    shares = []
    for number in range(ranks):
        monkeypatch.setattr(batches, "rank", lambda number=number: number)
        shares.append(Batches(split(58), 8, seed=3, device=CPU).at(position))

    assert torch.equal(torch.cat([images for images, _ in shares]), whole[0])
    assert torch.equal(torch.cat([found for _, found in shares]), whole[1])


def test_about_half_of_the_images_are_flipped() -> None:
    images, _ = Batches(split(250), 250, seed=0, device=CPU).at(0)
    count = int(mirrored(images).sum())

    # Five standard deviations of 250 fair coins.
    assert abs(count - 125) < 40


def test_a_flip_mirrors_the_columns_and_nothing_else() -> None:
    data = Split(torch.arange(3072).remainder(256).view(1, 3, 32, 32).byte(), torch.zeros(1).long())
    plain = data.images[0].float() / 127.5 - 1
    stream = Batches(data, 1, seed=0, device=CPU)

    seen = [stream.at(position)[0][0] for position in range(20)]

    assert all(torch.equal(x, plain) or torch.equal(x, plain.flip(2)) for x in seen)
    assert any(not torch.equal(a, b) for a, b in pairwise(seen))


def test_an_image_is_flipped_anew_in_every_epoch() -> None:
    stream = Batches(split(64), 64, seed=0, device=CPU)
    sides = []
    for epoch in range(2):
        images, found = stream.at(64 * epoch)
        sides.append(mirrored(images)[found.argsort()])

    assert not torch.equal(*sides)


def test_without_flips_none_is_flipped() -> None:
    images, _ = Batches(split(100), 100, seed=0, device=CPU, flip=False).at(0)

    assert not mirrored(images).any()


def test_values_span_minus_one_to_one() -> None:
    images, _ = Batches(split(50), 50, seed=0, device=CPU).at(0)

    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)


def test_all_256_levels_survive_the_way_to_the_model_and_back() -> None:
    levels = torch.arange(256).byte().view(1, 1, 16, 16)

    assert torch.equal(to_pixels(to_model_range(levels)), levels)


def test_pixels_beyond_the_range_are_clipped_and_others_rounded_to_the_nearest() -> None:
    values = torch.tensor([-3.0, -1.0, 1 / 255 + 0.003, 1 / 255 - 0.003, 1.0, 7.0])

    assert to_pixels(values).tolist() == [0, 0, 128, 128, 255, 255]
