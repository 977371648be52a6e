"""The YAML of a search: positions kept, parameters and branches, one sampled dict.

A mapping with one of four keys is a parameter, everything else is a fixed value:

    generator_lr: {float: [1e-4, 1e-2], log: true}
    width: {int: [32, 128], step: 32}
    batch_size: {choice: [64, 128, 256]}
    loss:
      one_of:                                 # the parameters of a branch exist only in it
        hinge: {}
        wasserstein: {penalty: gradient_penalty, penalty_weight: {float: [1, 30]}}
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple, NoReturn, Protocol

from raygen.document import Document, Keys, dotted
from raygen.errors import did_you_mean
from raygen.validation import PARAMETER_KINDS

OPTIONS = {
    "float": {"float", "log", "step"},
    "int": {"int", "log", "step"},
    "choice": {"choice"},
    "one_of": {"one_of"},
}


class Suggester(Protocol):
    """The three methods of an Optuna trial that sampling needs."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class Parameter(NamedTuple):
    """One thing to search.

    `name` is unique in the space and tells its branches ("loss.wasserstein.penalty_weight");
    `setting` is the column it ends in ("loss.penalty_weight"). `high` is a whole number of steps
    above `low`.
    """

    name: str
    setting: str
    kind: str
    where: Keys
    condition: dict[str, str]
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] | None = None

    def suggest(self, suggest: Suggester) -> Any:
        """Ask for one value."""
        if self.choices is not None:
            return suggest.suggest_categorical(self.name, self.choices)
        if self.kind == "int":
            low, high = int(self.low or 0), int(self.high or 0)
            return suggest.suggest_int(self.name, low, high, step=int(self.step or 1), log=self.log)
        assert self.low is not None
        assert self.high is not None
        value = suggest.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        if self.step is None:
            return value
        # Samplers add steps in binary: 0.29999999999999993 and 0.3 would be two settings.
        return _on_grid(self.low, self.step, round((value - self.low) / self.step))

    def admits(self, value: Any) -> bool:
        """Whether the search could choose this value."""
        if self.choices is not None:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.kind == "int" and value != int(value):
            return False
        assert self.low is not None
        assert self.high is not None
        if not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-9

    def nearest(self, value: float) -> float:
        """The value of a range of numbers that is next to another."""
        assert self.low is not None
        assert self.high is not None
        value = min(max(value, self.low), self.high)
        if self.step is None:
            return value
        return _on_grid(self.low, self.step, round((value - self.low) / self.step))

    def ends(self) -> tuple[Any, ...]:
        """Every choice, or the lowest and the highest value that the search could choose."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def rule(self) -> str:
        """The admitted values in words."""
        if self.choices is not None:  # in quotes where a comma of theirs could be taken for ours
            words = map(str, self.choices)
            return "one of " + ", ".join(f'"{word}"' if "," in word else word for word in words)
        step = f" in steps of {self.step:g}" if self.step else ""
        log = ", on a log scale" if self.log else ""
        return f"{self.kind} from {self.low:g} to {self.high:g}{step}{log}"


class RandomSuggester:
    """Draws over whole ranges, but some parameters as `fixed` says."""

    def __init__(self, seed: int, fixed: dict[str, Any] | None = None) -> None:
        self.random, self.fixed = Random(seed), fixed or {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if name in self.fixed:
            return self.fixed[name]
        if log:
            return min(high, math.exp(self.random.uniform(math.log(low), math.log(high))))
        if step:
            return low + step * self.random.randint(0, int((high - low) / step))
        return self.random.uniform(low, high)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        if name in self.fixed:
            return self.fixed[name]
        return low + step * self.random.randint(0, (high - low) // step)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.fixed[name] if name in self.fixed else self.random.choice(list(choices))


class Fixed(NamedTuple):
    """A value that is not searched."""

    value: Any
    where: Keys


class Group(NamedTuple):
    """Named settings."""

    children: "dict[str, Node]"
    where: Keys


class Branches(NamedTuple):
    """A choice of groups; the name of the one chosen becomes the setting `name`."""

    choice: Parameter
    groups: dict[str, Group]


Node = Parameter | Fixed | Group | Branches


class Draw(NamedTuple):
    """One sample: nested settings, the value of each parameter asked, and their positions."""

    config: dict[str, Any]
    parameters: dict[str, Any]
    where: dict[Keys, Keys]  # path in `config` -> path in the document


def parse_space(document: Document, at: Keys) -> Group:
    """Read the part of a document below `at` as a search space.

    Raises:
        InputError: a parameter is malformed, with its position.
    """
    value = document.get(at)
    if not isinstance(value, Mapping):
        document.fail(at, "must be a mapping of settings")
    return _parse_group(document, at, (), "", {})


def sample(space: Group, suggest: Suggester) -> Draw:
    """Draw one configuration, parents before children, in the order of the file."""
    draw = Draw({}, {}, {})
    _sample_group(space, suggest, draw.config, (), draw)
    return draw


def parameters(space: Group) -> list[Parameter]:
    """Every parameter of every branch, in the order of the file."""
    return list(_walk(space))


def conditions(space: Group) -> dict[str, dict[str, str]]:
    """Return for each parameter, by name, the choices that others must have for it to exist."""
    return dict(_walk_conditions(space, {}))


def ignored(space: Group) -> Iterator[tuple[Keys, str]]:
    """Settings of schedules that are constant in every trial, which nothing reads."""
    for node in space.children.values():
        match node:
            case Group():
                yield from ignored(node)
                kind = node.children.get("schedule")
                if isinstance(kind, Fixed) and kind.value == "constant":
                    yield from ((node.where, key) for key in ("to", "over") if key in node.children)
            case Branches():
                for inside in node.groups.values():
                    yield from ignored(inside)


def assign(space: Group, document: Document, at: Keys) -> dict[str, Any]:
    """Read a starting point: settings as they stand in a configuration -> value by parameter.

    Parameters that it leaves out are sampled. Where `--set` narrowed the space, it wins over the
    starting points of the file.

    Raises:
        InputError: it sets something that the space does not search, or a value outside of it.
    """
    point: dict[str, Any] = {}
    value = document.get(at)
    if not isinstance(value, Mapping):
        document.fail(at, "a starting point must be a mapping of settings")
    _assign_group(space, document, at, point)
    return point


def settings_of(space: Group, point: Mapping[str, Any]) -> dict[str, Any]:
    """Write the values of some parameters as the settings that `assign` reads them from."""
    settings: dict[str, Any] = {}
    for key, node in space.children.items():
        match node:
            case Parameter() if node.name in point:
                settings[key] = point[node.name]
            case Group():
                if inside := settings_of(node, point):
                    settings[key] = inside
            case Branches() if node.choice.name in point:
                branch = point[node.choice.name]
                settings[key] = {"name": branch, **settings_of(node.groups[branch], point)}
    return settings


def _parse_group(
    document: Document, at: Keys, setting: Keys, branch: str, condition: dict[str, str]
) -> Group:
    children: dict[str, Node] = {}
    for key, value in (document.get(at) or {}).items():
        child, where = (*setting, key), (*at, key)
        kinds = [kind for kind in PARAMETER_KINDS if isinstance(value, Mapping) and kind in value]
        if not isinstance(value, Mapping):
            children[key] = Fixed(value, where)
        elif not kinds:
            children[key] = _parse_group(document, where, child, f"{branch}{key}.", condition)
        elif len(kinds) > 1:
            document.fail(where, f"has both {kinds[0]} and {kinds[1]}; choose one")
        else:
            _check_options(document, where, kinds[0], value)
            children[key] = _PARSERS[kinds[0]](document, where, child, f"{branch}{key}", condition)
    return Group(children, at)


def _check_options(document: Document, at: Keys, kind: str, value: Mapping[str, Any]) -> None:
    for key in value:
        if key not in OPTIONS[kind]:
            options = sorted(OPTIONS[kind])
            hint = did_you_mean(key, options)
            document.fail((*at, key), f"unknown option, {kind} takes {', '.join(options)}{hint}")


def _parse_range(
    document: Document, at: Keys, setting: Keys, name: str, condition: dict[str, str]
) -> Parameter:
    value = document.get(at)
    kind = "int" if "int" in value else "float"
    bounds = value[kind]
    number = int if kind == "int" else (int, float)
    if not isinstance(bounds, list) or len(bounds) != 2:
        document.fail((*at, kind), "needs two bounds: [low, high]")
    for index, bound in enumerate(bounds):
        if isinstance(bound, bool) or not isinstance(bound, number):
            document.fail((*at, kind, index), f"is not a{'n' if kind == 'int' else ''} {kind}")
        if isinstance(bound, float) and not math.isfinite(bound):
            document.fail((*at, kind, index), "a range must end somewhere")
    low, high = bounds
    if low > high:
        document.fail((*at, kind), f"low {low:g} is above high {high:g}")
    log, step = value.get("log", False), value.get("step")
    if not isinstance(log, bool):
        document.fail((*at, "log"), "must be true or false")
    if log and low <= 0:
        document.fail((*at, kind, 0), "a log range must start above 0")
    if step is not None:
        if isinstance(step, bool) or not isinstance(step, number) or not 0 < step < math.inf:
            document.fail((*at, "step"), f"must be a positive {kind}")
        if log:
            document.fail((*at, "step"), "a log range cannot have a step")
        if step > high - low > 0:
            document.fail((*at, "step"), f"is more than from {low:g} to {high:g}")
        high = _last_step(low, high, step)
    return Parameter(name, dotted(setting), kind, at, condition, low, high, log, step)


def _last_step(low: float, high: float, step: float) -> float:
    """The highest value up to `high` that steps from `low` reach: nothing above it is ever drawn.

    In decimal, as the file has it: in binary, 0.3 is less than three steps of 0.1.
    """
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int):
        return high - (high - low) % step
    return _on_grid(low, step, int((Decimal(str(high)) - Decimal(str(low))) / Decimal(str(step))))


def _on_grid(low: float, step: float, steps: int) -> float:
    return float(Decimal(str(low)) + steps * Decimal(str(step)))


def _parse_choice(
    document: Document, at: Keys, setting: Keys, name: str, condition: dict[str, str]
) -> Parameter:
    choices = document.get((*at, "choice"))
    if not isinstance(choices, list) or not choices:
        document.fail((*at, "choice"), "needs a list of at least one value")
    for index, choice in enumerate(choices):
        if choice is not None and not isinstance(choice, bool | int | float | str):
            document.fail((*at, "choice", index), "a choice must be a plain value; use one_of")
        if choice in choices[:index]:
            document.fail((*at, "choice", index), "appears twice here")
    setting_name = dotted(setting)
    return Parameter(name, setting_name, "choice", at, condition, choices=tuple(choices))


def _parse_branches(
    document: Document, at: Keys, setting: Keys, name: str, condition: dict[str, str]
) -> Branches:
    options = document.get((*at, "one_of"))
    if not isinstance(options, Mapping) or not options:
        document.fail((*at, "one_of"), "needs a mapping: the name of a branch, then its settings")
    chosen = dotted((*setting, "name"))
    choice = Parameter(f"{name}.name", chosen, "choice", at, condition, choices=tuple(options))
    groups = {}
    for option, inside in options.items():
        where = (*at, "one_of", option)
        if inside is not None and not isinstance(inside, Mapping):
            document.fail(where, "a branch is a mapping of settings ({} for none)")
        if inside and "name" in inside:
            document.fail((*where, "name"), "the branch itself is already the name")
        groups[option] = _parse_group(
            document, where, setting, f"{name}.{option}.", {**condition, chosen: option}
        )
    return Branches(choice, groups)


_PARSERS = {
    "float": _parse_range,
    "int": _parse_range,
    "choice": _parse_choice,
    "one_of": _parse_branches,
}


def _sample_group(
    group: Group, suggest: Suggester, config: dict[str, Any], at: Keys, draw: Draw
) -> None:
    for key, node in group.children.items():
        path = (*at, key)
        match node:
            case Fixed():
                config[key] = node.value
                draw.where[path] = node.where
            case Parameter():
                config[key] = draw.parameters[node.name] = node.suggest(suggest)
                draw.where[path] = node.where
            case Group():
                draw.where[path] = node.where
                _sample_group(node, suggest, config.setdefault(key, {}), path, draw)
            case Branches():
                chosen = draw.parameters[node.choice.name] = node.choice.suggest(suggest)
                config[key] = {"name": chosen}
                draw.where[path] = draw.where[*path, "name"] = node.groups[chosen].where
                _sample_group(node.groups[chosen], suggest, config[key], path, draw)


def _walk_conditions(group: Group, needed: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    for node in group.children.values():
        match node:
            case Parameter():
                yield node.name, needed
            case Group():
                yield from _walk_conditions(node, needed)
            case Branches():
                yield node.choice.name, needed
                for option, inside in node.groups.items():
                    yield from _walk_conditions(inside, {**needed, node.choice.name: option})


def _walk(group: Group) -> Iterator[Parameter]:
    for node in group.children.values():
        match node:
            case Parameter():
                yield node
            case Group():
                yield from _walk(node)
            case Branches():
                yield node.choice
                for inside in node.groups.values():
                    yield from _walk(inside)


def _assign_group(group: Group, document: Document, at: Keys, point: dict[str, Any]) -> None:
    for key, value in document.get(at).items():
        where = (*at, key)
        match group.children.get(key):
            case None:
                if document.replaced(group.where):
                    continue
                settings = [p.setting for p in parameters(group)]
                nested = [name for name in settings if f".{name}".endswith(f".{key}")]
                hint = f"; {nested[0]} is" if nested else did_you_mean(key, group.children)
                document.fail(where, f"is not in the space{hint}")
            case Fixed() as fixed:
                if value != fixed.value and not document.overridden(fixed.where):
                    document.fail(where, f"the space fixes it to {fixed.value!r}")
            case Parameter() as parameter:
                if parameter.admits(value):
                    point[parameter.name] = value
                elif isinstance(value, str) and parameter.choices is None:
                    document.fail(where, "must be a number")
                elif not document.overridden(parameter.where):
                    document.fail(where, f"is outside the space: {parameter.rule()}")
            case Group() as inside:
                if "schedule" in inside.children and not isinstance(value, Mapping):
                    document.fail(where, f"is {{schedule: constant, from: {value}}} in this space")
                _need_mapping(document, where, value)
                _assign_group(inside, document, where, point)
            case Branches() as branches:
                _need_mapping(document, where, value)
                _assign_branch(branches, document, where, point)


def _assign_branch(branches: Branches, document: Document, at: Keys, point: dict[str, Any]) -> None:
    settings = dict(document.get(at))
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in branches.groups:
        if name and document.replaced((*branches.choice.where, "one_of")):
            return
        hint = did_you_mean(str(name), branches.groups)
        document.fail((*at, "name"), f"must name a branch: {', '.join(branches.groups)}{hint}")
    point[branches.choice.name] = name
    inside = branches.groups[name]
    named = Group({**inside.children, "name": Fixed(name, at)}, inside.where)
    _assign_group(named, document, at, point)


def _need_mapping(document: Document, at: Keys, value: Any) -> None:
    if not isinstance(value, Mapping):
        _fail_mapping(document, at)


def _fail_mapping(document: Document, at: Keys) -> NoReturn:
    document.fail(at, "must be a mapping of settings")
