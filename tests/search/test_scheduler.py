"""The schedulers against the papers' rules, written out again and run on random curves."""

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest

from raygen.search.pareto import crowding, dominates, fronts, nondominated_order
from raygen.search.scheduler import Halving, Median, Pool, RungValue
from search.studies import Memory, make_controller, make_study, run

MINIMISE = ["minimize"]


def judge(scheduler: Halving | Median, kimg: float, *values: float, sd: float = 0.0) -> bool:
    """Judge and record one trial, as the controller does; return whether it is stopped."""
    place = RungValue(values, sd, values[0])
    decision = scheduler.judge(kimg, place)
    if decision is not None:
        scheduler.record(kimg, place)
    return decision is not None and decision.verdict == "stop"


@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_decisions_are_those_of_the_papers_rule_on_random_curves(eta: int, direction: str) -> None:
    sign = 1 if direction == "minimize" else -1
    draw = random.Random(eta)
    milestones = [1.0, eta, eta**2, eta**3]
    scheduler = Halving(milestones, eta, [direction], noise=0)
    seen: dict[float, list[float]] = {kimg: [] for kimg in milestones}
    for _ in range(200):
        for kimg in milestones[:-1]:
            value = draw.choice([draw.gauss(0, 1), round(draw.gauss(0, 1))])  # ties, too
            stopped = judge(scheduler, kimg, value)

            # Li et al. 2020, algorithm 2: in the top floor(n / eta) of the rung, this one included.
            seen[kimg].append(value)
            top = math.floor(len(seen[kimg]) / eta)
            better = sum(sign * other < sign * value for other in seen[kimg])
            assert stopped == (top > 0 and better >= top)
            if stopped:
                break


def test_a_trial_within_the_noise_of_the_cut_off_goes_on() -> None:
    for value, stopped in ((10.9, False), (11.1, True)):
        scheduler = Halving([1, 2], 2, MINIMISE, noise=1)
        judge(scheduler, 1, 10.0, sd=0.6)

        # The errors of both add up in squares: hypot(0.6, 0.8) = 1.
        assert judge(scheduler, 1, value, sd=0.8) == stopped


def test_the_full_budget_is_no_rung() -> None:
    assert Halving([1, 3], 3, MINIMISE, 1).judge(3, RungValue((1.0,))) is None


def test_several_objectives_are_cut_by_fronts_then_by_room_within_a_front() -> None:
    scheduler = Halving([1, 2], 2, ["minimize", "maximize"], noise=0)
    assert not judge(scheduler, 1, 5.0, 5.0)
    assert judge(scheduler, 1, 6.0, 4.0)  # dominated, and one of two goes on
    judge(scheduler, 1, 6.0, 6.0)
    decision = scheduler.judge(1, RungValue((1.0, 9.0)))  # dominates all

    assert decision is not None
    assert (decision.rank, decision.kept, decision.verdict) == (1, 2, "continue")


def test_fronts_equal_a_brute_force_search_on_random_points() -> None:
    draw = np.random.default_rng(0)
    for axes in (2, 3):
        points = draw.integers(0, 6, size=(40, axes)).astype(float).tolist()
        rest = set(range(len(points)))
        for front in fronts(points):
            brute = {
                i
                for i in rest
                if not any(
                    all(a <= b for a, b in zip(points[j], points[i], strict=True))
                    and any(a < b for a, b in zip(points[j], points[i], strict=True))
                    for j in rest
                )
            }
            assert set(front) == brute
            rest -= brute
        assert not rest


def test_standing_puts_no_point_before_one_that_dominates_it() -> None:
    draw = np.random.default_rng(1)
    points = draw.random((30, 2)).tolist()
    place = {index: rank for rank, index in enumerate(nondominated_order(points))}

    for i, j in itertools.permutations(range(30), 2):
        if dominates(points[i], points[j]):
            assert place[i] < place[j]


def test_the_ends_of_a_front_have_endless_room_and_the_middle_what_its_neighbours_leave() -> None:
    points = [[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]]

    assert crowding(points, [0, 1, 2]) == {0: math.inf, 1: 2.0, 2: math.inf}


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_median_stopping_cuts_what_is_worse_than_the_median_of_averages(direction: str) -> None:
    sign = 1 if direction == "minimize" else -1
    scheduler = Median(grace=1, end=9, minimise=direction == "minimize", noise=0)
    means: list[float] = []
    draw = random.Random(2)
    for _ in range(100):
        best, mean = draw.gauss(0, 1), draw.gauss(0, 1)
        place = RungValue((best,), None, mean)
        decision = scheduler.judge(3, place)
        assert decision is not None
        worse = len(means) >= 3 and sign * best > sign * float(np.median(means))
        assert decision.verdict == ("stop" if worse else "continue")
        scheduler.record(3, place)
        means.append(mean)
    assert scheduler.judge(0.5, place) is None
    assert scheduler.judge(9, place) is None


def test_the_front_of_a_search_holds_trials_of_full_budget_only(tmp_path: Path) -> None:
    study = make_study(tmp_path, "objective=fd_classifier", "trade_off=[million_parameters]")
    journal = Memory()
    controller = make_controller(study, journal)
    reported = controller.reported

    def both(number: int, told: dict) -> bool:
        metrics = {**told["metrics"], "million_parameters": float(number % 5)}
        return reported(number, {**told, "metrics": metrics})

    controller.reported = both  # pyright: ignore[reportAttributeAccessIssue]
    run(controller, lambda config, seed, kimg: seed % 100 + 10 / kimg, at_once=3)

    complete = [trial for trial in controller.trials if trial.state == "completed"]
    told = controller.sampler.study.best_trials
    values = [trial.values for trial in complete]
    front = [v for v in values if not any(dominates(other, v) for other in values)]
    assert any(trial.state == "stopped" for trial in controller.trials)
    assert sorted(trial.values for trial in told) == sorted(front)


def test_the_rank_in_a_pool_is_that_of_sorting_it_with_the_newcomer() -> None:
    """Also among equal values, where whoever came first stands first."""
    draws = np.random.default_rng(0)
    for sign in (1.0, -1.0):
        pool = Pool(sign)
        for trial in range(60):
            newcomer = RungValue((float(draws.integers(6)),), trial=trial)
            ranked = sorted([*pool.peers, newcomer], key=lambda peer: sign * peer.values[0])
            assert [pool.at(rank, newcomer) for rank in range(1, trial + 2)] == ranked
            pool.add(newcomer)
