"""Statistics of nearness, against scipy and brute force."""

import numpy as np
import pytest
import torch
from scipy import stats

from raygen.apply.augment import mean_interval
from raygen.apply.copying import (
    area,
    cluster,
    copying_test,
    mann_whitney,
    near_duplicates,
    nearer_share,
    wilson,
)
from raygen.apply.nearest import nearest, pixel_space


def test_the_nearest_is_that_of_brute_force_whatever_the_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raygen.apply.nearest.QUERIES", 7)
    monkeypatch.setattr("raygen.apply.nearest.REFERENCES", 11)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8, generator=random)
    queries, references = images[:20], images[20:]

    found = nearest(pixel_space(torch.device("cpu"), flip=False), queries, references)

    vectors = [each.flatten(1).double() for each in (queries, references)]
    distance = torch.cdist(*vectors) / (3 * 32 * 32) ** 0.5
    assert torch.equal(found.number, distance.argmin(dim=1))
    assert torch.allclose(found.distance.double(), distance.min(dim=1).values, rtol=1e-5)


def test_an_image_itself_is_left_out_and_its_mirror_image_is_found() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8, generator=random)
    itself = torch.arange(30)
    cpu = torch.device("cpu")

    alone = nearest(pixel_space(cpu, flip=False), images, images, apart=itself)
    mirrored = nearest(pixel_space(cpu, flip=True), images.flip(-1), images)
    unseen = nearest(pixel_space(cpu, flip=False), images.flip(-1), images)

    assert not (alone.number == itself).any()
    assert float(mirrored.distance.max()) == 0.0
    assert torch.equal(mirrored.number, itself)
    assert float(unseen.distance.min()) > 50


@pytest.mark.parametrize("levels", [3, 10**6])
def test_mann_whitney_and_auc_equal_scipy_with_and_without_ties(levels: int) -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(0, levels, 60) / levels, random.integers(0, levels, 45) / levels - 0.1

    truth = stats.mannwhitneyu(a, b, alternative="less", use_continuity=False, method="asymptotic")
    found = mann_whitney(a, b)
    auc = area(torch.from_numpy(a), torch.from_numpy(b), seed=0, draws=50)

    assert found.p == pytest.approx(truth.pvalue)
    assert auc["auc"] == pytest.approx(truth.statistic / (60 * 45))
    assert auc["low"] < auc["auc"] < auc["high"]


@pytest.mark.parametrize(("count", "n"), [(0, 50), (7, 40), (50, 50)])
def test_the_interval_of_a_share_is_that_of_scipy(count: int, n: int) -> None:
    truth = stats.binomtest(count, n).proportion_ci(method="wilson")

    assert wilson(count, n) == pytest.approx((truth.low, truth.high), abs=1e-6)


def test_the_interval_over_seeds_is_student_s() -> None:
    values = [0.31, 0.35, 0.36]

    found = mean_interval(values)

    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-4)
    assert mean_interval([0.5])["low"] is None


def test_copying_test_in_one_cell_is_the_mann_whitney_test_and_small_cells_do_not_count() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = torch.rand(80, generator=random), torch.rand(70, generator=random) + 0.1
    cells = torch.zeros(80, dtype=torch.long), torch.zeros(70, dtype=torch.long)
    alone = (cells[0].clone(), cells[1].clone())
    alone[0][:5], alone[1][:5] = 1, 1

    whole = mann_whitney(a.double().numpy(), b.double().numpy())

    assert copying_test(a, b, cells, 1) == pytest.approx(whole)
    without = mann_whitney(a[5:].double().numpy(), b[5:].double().numpy())
    assert copying_test(a, b, alone, 2) == pytest.approx(without)


def test_by_chance_p_of_the_copying_test_is_uniform() -> None:
    random = torch.Generator().manual_seed(1)
    ps = []
    for _ in range(200):
        a, b = torch.rand(90, generator=random), torch.rand(90, generator=random)
        cells = torch.arange(90) % 3
        ps.append(copying_test(a, b, (cells, cells), 3).p)

    assert stats.kstest(ps, "uniform").pvalue > 0.01


def test_ties_are_neither_nearer_to_the_one_nor_to_the_other() -> None:
    same = torch.ones(100)

    found = nearer_share(same, same)

    assert (found["share"], found["p"]) == (0.5, 0.5)


def test_k_means_finds_groups_that_are_far_apart() -> None:
    random = torch.Generator().manual_seed(0)
    groups = [torch.randn(40, 2, generator=random) + 50 * k for k in (0, 1)]

    centres = cluster(torch.cat(groups), 2, seed=0)

    means = torch.stack([group.mean(dim=0) for group in groups])
    assert torch.allclose(centres[centres[:, 0].argsort()], means, atol=1e-4)


@pytest.mark.parametrize("held_out", [100, 400])
def test_near_duplicates_by_chance_are_as_many_as_p_says(held_out: int) -> None:
    random = torch.Generator().manual_seed(2)
    draws = [
        near_duplicates(torch.rand(300, generator=random), torch.rand(held_out, generator=random))
        for _ in range(1000)
    ]

    shares = [sum(draw["p"] <= level for draw in draws) / 1000 for level in (0.01, 0.05, 0.5)]

    assert shares[0] < 0.02
    assert 0.015 < shares[1] < 0.065
    assert 0.35 < shares[2] < 0.54
    mean = sum(draw["rate"] for draw in draws) / 1000
    assert mean == pytest.approx(draws[0]["expected"], rel=0.15)
