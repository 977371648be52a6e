"""Asynchronous successive halving over kimg: Li et al. 2020, in its stopping form."""

import math
from typing import NamedTuple


class Decision(NamedTuple):
    """Whether a trial goes on, and what that was decided on."""

    stop: bool
    cutoff: float | None  # the value it had to reach; None while there was nothing to compare
    peers: int  # trials that had reached the rung, this one included


class Rungs:
    """The values at each rung below the full budget, in the order in which they arrived.

    A trial goes on if it is among the best 1/eta of those that have reached the rung so far, and
    it is judged by the best value it has had: a GAN that got worse is kept by its best weights.
    """

    def __init__(self, milestones: tuple[float, ...], eta: float, minimise: bool) -> None:
        self.eta, self.minimise = eta, minimise
        self.values: dict[float, list[float]] = {kimg: [] for kimg in milestones[:-1]}

    def report(self, kimg: float, value: float) -> Decision | None:
        """Record a value at a milestone; None if the milestone is not a rung."""
        if kimg not in self.values:
            return None
        reached = self.values[kimg]
        reached.append(value)
        ordered = sorted(reached, reverse=not self.minimise)
        kept = math.floor(len(ordered) / self.eta)
        if kept == 0:  # too few to spare one: stopping now would stop the first trial too
            return Decision(False, None, len(ordered))
        cutoff = ordered[kept - 1]
        worse = value > cutoff if self.minimise else value < cutoff
        return Decision(worse, cutoff, len(ordered))
