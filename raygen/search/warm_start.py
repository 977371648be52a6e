"""What earlier studies teach a new one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raygen.config import Study
from raygen.data import ImageData
from raygen.document import flatten
from raygen.errors import InputError
from raygen.journal.records import Warm
from raygen.metrics import METRICS
from raygen.results import Results, load_results, ranked
from raygen.space import Branches, Fixed, Group, Parameter
from raygen.trial import TRIALS

POINTS = 5  # of each study whose values do not compare: its best, tried again here


def lessons(
    study: Study, data: ImageData, assets: Mapping[str, Any], earlier: Sequence[Path]
) -> Iterator[Warm]:
    """Yield what to pass to the sampler, as the journal holds it.

    A finished trial whose value means the same here (objectives, budget, data, encoder) and whose
    configuration lies in this space is passed as finished: `params` and `values`. Else its best
    trials become points to try: `params` holds what the two spaces share, and `values` is None.

    Raises:
        InputError: a study cannot be read, is of the other family, or has a trial that is none.
    """
    for path in earlier:
        old = load_results(path)
        family = old.info.get("family")
        if family != study.spec.family:
            raise InputError(
                f"--warm-start {path}: a {family or 'nameless'} study cannot inform a "
                f"{study.spec.family} study"
            )
        same = _comparable(study, data, assets, old)
        order = ranked(old)
        points = 0
        for number in order["trial"].astype(int):
            state = str(order.set_index("trial").loc[number, "state"])
            try:
                point, whole = project(study, old.configs[number])
            except ValidationError as error:
                said = error.errors()[0]["msg"]
                raise InputError(f"--warm-start {path}: trial {number}: {said}") from error
            if same and whole and state == "completed":
                values = _values(study, old, number)
                yield Warm(study=str(path), source=number, params=point, values=values)
            elif not (same and whole) and point and points < POINTS:
                points += 1
                yield Warm(study=str(path), source=number, params=point, values=None)


def project(study: Study, config: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a configuration's parameters in this space, and whether it lies in it entirely.

    Settings that the configuration does not mention have their default, as they had when it ran.
    """
    whole_trial = TRIALS[study.spec.family].model_validate({"family": study.spec.family, **config})
    settings = flatten(whole_trial.model_dump())
    point: dict[str, Any] = {}
    inside = [True]
    _project(study.space, settings, "", point, inside)
    return point, inside[0]


def _project(
    group: Group, settings: dict[str, Any], prefix: str, point: dict[str, Any], inside: list[bool]
) -> None:
    for key, node in group.children.items():
        name = f"{prefix}{key}"
        match node:
            case Fixed() as fixed:
                inside[0] &= name in settings and settings[name] == fixed.value
            case Parameter() as parameter:
                if name in settings and parameter.admits(settings[name]):
                    point[parameter.name] = settings[name]
                else:
                    inside[0] = False
            case Group() as below:
                _project(below, settings, f"{name}.", point, inside)
            case Branches() as branches:
                _branch(branches, settings, f"{name}.", point, inside)


def _branch(
    node: Branches, settings: dict[str, Any], prefix: str, point: dict[str, Any], inside: list[bool]
) -> None:
    name = settings.get(f"{prefix}name")
    if name not in node.groups:
        inside[0] = False
        return
    point[node.choice.name] = name
    _project(node.groups[str(name)], settings, prefix, point, inside)


def _comparable(study: Study, data: ImageData, assets: Mapping[str, Any], old: Results) -> bool:
    spec, info = study.spec, old.info
    metrics = [objective["metric"] for objective in info["objectives"]]
    for metric in metrics:
        ours = assets.get(METRICS[metric].extractor or "", {}).get("hash")
        protocol = info["protocols"].get(info["protocol_of"].get(metric), {})
        if ours is not None and protocol.get("encoder_hash") != ours:
            return False  # another machine trained another classifier
    budget, evaluation = info["budget"], info["evaluation"]
    return (
        metrics == list(spec.objectives)
        and budget.get("kimg") == spec.budget.kimg
        and info["data"].get("fingerprint") == data.fingerprint
        and evaluation.get("samples") == spec.evaluation.samples
        and evaluation.get("first_samples") == spec.evaluation.first_samples
    )


def _values(study: Study, old: Results, number: int) -> list[float]:
    values = old.values[old.values["trial"] == number]
    return [float(values[metric].iloc[0]) for metric in study.spec.objectives]
