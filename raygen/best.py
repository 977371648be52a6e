"""Which milestone of a training is its best: the one rule, for whoever asks."""

import math
from collections.abc import Sequence


class Best:
    """The best of the milestones so far.

    A milestone counts if all its objectives are finite. Values that were measured in another way
    than those before (another encoder, other images, another number of samples) do not compare with
    them, so the best counts anew from there. The first objective decides; of equal ones the
    earliest stays.
    """

    def __init__(self, minimise: bool) -> None:
        self.minimise = minimise
        self.protocol: str | None = None
        self.values: list[float] | None = None  # of all objectives, at the best milestone
        self.history: list[float] = []  # of the first objective, of all that compare

    def measured_by(self, protocol: str | None) -> None:
        """Note how the next values were measured: the hash of the first objective's protocol."""
        if protocol != self.protocol:
            self.protocol, self.values, self.history = protocol, None, []

    def improved_by(self, values: Sequence[float] | None) -> bool:
        """Take in a milestone, None if not all its values are finite; return whether it leads."""
        if values is None:
            return False
        self.history.append(values[0])
        leads = self.values is None or better(self.minimise, values[0], self.values[0])
        if leads:
            self.values = list(values)
        return leads


def better(minimise: bool, value: float, than: float) -> bool:
    """Whether `value` is better than another; any value is better than nan."""
    return math.isnan(than) or (value < than if minimise else value > than)
