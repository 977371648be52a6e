import random

import pytest

from raygen.tune.scheduler import Rungs

MILESTONES = (1.0, 3.0, 9.0)


def paper(values: list[float], eta: float, minimise: bool) -> bool:
    """Li et al. 2020, section 3.1: keep the last one if it is in the top floor(n / eta)."""
    rank = sum(v < values[-1] if minimise else v > values[-1] for v in values)
    top = int(len(values) / eta)
    return top == 0 or rank < top


@pytest.mark.parametrize("minimise", [True, False])
@pytest.mark.parametrize("eta", [2.0, 3.0, 4.0])
def test_decisions_equal_a_simulation_of_the_papers_rule_on_random_values(
    eta: float, minimise: bool
) -> None:
    source = random.Random(int(eta))
    for _ in range(50):
        rungs = Rungs(MILESTONES, eta, minimise)
        seen: list[float] = []
        for _ in range(30):
            seen.append(source.choice([source.gauss(0, 1), float(source.randint(0, 3))]))
            decision = rungs.report(1.0, seen[-1])

            assert decision is not None
            assert decision.stop is not paper(seen, eta, minimise)
            assert decision.peers == len(seen)


def test_the_full_budget_is_not_a_rung() -> None:
    assert Rungs(MILESTONES, 3, True).report(9.0, 1.0) is None


def test_an_evaluation_between_rungs_decides_nothing() -> None:
    assert Rungs(MILESTONES, 3, True).report(2.0, 1.0) is None


def test_rungs_do_not_see_each_other() -> None:
    rungs = Rungs(MILESTONES, 2, True)
    for value in (1.0, 2.0, 3.0):
        rungs.report(1.0, value)

    decision = rungs.report(3.0, 100.0)

    assert decision is not None
    assert not decision.stop


def test_a_stopped_trial_lies_on_the_wrong_side_of_the_cutoff_that_is_recorded() -> None:
    rungs = Rungs(MILESTONES, 2, True)
    rungs.report(1.0, 5.0)

    decision = rungs.report(1.0, 6.0)

    assert decision is not None
    assert (decision.stop, decision.cutoff) == (True, 5.0)
