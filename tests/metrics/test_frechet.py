"""The Fréchet distance against closed forms, numpy and torch-fidelity."""

import numpy as np
import pytest
import torch
from torch import Tensor

from raygen.metrics.frechet import (
    FeatureMoments,
    FeatureStats,
    Grouped,
    frechet_distance,
    frechet_error,
    frechet_infinity,
    symmetric_root,
)

CPU = torch.device("cpu")


def _stats(mean: Tensor, cov: Tensor) -> FeatureStats:
    return FeatureStats(mean.double(), cov.double(), 100)


def stats_of(features: Tensor) -> FeatureStats:
    moments = FeatureMoments(features.shape[1], CPU)
    moments.add(features)
    return moments.stats()


def _random(dim: int, seed: int, rank: int | None = None) -> FeatureStats:
    """A random mean and a random covariance of the given rank."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(dim, rank or 2 * dim, dtype=torch.float64, generator=generator)
    mean = torch.randn(dim, dtype=torch.float64, generator=generator)
    return FeatureStats(mean, factor @ factor.mT / dim, 100)


def test_shifting_a_gaussian_by_two_in_three_dims_gives_distance_twelve() -> None:
    a, b = _stats(torch.zeros(3), torch.eye(3)), _stats(torch.full((3,), 2.0), torch.eye(3))

    assert frechet_distance(a, b) == pytest.approx(12.0)


@pytest.mark.parametrize(("first", "second"), [(1.0, 9.0), (4.0, 0.25), (2.0, 0.0)])
def test_scaled_covariances_differ_by_the_squared_difference_of_their_roots(
    first: float, second: float
) -> None:
    mean, eye = torch.zeros(5), torch.eye(5)

    distance = frechet_distance(_stats(mean, first * eye), _stats(mean, second * eye))

    assert distance == pytest.approx(5 * (first**0.5 - second**0.5) ** 2)


def test_diagonal_covariances_add_up_over_the_axes() -> None:
    a, b = torch.rand(6).double() + 0.1, torch.rand(6).double() + 0.1
    zero = torch.zeros(6)

    distance = frechet_distance(_stats(zero, a.diag()), _stats(zero, b.diag()))

    assert distance == pytest.approx(float((a.sqrt() - b.sqrt()).square().sum()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dim", [2, 16, 64])
def test_the_distance_is_that_of_torch_fidelity(dim: int, seed: int) -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = _random(dim, seed), _random(dim, seed + 100)

    theirs = fid.fid_statistics_to_metric(*map(_as_numpy, (a, b)), verbose=False)

    assert frechet_distance(a, b) == pytest.approx(theirs[fid.KEY_METRIC_FID], rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_is_that_of_torch_fidelity_for_covariances_without_full_rank(
    seed: int,
) -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = _random(32, seed, rank=8), _random(32, seed + 100, rank=8)

    theirs = fid.fid_statistics_to_metric(*map(_as_numpy, (a, b)), verbose=False)

    # Roots of eigenvalues that are zero but for rounding: 1e-16 becomes 1e-8, on both sides.
    assert frechet_distance(a, b) == pytest.approx(theirs[fid.KEY_METRIC_FID], rel=1e-6)


@pytest.mark.parametrize("rank", [8, 64])
def test_the_distance_of_a_gaussian_to_itself_is_zero(rank: int) -> None:
    a = _random(32, 0, rank)

    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6 * float(a.cov.trace()))


def test_the_distance_is_symmetric_in_its_arguments() -> None:
    a, b = _random(24, 0), _random(24, 1)

    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)


def test_a_rotation_of_both_gaussians_does_not_change_the_distance() -> None:
    a, b = _random(12, 0), _random(12, 1)
    turn, _ = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))

    turned = [FeatureStats(turn @ s.mean, turn @ s.cov @ turn.mT, s.count) for s in (a, b)]

    assert frechet_distance(*turned) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_a_root_made_beforehand_gives_the_same_distance() -> None:
    a, b = _random(24, 0), _random(24, 1)

    assert frechet_distance(a, b, symmetric_root(a.cov)) == frechet_distance(a, b)


@pytest.mark.parametrize("rank", [4, 40])
def test_the_symmetric_root_squared_is_the_matrix(rank: int) -> None:
    cov = _random(20, 3, rank).cov

    root = symmetric_root(cov)

    assert torch.allclose(root @ root, cov, atol=1e-10)
    assert torch.allclose(root, root.mT, atol=1e-12)
    assert torch.linalg.eigvalsh(root).min() > -1e-7


@pytest.mark.parametrize("sizes", [[500], [1, 499], [7, 250, 3, 240], [50] * 10])
def test_moments_of_uneven_chunks_are_those_of_numpy(sizes: list[int]) -> None:
    features = torch.randn(500, 9, generator=torch.Generator().manual_seed(0)) * 3 + 10
    moments = FeatureMoments(9, CPU)

    for chunk in features.split(sizes):
        moments.add(chunk)
    stats = moments.merged().stats()

    exact = features.double().numpy()
    np.testing.assert_allclose(stats.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats.cov, np.cov(exact, rowvar=False, ddof=1), atol=1e-10)
    assert stats.count == 500
    assert stats.mean.dtype == stats.cov.dtype == torch.float64


def test_the_distance_of_large_samples_approaches_that_of_their_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    moments = []
    for shift, scale in ((0.0, 1.0), (1.0, 2.0)):
        moments.append(FeatureMoments(4, CPU))
        moments[-1].add(torch.randn(200_000, 4, generator=generator) * scale + shift)

    distance = frechet_distance(moments[0].stats(), moments[1].stats())

    assert distance == pytest.approx(4 * 1.0 + 4 * (2 - 1) ** 2, rel=0.02)


def _as_numpy(stats: FeatureStats) -> dict[str, np.ndarray]:
    return {"mu": stats.mean.numpy(), "sigma": stats.cov.numpy()}


def test_the_standard_error_is_the_scatter_of_the_distance_over_other_samples() -> None:
    random = torch.Generator().manual_seed(3)
    mix = torch.randn(5, 5, generator=random, dtype=torch.float64)
    real = torch.randn(20_000, 5, generator=random, dtype=torch.float64)
    reference = stats_of(real)
    root = symmetric_root(reference.cov)
    distances, errors = [], []
    for _ in range(300):
        grouped = Grouped(5, CPU)
        for chunk in range(16):
            latents = torch.randn(250, 5, generator=random, dtype=torch.float64)
            grouped.add(chunk, latents @ mix + 0.3)
        distances.append(frechet_distance(reference, grouped.stats(), root))
        error = frechet_error(reference, grouped, root)
        assert error is not None
        errors.append(error**2)

    scatter = torch.tensor(distances).std()
    assert torch.tensor(errors).mean().sqrt() == pytest.approx(float(scatter), rel=0.1)


def test_groups_add_up_to_the_whole_and_two_chunks_give_no_error() -> None:
    random = torch.Generator().manual_seed(4)
    features = torch.randn(500, 3, generator=random, dtype=torch.float64)
    grouped = Grouped(3, CPU)
    for index, chunk in enumerate(features.split(250)):
        grouped.add(index, chunk)
    whole = stats_of(features)

    torch.testing.assert_close(grouped.stats().cov, whole.cov)
    assert frechet_error(whole, grouped, symmetric_root(whole.cov)) is None


def test_the_limit_of_infinitely_many_samples_has_no_bias_where_the_plain_distance_has() -> None:
    """Gaussians of known distance: with 4,000 samples of 40 dimensions the bias is about 0.1."""
    dim, chunk = 40, 250
    exact = FeatureStats(torch.zeros(dim).double(), torch.eye(dim).double(), 10**9)
    truth, plain, limits = dim * (1.2 - 1) ** 2, [], []
    for seed in range(12):
        random = torch.Generator().manual_seed(seed)
        grouped = Grouped(dim, CPU)
        for index in range(4000 // chunk):
            grouped.add(index, 1.2 * torch.randn(chunk, dim, generator=random))
        root = symmetric_root(exact.cov)
        plain.append(frechet_distance(exact, grouped.stats(), root))
        limits.append(frechet_infinity(exact, grouped, root))

    spread = np.std(limits) / len(limits) ** 0.5
    assert np.mean(limits) == pytest.approx(truth, abs=4 * spread)
    assert np.mean(plain) - truth > 10 * abs(np.mean(limits) - truth)


def test_parts_of_a_sample_are_disjoint_and_together_the_whole() -> None:
    features = torch.randn(2000, 3, dtype=torch.float64)
    grouped = Grouped(3, CPU)
    for index, part in enumerate(features.split(250)):
        grouped.add(index, part)

    halves = grouped.parts(2)

    assert [part.count for part in halves] == [1000, 1000]
    assert torch.allclose((halves[0].mean + halves[1].mean) / 2, features.mean(dim=0))
    assert torch.allclose(grouped.parts(1)[0].cov, features.T.cov())
