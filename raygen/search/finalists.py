"""The race of the finalists: the best trials again with other seeds, until the order is settled."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raygen.config import Finalists
from raygen.journal.records import Round
from raygen.posterior import posterior

# Without two values of each nothing is known of their spread, so the first two rounds run at once.
FIRST_ROUNDS = 2


class Replicate(NamedTuple):
    """One repetition: of which trial, and with the how-manieth seed."""

    of: int
    seed: int


class Race:
    """Rounds of one more seed for every finalist that may still be the best.

    All finalists get the same seeds. The value that a trial was chosen by does not count: it is
    the luckiest of many (the winner's curse).
    """

    def __init__(self, spec: Finalists, minimise: bool) -> None:
        self.count, self.seeds, self.confidence = spec.count, spec.seeds, spec.confidence
        self.minimise = minimise
        self.finalists: list[int] = []
        self.alive: list[int] = []
        self.given: dict[int, int] = {}  # repetitions started, by finalist
        self.rounds = min(FIRST_ROUNDS, self.seeds)  # how many may be started so far
        self.settled = False

    def wants(self, completed: Sequence[int]) -> bool:
        """Whether there is a race to run or to finish, given the completed trials, best first.

        A search that went on after its race, and found better trials, races again.
        """
        if not self.count or not completed:
            return False
        return not self.settled or set(completed[: self.count]) != set(self.finalists)

    def start(self, finalists: Sequence[int]) -> None:
        """Begin, with the best first; what was repeated in an earlier race still counts."""
        self.finalists, self.alive = list(finalists), list(finalists)
        self.given = {number: self.given.get(number, 0) for number in finalists}
        self.rounds, self.settled = min(FIRST_ROUNDS, self.seeds), False

    def next(self) -> Replicate | None:
        """Return the next repetition to start, or None until the round is over."""
        if self.settled:
            return None
        waiting = [n for n in self.alive if self.given[n] < self.rounds]
        if not waiting:
            return None
        of = min(waiting, key=lambda number: self.given[number])
        return Replicate(of, self.given[of])

    def issued(self, of: int) -> None:
        """Note that a repetition was started."""
        self.given[of] += 1

    def round(self, repeats: Iterable[tuple[int, list[float] | None, str]]) -> Round | None:
        """Return the outcome of a round; None while it goes on.

        `repeats` holds for each repetition its finalist, its values, and its state.
        """
        if not self.finalists or self.settled or self.next() is not None:
            return None
        values: dict[int, list[float]] = {number: [] for number in self.finalists}
        ended = dict.fromkeys(self.finalists, 0)
        for of, objectives, state in repeats:
            if of not in values:
                continue
            if state in ("running", "waiting", "interrupted"):
                return None
            ended[of] += 1
            if state == "completed" and objectives is not None:
                values[of].append(objectives[0])
        # One that fails more often than not cannot win by the few values that it has.
        reliable = {n: got for n, got in values.items() if 2 * len(got) >= max(ended[n], 1)}
        belief = posterior(reliable, self.minimise)
        # nan while no finalist has two values: then nothing is known, and nobody is dropped.
        best = {n: belief.best[n] for n in reliable if not math.isnan(belief.best[n])}
        # Out are those without a claim, and those that are hardly ever the best.
        hopeless = (1 - self.confidence) / len(self.finalists)
        dropped = [n for n in self.alive if n not in reliable or best.get(n, 1.0) < hopeless]
        leader = max(best.values(), default=0.0)
        decided = len(self.finalists) > 1 and leader >= self.confidence
        return Round(
            seeds=self.rounds,
            means={n: sum(values) / len(values) for n, values in reliable.items()},
            best=dict(best),
            dropped=dropped,
            settled=decided or self.rounds >= self.seeds or len(dropped) == len(self.alive),
        )

    def settle(self, outcome: Round) -> None:
        """Apply the outcome of a round."""
        self.alive = [number for number in self.alive if number not in outcome.dropped]
        self.settled = outcome.settled
        self.rounds += 1
