"""The same metrics over samples of several seeds: mean and scatter instead of one lucky draw."""

import copy
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raygen.metrics import METRICS, Score, protocol_hash
from raygen.metrics.evaluator import Evaluator
from raygen.metrics.model import Generative


class Value(NamedTuple):
    """One metric of one model or set of images.

    With several seeds `value` is their mean and `sd` their standard deviation; with one, `sd` is
    the standard error where it is known. `spread`: over the metric's own subsets or splits.
    """

    metric: str
    value: float
    sd: float | None
    spread: float | None
    draws: list[float]
    protocol: dict[str, Any]

    @property
    def hash(self) -> str:
        """The protocol's."""
        return protocol_hash(self.protocol)

    def content(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        figures = {"value": self.value, "sd": self.sd, "spread": self.spread, "each": self.draws}
        return {**figures, "hash": self.hash, "protocol": self.protocol}


def repeated(
    evaluator: Evaluator, model: Callable[[int], Generative], seeds: Sequence[int]
) -> list[Value]:
    """Measure the model of each seed; what needs no samples is the same for all, and done once."""
    rounds = [evaluator(model(seed), seed=seed) for seed in seeds[:1]]
    again = copy.copy(evaluator)
    again.metrics = tuple(m for m in evaluator.metrics if METRICS[m].features is not None)
    rounds += [again(model(seed), seed=seed) for seed in seeds[1:]]
    return [
        _value(name, [scores[name] for scores in rounds if name in scores], seeds)
        for name in evaluator.metrics
    ]


def _value(name: str, scores: list[Score], seeds: Sequence[int]) -> Value:
    draws = [score.value for score in scores]
    first = scores[0]
    if len(scores) == 1:
        return Value(name, first.value, first.sd, first.spread, draws, first.protocol)
    spreads = [score.spread for score in scores if score.spread is not None]
    spread = statistics.mean(spreads) if spreads else None
    protocol = first.protocol
    if "sample_seed" in protocol:
        protocol = {**protocol, "sample_seed": list(seeds)}
    return Value(name, statistics.mean(draws), statistics.stdev(draws), spread, draws, protocol)


__all__ = ["Value", "repeated"]
