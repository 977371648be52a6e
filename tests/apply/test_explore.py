"""Truncation, interpolation, mosaics, and the search for a picture."""

from pathlib import Path

import pytest
import torch
from scipy import stats

from apply.models import shapes, write_checkpoint
from raygen.apply.explore import (
    around,
    mosaic,
    read_square,
    resembling,
    scaled,
    slerp,
    strips,
    truncated,
)
from raygen.data.pictures import save_grid
from raygen.errors import InputError
from raygen.image_shape import CIFAR10
from raygen.training.checkpoint import load_sampler

CPU = torch.device("cpu")


def test_truncated_latents_are_distributed_as_if_drawn_again_while_outside() -> None:
    latents = torch.randn(20_000, generator=torch.Generator().manual_seed(0))

    found = truncated(latents, 0.7)

    assert float(found.abs().max()) <= 0.7
    assert stats.kstest(found.numpy(), stats.truncnorm(-0.7, 0.7).cdf).pvalue > 0.01
    assert torch.equal(found.argsort(), latents.argsort())
    assert torch.allclose(truncated(latents, 40.0), latents, atol=1e-4)


def test_a_temperature_scales_the_standard_deviation() -> None:
    assert torch.equal(scaled(torch.tensor([2.0, -1.0]), 0.5), torch.tensor([1.0, -0.5]))


def test_slerp_moves_by_equal_angles_and_keeps_the_length() -> None:
    one, other = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])

    way = torch.stack([slerp(one, other, k / 4) for k in range(5)])

    angles = torch.arange(5) * torch.pi / 8
    truth = 2 * torch.stack([angles.cos(), angles.sin(), torch.zeros(5)], dim=1)
    assert torch.allclose(way, truth, atol=1e-6)
    assert torch.allclose(slerp(one, 2 * one, 0.5), 1.5 * one)


def test_strips_begin_at_each_latent_and_lead_back_to_the_first() -> None:
    latents = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(5)
    chunks = [(latents[:2], labels[:2]), (latents[2:], labels[2:])]

    parts = list(strips(chunks, frames=4))

    assert torch.allclose(torch.stack([part[0][0] for part in parts]), latents, atol=1e-5)
    assert [part[1].tolist() for part in parts] == [[k] * 4 for k in range(5)]
    last = parts[-1][0][-1]
    assert torch.allclose(last, slerp(latents[4], latents[0], 0.75), atol=1e-6)


def test_a_mosaic_has_the_picture_in_its_corner_and_no_seams() -> None:
    image = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))

    found = mosaic(image.byte(), 4)

    assert found.shape == (1, 3, 128, 128)
    assert torch.equal(found[..., :32, :32], image.byte())
    for seam in (32, 64, 96, 0):  # at 0 it meets its own repetition
        assert torch.equal(found[..., seam], found[..., seam - 1])
        assert torch.equal(found[..., seam, :], found[..., seam - 1, :])


def test_around_a_latent_the_first_is_the_latent_and_the_rest_is_as_long_as_the_prior() -> None:
    middle = torch.randn(400, generator=torch.Generator().manual_seed(0))

    found = around(middle, 50, 0.6, seed=1)

    assert torch.equal(found[0], middle)
    assert float(found[1:].square().mean()) == pytest.approx(1, abs=0.1)
    cosine = torch.nn.functional.cosine_similarity(found[1:], middle.unsqueeze(0))
    assert float(cosine.mean()) == pytest.approx(0.8, abs=0.05)


def test_a_picture_of_any_size_becomes_its_middle_square(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))
    picture.save(tmp_path / "wide.png")

    found = read_square(tmp_path / "wide.png", CIFAR10)

    assert found.shape == (1, 3, 32, 32)
    assert found[0, :, 16, 16].tolist() == [0, 0, 255]
    assert bool((found[0, 2] > 200).all())
    with pytest.raises(InputError, match="no such file"):
        read_square(tmp_path / "nothing.png", CIFAR10)


def test_a_gan_finds_a_picture_that_it_drew_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raygen.apply.explore.STEPS", 60)
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", shapes(32, 16), conditional=True)
    learner, _ = load_sampler(path, CPU)
    hidden = torch.randn(40, 8, generator=torch.Generator().manual_seed(3))
    drawn = learner.sample(hidden, torch.full((40,), 2))
    save_grid(drawn[:1], tmp_path / "own.png", columns=1)

    latent, label = resembling(learner, read_square(tmp_path / "own.png", CIFAR10), 0, label=None)

    found = learner.sample(latent.unsqueeze(0), torch.tensor([label])).float()
    error = (found - drawn[:1]).square().mean()
    others = (drawn[1:].float() - drawn[:1]).square().mean(dim=(1, 2, 3))
    assert float(error) < 0.5 * float(others.min())


def test_a_vae_encodes_the_picture(tmp_path: Path) -> None:
    data = shapes(32, 16)
    learner, _ = load_sampler(write_checkpoint(tmp_path / "v.pt", "conv_vae", data), CPU)
    picture = data.test.images[:1]

    latent, _ = resembling(learner, picture, 0, label=None)

    assert torch.equal(latent, learner.shift(picture)[0])  # pyright: ignore
