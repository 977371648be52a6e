"""The race against closed forms and tables of Student's t."""

import math

import numpy as np
import pytest
from scipy import stats

from raygen.posterior import difference, holm, posterior, scatters, t_quantile

# Any table of the two-sided 95% point of Student's t.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 10: 2.228, 30: 2.042, 120: 1.980}
NOISE = 0.01  # of a probability estimated from 20,000 draws: three standard errors


@pytest.mark.parametrize(("freedom", "expected"), TABLE.items())
def test_the_quantile_is_that_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=5e-4)


def test_the_interval_is_student_s_with_the_pooled_variance_as_one_more_value() -> None:
    # Variances 1 and 4 pool to 2.5: (2.5 + 2 * 1) / 3 and (2.5 + 2 * 4) / 3, 3 degrees of freedom.
    judged = posterior({7: [9.0, 10.0, 11.0], 3: [18.0, 20.0, 22.0]}, minimise=True)
    halves = {7: 3.182 * math.sqrt(1.5 / 3), 3: 3.182 * math.sqrt(3.5 / 3)}

    assert judged.mean == {7: 10.0, 3: 20.0}
    assert judged.sd == {7: pytest.approx(1.0), 3: pytest.approx(2.0)}
    for name, half in halves.items():
        assert judged.low[name] == pytest.approx(judged.mean[name] - half, abs=1e-3)
        assert judged.high[name] == pytest.approx(judged.mean[name] + half, abs=1e-3)


def test_a_difference_has_welch_s_interval_where_variances_are_known_as_well() -> None:
    one, other = [4.0, 8.0, 9.0, 3.0], [9.0, 12.0, 15.0]
    spread = scatters({0: one, 1: other})
    low, high = difference({0: one, 1: other}, 0, 1)
    parts = [spread[0].variance / 4, spread[1].variance / 3]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 3)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))

    assert (low + high) / 2 == pytest.approx(6 - 12)
    assert (high - low) / 2 == pytest.approx(half, rel=1e-4)
    assert all(map(math.isnan, difference({0: [1.0], 1: [2.0]}, 0, 1)))
    assert difference({0: [1.0, 1.0], 1: [3.0, 3.0]}, 0, 1) == (-2.0, -2.0)


def test_p_values_are_those_of_scipy_after_holm() -> None:
    values = {0: [4.0, 5.0, 6.0], 1: [6.0, 8.0, 10.0], 2: [5.0, 5.5, 7.0], 3: [9.0, 9.5, 10.0]}
    plain = {}
    spread = scatters(values)
    for name in (1, 2, 3):
        parts = [spread[one].variance / 3 for one in (0, name)]
        freedom = sum(parts) ** 2 / sum(part**2 / 3 for part in parts)
        t = (np.mean(values[name]) - 5) / math.sqrt(sum(parts))
        plain[name] = 2 * stats.t.sf(t, freedom)
    least, middle, most = sorted(plain, key=plain.__getitem__)
    steps = [3 * plain[least], max(3 * plain[least], 2 * plain[middle])]
    steps.append(max(steps[1], plain[most]))

    adjusted = holm(values, 0)

    for name, p in zip((least, middle, most), steps, strict=True):
        assert adjusted[name] == pytest.approx(min(1.0, p), rel=1e-3)
    assert holm({0: [1.0, 1.0], 1: [1.0, 1.0], 2: [2.0, 2.0]}, 0) == {1: 1.0, 2: 0.0}


def test_two_candidates_with_equal_values_are_equally_likely_the_best() -> None:
    found = posterior({0: [1.0, 2.0, 3.0], 1: [1.0, 2.0, 3.0]}, minimise=True)

    assert found.best[0] == pytest.approx(0.5, abs=NOISE)
    assert sum(found.best.values()) == pytest.approx(1)


def test_the_probability_of_the_better_of_two_is_that_of_two_students() -> None:
    apart = 1.0
    judged = posterior({0: [4.0, 5.0, 6.0], 1: [4 + apart, 5 + apart, 6 + apart]}, minimise=True)
    # Variance 1 and 3 degrees of freedom each: the share of pairs by integration over one of them.
    error, grid = math.sqrt(1 / 3), np.linspace(-60, 60, 200_001)
    below = stats.t.cdf(grid + apart / error, 3)
    expected = float(np.sum(stats.t.pdf(grid, 3) * below) * (grid[1] - grid[0]))

    assert judged.best[0] == pytest.approx(expected, abs=NOISE)


def test_maximising_is_the_mirror_of_minimising() -> None:
    values = {0: [1.0, 2.5], 1: [2.0, 2.2, 3.0], 2: [4.0]}
    mirrored = {name: [-value for value in group] for name, group in values.items()}
    found, other = posterior(values, minimise=True), posterior(mirrored, minimise=False)

    assert other.best == found.best
    assert other.low == {name: -high for name, high in found.high.items()}


def test_a_single_value_borrows_the_scatter_of_the_others() -> None:
    judged = posterior({0: [5.0], 1: [9.0, 10.0, 11.0]}, minimise=True)

    assert math.isnan(judged.sd[0])
    assert judged.high[0] - 5.0 == pytest.approx(12.706, abs=1e-3)  # 1 degree of freedom, n = 1
    assert judged.best[0] > 0.9


def test_one_value_each_gives_no_interval_and_no_probability() -> None:
    found = posterior({0: [5.0], 1: [9.0]}, minimise=True)

    assert found.mean == {0: 5.0, 1: 9.0}
    assert all(map(math.isnan, [*found.low.values(), *found.high.values(), *found.best.values()]))


def test_a_candidate_without_a_value_is_never_the_best() -> None:
    found = posterior({0: [], 1: [2.0, 3.0]}, minimise=True)

    assert math.isnan(found.mean[0])
    assert found.best == {0: 0.0, 1: 1.0}
    assert posterior({}, minimise=True).best == {}


def test_values_without_any_scatter_decide_and_ties_are_shared() -> None:
    found = posterior({0: [1.0, 1.0], 1: [2.0, 2.0], 2: [1.0, 1.0]}, minimise=True)

    assert found.best == {0: 0.5, 1: 0.0, 2: 0.5}
    assert found.low == found.high == found.mean


def test_the_best_of_many_is_found_as_often_as_is_claimed() -> None:
    rng = np.random.default_rng(5)
    claimed, right = [], []
    for _ in range(200):
        truth = rng.normal(0, 1, 4)
        values = {i: (mean + rng.normal(0, 1, 3)).tolist() for i, mean in enumerate(truth)}
        found = posterior(values, minimise=True)
        chosen = max(found.best, key=found.best.__getitem__)
        claimed.append(found.best[chosen])
        right.append(chosen == truth.argmin())

    assert np.mean(right) == pytest.approx(np.mean(claimed), abs=0.1)


def test_the_same_values_give_the_same_answer_every_time() -> None:
    values = {0: [1.0, 2.0], 1: [1.5, 2.2]}

    assert posterior(values, minimise=True) == posterior(values, minimise=True)
