"""Kernel distance, inception score and MIND against closed forms and other libraries."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from raygen.metrics.inception_score import inception_score
from raygen.metrics.kernel import kernel_distance, polynomial_kernel, squared_mmd
from raygen.metrics.mind import mind


def normal(count: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)) + shift


def test_the_squared_mmd_is_the_sum_over_pairs_of_different_images() -> None:
    x, y = normal(7, 3, 0).double(), normal(7, 3, 1, shift=0.5).double()

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    inside = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs) / 42
    across = sum(kernel(a, b) for a in x for b in y) / 49
    assert float(squared_mmd(x, y)) == pytest.approx(inside - 2 * across, rel=1e-12)
    assert polynomial_kernel(x, y).shape == (7, 7)


def test_the_kernel_distance_is_that_of_torch_fidelity_with_the_same_subsets() -> None:
    module = pytest.importorskip("torch_fidelity.metric_kid")
    fake, real = normal(300, 16, 0, shift=0.4).double(), normal(400, 16, 1).double()

    ours = kernel_distance(fake, real, subsets=20, size=100)

    settings = {"kid_subsets": 20, "kid_subset_size": 100, "rng_seed": 2020, "verbose": False}
    theirs = module.kid_features_to_metric(fake, real, **settings)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    assert ours.spread == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-10)


def test_two_samples_of_one_distribution_are_at_a_distance_of_zero_on_average() -> None:
    """Unbiased: without the diagonal it would be far above."""
    found = [kernel_distance(normal(60, 8, k), normal(60, 8, 100 + k), 1).mean for k in range(60)]

    assert abs(np.mean(found)) < 3 * np.std(found) / 60**0.5
    assert min(found) < 0


def test_the_error_of_a_kernel_distance_is_its_scatter_over_samples() -> None:
    found = [
        kernel_distance(normal(600, 8, k, 0.3), normal(20_000, 8, 99)[:600], 30, size=200)
        for k in range(40)
    ]

    scatter = np.std([one.mean for one in found])
    assert 0.4 < np.mean([one.error or 0 for one in found]) / scatter < 2.5


def test_sure_and_evenly_spread_labels_score_the_number_of_classes() -> None:
    logits = 100 * torch.eye(8).repeat(50, 1)

    assert inception_score(logits, splits=1).mean == pytest.approx(8.0)
    assert inception_score(torch.zeros(400, 8)).mean == pytest.approx(1.0)
    assert inception_score(torch.zeros(400, 8)).spread == pytest.approx(0.0, abs=1e-12)


def test_the_inception_score_is_that_of_torch_fidelity() -> None:
    module = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 3 * normal(523, 12, 0)

    ours = inception_score(logits)

    theirs = module.isc_features_to_metric(logits)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours.spread == pytest.approx(theirs["inception_score_std"], rel=1e-9)


def test_mind_of_a_shift_is_three_times_its_square() -> None:
    """A shift s moves the projection on u by u s, whose square is |s|^2 / d on average."""
    features = normal(200, 24, 0).double()
    shift = torch.full((24,), 0.5, dtype=torch.float64)

    found = mind(features + shift, features)

    assert found == pytest.approx(3 * float(shift.square().sum()), rel=0.15)
    assert mind(features, features.flip(0)) == pytest.approx(0.0, abs=1e-20)


def test_mind_of_two_scales_in_one_dimension_is_the_wasserstein_distance_of_gaussians() -> None:
    x = torch.special.ndtri((torch.arange(5000).double() + 0.5) / 5000).unsqueeze(1)

    assert mind(2 * x, x) / 3 == pytest.approx(1.0, rel=1e-3)
    assert math.isclose(mind(2 * x, x), mind(x, 2 * x), rel_tol=1e-12)
