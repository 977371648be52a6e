"""Precision, recall, density and coverage against brute force, and in cases one can draw."""

import numpy as np
import pytest
import torch
from torch import Tensor

from raygen.metrics import neighbours
from raygen.metrics.neighbours import neighbourhoods


def normal(count: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def brute_force(fake: np.ndarray, real: np.ndarray, k: int) -> list[np.ndarray]:
    """The definitions, one image at a time."""

    def gaps(x: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.sqrt(((points - x) ** 2).sum(axis=1))

    real_radii = np.array([np.sort(gaps(x, real))[k] for x in real])
    fake_radii = np.array([np.sort(gaps(x, fake))[k] for x in fake])
    return [
        np.array([(gaps(x, real) <= real_radii).any() for x in fake]),
        np.array([(gaps(x, fake) <= fake_radii).any() for x in real]),
        np.array([(gaps(x, real) < real_radii).sum() / k for x in fake]),
        np.array([gaps(x, fake).min() < r for x, r in zip(real, real_radii, strict=True)]),
    ]


@pytest.mark.parametrize("strip", [2**24, 700])
def test_all_four_are_those_of_the_definitions_in_strips_of_any_size(
    strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "STRIP", strip)
    fake, real = normal(150, 0, scale=1.6), normal(210, 1)

    found = neighbourhoods(fake, real, manifold=4, balls=4)

    expected = brute_force(fake.double().numpy(), real.double().numpy(), k=4)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs)


def test_precision_and_recall_are_those_of_torch_fidelity() -> None:
    module = pytest.importorskip("torch_fidelity.metric_prc")
    fake, real = normal(300, 0, scale=1.4), normal(300, 1)

    found = neighbourhoods(fake, real)

    precision, recall = module.calculate_precision_recall_full(fake, real)
    assert float(found.precision.mean()) == pytest.approx(precision, rel=1e-6)
    assert float(found.recall.mean()) == pytest.approx(recall, rel=1e-6)


def test_one_good_image_again_and_again_is_precise_and_covers_nothing() -> None:
    real = normal(500, 1)
    same = real[:1] + 1e-3 * normal(500, 2)

    found = neighbourhoods(same, real)

    assert found.precision.mean() == 1
    assert found.recall.mean() < 0.05
    assert found.coverage.mean() < 0.1


def test_real_images_have_a_density_and_a_coverage_near_one() -> None:
    found = neighbourhoods(normal(2000, 0), normal(2000, 1))

    assert float(found.density.mean()) == pytest.approx(1.0, abs=0.05)
    # Naeem et al. 2020, equation 8: 1 - (n - 1)...(n - k) / (2n - 1)...(2n - k).
    assert float(found.coverage.mean()) == pytest.approx(1 - 0.5**5, abs=0.02)
