"""What is deleted: never what is needed, and enough."""

import random
from typing import NamedTuple

from raygen.search.prune import collectable


class Owner(NamedTuple):
    files: dict[str, int]
    unfinished: bool = False
    of: int | None = None


def both(size: int = 10) -> dict[str, int]:
    return {"last": 4 * size, "best": size}


def test_the_best_few_and_what_still_runs_keep_everything() -> None:
    trials = {n: Owner(both()) for n in range(4)} | {4: Owner(both(), unfinished=True)}

    gone = collectable(trials, [2, 0, 3, 1], keep=2, gigabytes=None)

    assert sorted(gone) == [(1, "best"), (1, "last"), (3, "best"), (3, "last")]


def test_a_trial_without_a_value_keeps_nothing() -> None:
    assert collectable({0: Owner({"last": 1})}, [], keep=5, gigabytes=None) == [(0, "last")]


def test_a_repetition_of_a_finalist_keeps_its_weights_only() -> None:
    trials = {0: Owner(both()), 1: Owner(both(), of=0)}

    assert collectable(trials, [0], keep=5, gigabytes=None) == [(1, "last")]


def test_over_the_budget_states_of_training_go_first_and_the_worst_before_the_best() -> None:
    trials = {n: Owner(both(10**9)) for n in range(3)}

    gone = collectable(trials, [0, 1, 2], keep=3, gigabytes=6)

    assert gone == [(2, "last"), (1, "last"), (0, "last")]
    assert collectable(trials, [0, 1, 2], keep=3, gigabytes=1.5)[3:] == [(2, "best"), (1, "best")]


def test_the_best_weights_and_running_trials_stay_whatever_the_budget() -> None:
    draw = random.Random(0)
    for _ in range(300):
        trials = {
            n: Owner(both(draw.randint(1, 9) * 10**8), draw.random() < 0.3, draw.choice([None, 0]))
            for n in range(8)
        }
        ranked = [n for n in trials if not trials[n].unfinished and trials[n].of is None]
        draw.shuffle(ranked)
        limit, keep = draw.random() * 10, draw.randint(1, 5)
        gone = collectable(trials, ranked, keep, limit)

        assert len(set(gone)) == len(gone)
        assert all(not trials[number].unfinished for number, _ in gone)
        if ranked:
            assert (ranked[0], "best") not in gone
        left = sum(sum(t.files.values()) for t in trials.values())
        left -= sum(trials[number].files[role] for number, role in gone)
        needed = sum(sum(t.files.values()) for t in trials.values() if t.unfinished)
        needed += trials[ranked[0]].files["best"] if ranked else 0
        assert left <= max(limit * 1e9, needed)


def test_the_weights_of_the_model_to_use_stay_even_those_of_a_repetition() -> None:
    trials = {n: Owner(both()) for n in range(4)} | {9: Owner(both(), of=0)}

    assert (9, "best") not in collectable(trials, [0, 1, 2, 3], 1, 1e-12, model=9)
    assert (3, "best") not in collectable(trials, [0, 1, 2, 3], 1, 1e-12, model=3)
    assert (3, "best") in collectable(trials, [0, 1, 2, 3], 1, 1e-12, model=9)
