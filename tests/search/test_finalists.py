"""The race of the finalists: who runs next, and when the order is settled."""

import random

import pytest

from raygen.config import Finalists
from raygen.journal.records import Round
from raygen.search.finalists import Race, Replicate


def play(race: Race, draw: dict[int, list[float | None]]) -> tuple[list[Replicate], list[Round]]:
    """Run a race; `draw` holds the value of each seed of each finalist, None for a collapse."""
    race.start(list(draw))
    turns, rounds, repeats = [], [], []
    while not race.settled:
        while (turn := race.next()) is not None:
            race.issued(turn.of)
            turns.append(turn)
            value = draw[turn.of][turn.seed]
            state = "diverged" if value is None else "completed"
            repeats.append((turn.of, None if value is None else [value], state))
        outcome = race.round(repeats)
        assert outcome is not None
        rounds.append(outcome)
        race.settle(outcome)
    return turns, rounds


def race(count: int = 3, seeds: int = 8, confidence: float = 0.95) -> Race:
    return Race(Finalists(count=count, seeds=seeds, confidence=confidence), minimise=True)


def test_a_clear_order_is_settled_after_two_seeds_each() -> None:
    turns, rounds = play(race(), {4: [1.0, 1.1], 7: [9.0, 9.1], 2: [20.0, 20.2]})

    assert turns == [
        Replicate(4, 0),
        Replicate(7, 0),
        Replicate(2, 0),
        Replicate(4, 1),
        Replicate(7, 1),
        Replicate(2, 1),
    ]
    assert len(rounds) == 1
    assert rounds[0].settled
    assert (rounds[0].best[4] or 0.0) > 0.99


def test_equal_finalists_get_all_their_seeds() -> None:
    draw = random.Random(0)
    values = {n: [draw.gauss(0, 1) for _ in range(8)] for n in (1, 2)}

    turns, rounds = play(race(count=2, confidence=0.999), values)

    assert len(turns) == 16
    assert [outcome.seeds for outcome in rounds] == [2, 3, 4, 5, 6, 7, 8]
    assert [outcome.settled for outcome in rounds] == [False] * 6 + [True]


def test_a_hopeless_finalist_costs_no_more_seeds() -> None:
    draw = random.Random(1)
    close = {n: [draw.gauss(0, 1) for _ in range(8)] for n in (1, 2)}

    turns, rounds = play(
        race(confidence=0.999), {**close, 3: [50.0 + draw.gauss(0, 1) for _ in range(8)]}
    )

    gone = next(outcome.seeds for outcome in rounds if 3 in outcome.dropped)
    assert gone < 8
    assert sum(turn.of == 3 for turn in turns) == gone


def test_a_finalist_that_collapses_with_every_other_seed_is_out() -> None:
    turns, rounds = play(race(count=2), {5: [None, None, None], 6: [3.0, 3.5, 3.2] * 3})

    assert rounds[0].dropped == [5]
    assert sum(turn.of == 5 for turn in turns) == 2


def test_one_finalist_alone_gets_all_its_seeds_for_its_spread() -> None:
    turns, _ = play(race(count=1, seeds=4), {9: [1.0, 2.0, 3.0, 4.0]})

    assert turns == [Replicate(9, seed) for seed in range(4)]


def test_a_round_waits_for_every_repetition() -> None:
    one = race()
    one.start([1, 2])
    while (turn := one.next()) is not None:
        one.issued(turn.of)
    done = [(n, [1.0], "completed") for n in (1, 2) for _ in range(2)]

    assert one.round([*done[:3], (2, None, "running")]) is None
    assert one.round(done) is not None


@pytest.mark.parametrize("completed", [[], [1, 2]])
def test_without_finalists_there_is_no_race(completed: list[int]) -> None:
    assert not race(count=0).wants(completed)
    assert race().wants(completed) == bool(completed)
