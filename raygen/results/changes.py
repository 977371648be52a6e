"""From the best starting point to the best trial: which settings change, one change at a time."""

import json
from typing import Any, NamedTuple

from raygen.document import flatten
from raygen.results.ranking import ranked
from raygen.results.study import Results
from raygen.schedules import jumps


class Change(NamedTuple):
    """Settings that change together: one, or a choice with all that exists in its branches only."""

    names: tuple[str, ...]
    before: tuple[Any, ...]  # None: not in this branch
    after: tuple[Any, ...]


class AblationStep(NamedTuple):
    """What one training after the other measured once `change` was made; None: the start."""

    change: Change | None
    values: list[float | None]  # of each seed; None if it has no value


class Ablation(NamedTuple):
    """The measured way from one trial of a study to another."""

    start: int
    best: int
    kimg: float
    seeds: list[int]
    steps: list[AblationStep]


def start_to_best(study: Results) -> tuple[int, int] | None:
    """The best starting point and the best trial; None if there is no start, or it is the best."""
    order = [int(trial) for trial in ranked(study)["trial"]]
    starts = int(study.info.get("start_trials") or 0)
    given = [trial for trial in order if trial < starts]
    return None if not given or order[0] < starts else (given[0], order[0])


def changes(study: Results, start: int, best: int) -> list[Change]:
    """Every change between the settings of two trials, in the order of the search space."""
    here, there = (flatten(study.configs[trial], whole=jumps) for trial in (start, best))
    differ = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    order = [item["name"] for item in study.info["parameters"]]
    groups: dict[str, list[str]] = {}
    for name in sorted(differ, key=lambda name: order.index(name) if name in order else len(order)):
        groups.setdefault(_root(study, name, differ), []).append(name)
    return [
        Change(
            tuple(names),
            tuple(here.get(name) for name in names),
            tuple(there.get(name) for name in names),
        )
        for names in groups.values()
    ]


def _root(study: Results, name: str, differ: list[str]) -> str:
    """The choice that a setting hangs on, if that changes as well; else itself."""
    conditions = {item["name"]: item.get("condition") or {} for item in study.info["parameters"]}
    root = name
    while (parent := next(iter(conditions.get(root, {})), None)) in differ:
        root = str(parent)
    beside = f"{name.rpartition('.')[0]}.name"  # a constant of a branch has no condition of its own
    if root == name and name not in conditions and beside in differ:
        return beside
    return root


def changed(study: Results, start: int, made: list[Change]) -> dict[str, Any]:
    """The settings of a trial after some changes, nested as in a search space."""
    flat = flatten(study.configs[start], whole=jumps)
    for change in made:
        for name, value in zip(change.names, change.after, strict=True):
            if value is None:
                flat.pop(name, None)
            else:
                flat[name] = value
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split(".")
        inside = nested
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[last] = value
    return nested


def read_ablation(study: Results) -> Ablation | None:
    """Return what `raygen ablate` measured; None without it, or if it cannot be read."""
    file = study.folder.ablation
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        steps = [
            AblationStep(
                None if step["change"] is None else Change(*map(tuple, step["change"])),
                [None if value is None else float(value) for value in step["values"]],
            )
            for step in content["steps"]
        ]
        return Ablation(
            int(content["start"]), int(content["best"]), float(content["kimg"]),
            [int(seed) for seed in content["seeds"]], steps,
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError):
        return None
