"""A search space as the unit cube: one coordinate per parameter, those of every branch included."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

Array = np.ndarray
INACTIVE = 0.5  # the coordinate of a parameter in a branch that is not taken
BELOW_ONE = 1 - 1e-12
_ABSENT = object()


class Coding:
    """Parameters to points of [0, 1)^d and back, and the coordinates that a kernel compares.

    A point says something of every parameter, of branches that are not taken, too: so a change of
    branch needs no repair. `features` has the same shape, with INACTIVE where a branch is not
    taken: one kernel serves a conditional space (Bergstra et al. 2011 call it tree-structured).
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        conditions: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`conditions`: of a parameter, the values that others must have for it to exist.

        A frozenset of values stands for any of them.
        """
        self.space, self.given_conditions = dict(space), conditions
        self.names = list(space)
        self.distributions = list(space.values())
        places = {name: index for index, name in enumerate(self.names)}
        self.orders = [_order(distribution) for distribution in self.distributions]
        choices = [_choices(distribution) for distribution in self.distributions]
        self.counts = np.array([len(each) if each else 0 for each in choices])
        # Hamming distance for choices without an order; what has a single value tells nothing.
        self.nominal = np.array(
            [
                bool(each) and order is None and len(each or ()) > 1
                for each, order in zip(choices, self.orders, strict=True)
            ],
            bool,
        )
        self.conditions: list[list[tuple[int, list[int]]]] = []
        for name in self.names:
            needed = (conditions or {}).get(name, {})
            self.conditions.append(
                [
                    (places[other], _indices(choices[places[other]] or (), value))
                    for other, value in needed.items()
                ]
            )
        self.conditional = any(self.conditions)
        self.single = np.array([distribution.single() for distribution in self.distributions], bool)

    def __len__(self) -> int:
        return len(self.names)

    def params(self, point: Array) -> dict[str, Any]:
        """Return the values of the parameters that exist at a point (d,)."""
        active = self._active(point[None])[0]
        return {
            name: from_unit(distribution, float(u))
            for name, distribution, u, exists in zip(
                self.names, self.distributions, point, active, strict=True
            )
            if exists
        }

    def point(self, params: Mapping[str, Any], fill: float = 0.5) -> Array:
        """Return where parameters lie (d,); those that are missing are at `fill`."""
        point = np.full(len(self), fill)
        for index, (name, distribution) in enumerate(
            zip(self.names, self.distributions, strict=True)
        ):
            if name in params:
                point[index] = to_unit(distribution, params[name])
        return point

    def snapped(self, points: Array) -> Array:
        """Return points (n, d), each coordinate at the centre of its choice, step or integer."""
        points = np.clip(points, 0.0, BELOW_ONE)
        for index, distribution in enumerate(self.distributions):
            u = points[:, index]
            if isinstance(distribution, CategoricalDistribution):
                cells = len(distribution.choices)
            elif isinstance(distribution, IntDistribution) and distribution.log:
                low, high = math.log(distribution.low - 0.5), math.log(distribution.high + 0.5)
                values = np.clip(
                    np.round(np.exp(low + u * (high - low))), distribution.low, distribution.high
                )
                points[:, index] = (np.log(values) - low) / (high - low)
                continue
            elif steps := _steps(distribution):
                cells = steps
            else:
                continue
            points[:, index] = (np.floor(u * cells) + 0.5) / cells
        return points

    def features(self, points: Array) -> Array:
        """Return what a kernel compares (n, d): ranges and ordered choices in [0, 1].

        Other choices are their index, to be compared by equality (see `nominal`).
        """
        features = np.array(points, float)
        for index, count in enumerate(self.counts):
            if not count:
                continue
            chosen = np.minimum((points[:, index] * count).astype(int), count - 1)
            order = self.orders[index]
            if self.nominal[index]:
                features[:, index] = chosen
            elif order is not None and count > 1:
                features[:, index] = order[chosen] / (count - 1)
            else:
                features[:, index] = INACTIVE
        features[:, self.single] = INACTIVE
        if self.conditional:
            features = np.where(self._active(points), features, INACTIVE)
        return features

    def _active(self, points: Array) -> Array:
        """Whether each parameter exists at each point: (n, d)."""
        active = np.ones(points.shape, bool)
        for index, needed in enumerate(self.conditions):
            for other, wanted in needed:
                count = self.counts[other]
                chosen = np.minimum((points[:, other] * count).astype(int), count - 1)
                active[:, index] &= np.isin(chosen, wanted)
        return active


def inferred_conditions(
    trials: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
) -> dict[str, dict[str, frozenset[Any]]]:
    """Infer the choices on which a parameter's existence depends, from who has it and who not.

    For spaces that are defined by running them. A parameter that no choice explains is taken to
    exist always.
    """
    drawn = [trial.params for trial in trials if trial.params and trial.state.is_finished()]
    categorical = [n for n, d in space.items() if isinstance(d, CategoricalDistribution)]
    conditions: dict[str, dict[str, frozenset[Any]]] = {}
    for name in space:
        having = [params for params in drawn if name in params]
        lacking = [params for params in drawn if name not in params]
        if not lacking or not having:
            continue
        for other in categorical:
            if other == name or not all(other in params for params in having):
                continue
            values = frozenset(params[other] for params in having)
            if not any(params.get(other, _ABSENT) in values for params in lacking):
                conditions[name] = {**conditions.get(other, {}), other: values}
                break
    return conditions


def from_unit(distribution: BaseDistribution, u: float) -> Any:
    """Map u in [0, 1) to a value so that equal shares of [0, 1) get equal weight."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(u * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if isinstance(distribution, IntDistribution) and distribution.log:
        spread = math.log(low - 0.5) * (1 - u) + math.log(high + 0.5) * u
        return min(max(round(math.exp(spread)), int(low)), int(high))
    if distribution.log:
        return min(math.exp(math.log(low) * (1 - u) + math.log(high) * u), high)
    steps = _steps(distribution)
    if not steps:
        return low + u * (high - low)
    value = distribution.low + (distribution.step or 1) * int(u * steps)
    return value if isinstance(distribution, IntDistribution) else float(value)


def to_unit(distribution: BaseDistribution, value: Any) -> float:
    """Map a value to the u in [0, 1) that `from_unit` maps to it: the centre of its cell."""
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.to_internal_repr(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if steps := _steps(distribution):
        return (round((value - low) / (distribution.step or 1)) + 0.5) / steps
    if isinstance(distribution, IntDistribution):
        low, high = low - 0.5, high + 0.5
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(max((value - low) / (high - low), 0.0), BELOW_ONE) if high > low else 0.5


def _indices(choices: Sequence[Any], value: Any) -> list[int]:
    """Places of a value among choices, or of each of several."""
    values = value if isinstance(value, frozenset) else (value,)
    return [choices.index(each) for each in values]


def _steps(distribution: BaseDistribution) -> int:
    """How many values a range with steps has; 0 of a continuous or logarithmic one."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.log or not distribution.step:
        return 0
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _choices(distribution: BaseDistribution) -> Sequence[Any] | None:
    return distribution.choices if isinstance(distribution, CategoricalDistribution) else None


def _order(distribution: BaseDistribution) -> Array | None:
    """The rank of each choice, where all of them are numbers."""
    choices = _choices(distribution)
    if not choices or any(isinstance(c, bool) or not isinstance(c, int | float) for c in choices):
        return None
    ranks = np.empty(len(choices), int)
    ranks[np.argsort(np.array(choices, float), kind="stable")] = np.arange(len(choices))
    return ranks
