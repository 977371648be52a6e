"""What a study records about itself, and whether it is still the same when resumed."""

import json
import platform
from importlib.metadata import version
from typing import Any

from raygen import __version__
from raygen.config import Study
from raygen.data import ImageData
from raygen.errors import InputError
from raygen.journal import read_records
from raygen.journal.records import SCHEMA, Open
from raygen.metrics import METRICS
from raygen.study_folder import StudyFolder


def describe(study: Study, data: ImageData, name: str) -> dict[str, Any]:
    """Return what a study records about itself, as study.json holds it."""
    spec = study.spec
    keys = ("name", "kind", "low", "high", "log", "choices", "condition")
    objectives = [{"metric": m, "direction": METRICS[m].direction} for m in spec.objectives]
    parameters = [{**p._asdict(), "name": p.setting} for p in study.parameters]
    return {
        "schema": SCHEMA,
        "name": name,
        "raygen": __version__,
        "family": spec.family,
        "objective": objectives[0],
        "objectives": objectives,
        "directions": {metric: METRICS[metric].direction for metric in spec.metrics},
        "budget": spec.budget.model_dump(),
        "scheduler": spec.scheduler.model_dump(),
        "rungs": list(spec.rungs),
        "milestones": list(spec.milestones),
        "sampler": spec.sampler.model_dump(),
        "evaluation": spec.evaluation.model_dump(mode="json"),
        "compute": spec.compute.model_dump(mode="json"),
        "seed": spec.seed,
        "finalists": spec.finalists.model_dump(),
        "recovery": spec.recovery.model_dump(),
        "checkpoints": spec.checkpoints.model_dump(),
        "settings": study.settings(),
        "resources": spec.resources.model_dump(),
        "data": {**data.summary(), "source": spec.data.model_dump()},
        "parameters": [{key: p[key] for key in keys} for p in parameters],
        "start_trials": len(study.start),
        "environment": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "ray", "optuna")},
            "device": "cuda" if spec.resources.gpu_share else "cpu",
            "platform": platform.platform(),
        },
    }


def check_same(study: Study, folder: StudyFolder, info: dict[str, Any]) -> None:
    """Make sure that a resumed study compares the same as before.

    Raises:
        InputError: with one line per setting that differs.
    """
    records = read_records(folder.journal)
    if not records:
        return
    first = records[0]
    assert isinstance(first, Open)  # read_records makes sure
    old = first.study
    before, now = old["settings"], json.loads(json.dumps(info["settings"]))
    lines = []
    for key in sorted({*before, *now}):
        was, is_now = before.get(key, "not set"), now.get(key, "not set")
        if was != is_now and not (key == "start" and _same_points(study, was)):
            lines.append(f"{folder.root}: {key}: was {_short(was)}, is {_short(is_now)}")
    was, is_now = (f"{d['name']} ({d['fingerprint']})" for d in (old["data"], info["data"]))
    if was != is_now:
        lines.append(f"{folder.root}: data: was {was}, is {is_now}")
    if lines:
        lines.append("a study resumes only as it began: choose another --name, or --resume never")
        raise InputError("\n".join(lines))


def _same_points(study: Study, starts: Any) -> bool:
    """Whether starting points mean those of this study: --set may have left out parts of them."""
    try:
        return study.points(starts) == list(study.start)
    except InputError:
        return False


def _short(value: Any) -> str:
    return value if value == "not set" else json.dumps(value)
