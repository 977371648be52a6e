"""The race against closed forms and tables of Student's t."""

import math

import numpy as np
import pytest

from raygen.posterior import posterior, t_quantile

# Any table of the two-sided 95% point of Student's t.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 10: 2.228, 30: 2.042, 120: 1.980}
NOISE = 0.01  # of a probability estimated from 20,000 draws: three standard errors


@pytest.mark.parametrize(("freedom", "expected"), TABLE.items())
def test_the_quantile_is_that_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=5e-4)


def test_the_interval_is_the_textbook_one_with_the_pooled_deviation() -> None:
    # Variances 1 and 4 pool to 2.5 with 4 degrees of freedom: half width t sqrt(2.5 / 3).
    found = posterior({7: [9.0, 10.0, 11.0], 3: [18.0, 20.0, 22.0]}, minimise=True)
    half = 2.776 * math.sqrt(2.5 / 3)

    assert found.mean == {7: 10.0, 3: 20.0}
    assert found.sd == {7: pytest.approx(1.0), 3: pytest.approx(2.0)}
    assert found.low == {
        7: pytest.approx(10 - half, abs=1e-3),
        3: pytest.approx(20 - half, abs=1e-3),
    }
    assert found.high[7] == pytest.approx(10 + half, abs=1e-3)


def test_two_candidates_with_equal_values_are_equally_likely_the_best() -> None:
    found = posterior({0: [1.0, 2.0, 3.0], 1: [1.0, 2.0, 3.0]}, minimise=True)

    assert found.best[0] == pytest.approx(0.5, abs=NOISE)
    assert sum(found.best.values()) == pytest.approx(1)


def test_the_probability_of_the_better_of_two_is_that_of_student_s_t() -> None:
    # Pooled deviation 1, 4 degrees of freedom: the difference is t times sqrt(2 / 3).
    apart = 2.776 * math.sqrt(2 / 3)
    found = posterior({0: [4.0, 5.0, 6.0], 1: [4 + apart, 5 + apart, 6 + apart]}, minimise=True)

    assert found.best[0] == pytest.approx(0.975, abs=NOISE / 2)


def test_maximising_is_the_mirror_of_minimising() -> None:
    values = {0: [1.0, 2.5], 1: [2.0, 2.2, 3.0], 2: [4.0]}
    mirrored = {name: [-value for value in group] for name, group in values.items()}
    found, other = posterior(values, minimise=True), posterior(mirrored, minimise=False)

    assert other.best == found.best
    assert other.low == {name: -high for name, high in found.high.items()}


def test_a_single_value_borrows_the_scatter_of_the_others() -> None:
    found = posterior({0: [5.0], 1: [9.0, 10.0, 11.0]}, minimise=True)

    assert math.isnan(found.sd[0])
    assert found.high[0] - 5.0 == pytest.approx(4.303, abs=1e-3)  # 2 degrees of freedom, n = 1
    assert found.best[0] > 0.95


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
