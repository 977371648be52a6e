"""Any metric of anything that has images: a study's winner, a checkpoint, a folder, an .npz."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from raygen.apply.source import file_hash, find_data, open_source, trial_number
from raygen.data import ImageData, data_at, load_data
from raygen.errors import InputError, did_you_mean
from raygen.files import write_json
from raygen.metrics import METRICS, afresh, comparable, too_few
from raygen.metrics.evaluator import SAMPLE_SEED, Evaluator, require
from raygen.metrics.model import Generative
from raygen.metrics.repeated import Value, repeated
from raygen.metrics.stored import Archive, Pictures, StoredImages, open_images
from raygen.plugins import is_reference
from raygen.results import Results, best_model, fresh, load_results
from raygen.study_folder import StudyFolder, TrialFolder, UseFolder

SAMPLES = 10_000


class Evaluated(NamedTuple):
    """What was measured of one source, and the file it was written to, if it has a folder."""

    source: str
    samples: int
    seeds: tuple[int, ...]
    values: list[Value]
    facts: dict[str, Any]  # of the model, if it is one
    file: Path | None

    def content(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        values = {value.metric: value.content() for value in self.values}
        return {"source": self.source, "samples": self.samples, **self.facts, "metrics": values}


class _Source(NamedTuple):
    """Who is measured: a model, or stored images, of which each seed draws others."""

    name: str
    model: Generative | None
    store: Pictures | Archive | None
    data: ImageData
    folder: UseFolder | None
    facts: dict[str, Any]


def evaluate(
    sources: Sequence[Path],
    metrics: Sequence[str] | None,
    samples: int | None,
    seeds: Sequence[int] | None,
    data: str | None,
    device: torch.device,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Evaluated]:
    """Measure each source by each metric, and write evaluation.json beside a study or a trial.

    Without metrics the model of a study is measured as at the end of its search: the number of the
    page's headline. By default 10,000 samples (all images of a folder or an .npz, if there are
    fewer) from the seed of every evaluation during training. `tell` hears of what is left out.

    Raises:
        InputError: an unknown metric, one that a source does not have or that needs more samples,
            nothing to measure, images that cannot be read, weights that cannot be had, or several
            sources whose values do not compare.
    """
    if seeds is not None and len(set(seeds)) < len(seeds):
        raise InputError(f"--seed {' '.join(map(str, seeds))}: each seed counts once")
    if metrics is None:
        return [_as_at_the_end(source, samples, seeds, data, device, tell) for source in sources]
    names, seeds = _known(metrics), seeds or (SAMPLE_SEED,)
    opened = []
    for source in sources:
        opened.append(_open(source, data, device))
        _tell_of(opened[-1], tell)
        _check(opened[-1], names, _count(opened[-1], samples))
    require(names)
    evaluations: list[Evaluated] = []
    for images in opened:
        evaluations.append(_evaluate(images, names, _count(images, samples), tuple(seeds), device))
        _refuse_mixture(evaluations[0], evaluations[-1])
    for evaluated, images in zip(evaluations, opened, strict=True):
        if images.folder is not None:
            _write(images.folder.evaluation, evaluated)
    return evaluations


def _as_at_the_end(
    source: Path,
    samples: int | None,
    seeds: Sequence[int] | None,
    data: str | None,
    device: torch.device,
    tell: Callable[[str], None],
) -> Evaluated:
    if source.is_file() or not StudyFolder(source).journal.exists():
        raise InputError(
            f"{source}: is not a study, so choose what to measure, e.g. --metrics fid,kid"
        )
    model = _open(source, data, device)
    _tell_of(model, tell)
    study = load_results(source)
    plan = afresh.plan_afresh(study.info, model.data)
    plan = plan._replace(samples=samples or plan.samples, seeds=tuple(seeds or plan.seeds))
    for reason in plan.left_out.values():
        tell(f"not measured: {reason}")
    _check(model, plan.metrics, plan.samples)
    require(plan.metrics)
    evaluator = afresh.evaluator(plan, model.data, device, None)
    values = repeated(evaluator, lambda seed: _drawn(model, plan.samples, seed, device), plan.seeds)
    _compare(study, values, tell)
    assert model.folder is not None
    file = model.folder.evaluation
    evaluated = Evaluated(model.name, plan.samples, plan.seeds, values, model.facts, file)
    _write(file, evaluated)
    return evaluated


def _compare(study: Results, values: Sequence[Value], tell: Callable[[str], None]) -> None:
    """Report where a value is not comparable with that of the search, and why."""
    model = best_model(study)
    measured = {} if model is None else fresh(study, model) or {}
    for value in values:
        digest = measured.get(value.metric, {}).get("protocol")
        record = study.info["protocols"].get(digest)
        theirs = comparable(record or {})
        ours = comparable(value.protocol)
        keys = sorted(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
        if record is not None and keys:
            both = ", ".join(f"{key} {ours.get(key)} and {theirs.get(key)}" for key in keys)
            tell(
                f"{value.metric}: not comparable with the search's value, measured differently: "
                f"{both}"
            )


def _tell_of(source: _Source, tell: Callable[[str], None]) -> None:
    """Say what of the images is left out."""
    for note in (*getattr(source.store, "notes", ()), *source.data.notes):
        tell(note)


def evaluation_table(evaluations: Sequence[Evaluated]) -> str:
    """Lay the values out as text, each with its error and the hash of its protocol."""
    rows = [("metric", "value", "sd", "spread", "protocol", "source")]
    for evaluated in evaluations:
        for value in evaluated.values:
            sd, spread = ("" if x is None else f"{x:.2g}" for x in (value.sd, value.spread))
            text = f"{value.value:.6g}"
            rows.append((value.metric, text, sd, spread, value.hash, evaluated.source))
    used = [k for k in range(len(rows[0])) if any(row[k] for row in rows[1:])]
    if len(evaluations) == 1:
        used.remove(5)
    widths = [max(len(row[k]) for row in rows) for k in used]
    lines = (
        "  ".join(row[k].ljust(width) for k, width in zip(used, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _known(metrics: Sequence[str]) -> tuple[str, ...]:
    for name in metrics:
        if name not in METRICS and not is_reference(name):
            hint = did_you_mean(name, METRICS) or f"; choose from {', '.join(METRICS)}"
            raise InputError(f"metrics: {name}: no such metric{hint}")
    return tuple(dict.fromkeys(metrics))


def _open(source: Path, data: str | None, device: torch.device) -> _Source:
    if not source.exists():
        raise InputError(f"{source}: no such checkpoint, study, folder or .npz")
    model = source.is_file() and source.suffix != ".npz"
    if model or StudyFolder(source).journal.exists() or TrialFolder(source).best.exists():
        return _open_model(source, data, device)
    if data is None:
        raise InputError(f"{source}: only images; add --data PATH for the real images they imitate")
    real = load_data(data_at(data))
    return _Source(str(source), None, open_images(source, real.image), real, None, {})


def _open_model(source: Path, data: str | None, device: torch.device) -> _Source:
    opened = open_source(source, device)
    images = find_data(opened.checkpoint, opened.content, data)
    facts = {
        "family": opened.content["trial"]["family"],
        "checkpoint": opened.checkpoint.name,
        "checkpoint_hash": file_hash(opened.checkpoint),
        "trial": trial_number(opened.checkpoint),
        "kimg": opened.content["kimg"],
    }
    beside = not source.is_file() or TrialFolder(source.parent).last.exists()
    folder = opened.folder if beside or source.name == "best.pt" else None
    return _Source(str(source), opened.learner, None, images, folder, facts)


def _count(source: _Source, samples: int | None) -> int:
    if source.store is None:
        return samples or SAMPLES
    return samples or min(SAMPLES, len(source.store))


def _check(source: _Source, names: Sequence[str], samples: int) -> None:
    if source.store is not None and samples > len(source.store):
        raise InputError(
            f"{source.name}: has {len(source.store)} images, fewer than --samples {samples}"
        )
    for name in names:
        if source.store is not None and METRICS[name].features is None:
            raise InputError(f"--metrics {name}: needs a model, but {source.name} holds images")
        family = source.facts.get("family")
        if family is not None and family not in METRICS[name].families:
            raise InputError(f"--metrics {name}: not available for {source.name}, a {family}")
        problem = too_few(name, samples)
        if problem is not None:
            raise InputError(f"--samples {samples}: {problem}")


def _evaluate(
    source: _Source, names: tuple[str, ...], samples: int, seeds: tuple[int, ...], device: Any
) -> Evaluated:
    evaluator = Evaluator(names, source.data, samples, device)
    values = repeated(evaluator, lambda seed: _drawn(source, samples, seed, device), seeds)
    file = None if source.folder is None else source.folder.evaluation
    return Evaluated(source.name, samples, seeds, values, source.facts, file)


def _drawn(source: _Source, samples: int, seed: int, device: torch.device) -> Generative:
    if source.model is not None:
        return source.model
    assert source.store is not None
    return StoredImages(source.store, device, samples, seed)


def _refuse_mixture(one: Evaluated, other: Evaluated) -> None:
    for value, theirs in zip(one.values, other.values, strict=True):
        ours, others = comparable(value.protocol), comparable(theirs.protocol)
        if ours == others:
            continue
        keys = [key for key in {**ours, **others} if ours.get(key) != others.get(key)]
        differences = ", ".join(f"{key} {ours.get(key)} and {others.get(key)}" for key in keys)
        raise InputError(
            f"{value.metric} of {one.source} ({value.hash}) and of {other.source} ({theirs.hash}) "
            f"are not comparable: {differences}"
        )


def _write(file: Path, evaluated: Evaluated) -> None:
    """Add to what was measured before of the same checkpoint."""
    content = evaluated.content()
    try:
        old = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        old = {}
    if old.get("checkpoint_hash") == content["checkpoint_hash"]:
        content["metrics"] = {**old["metrics"], **content["metrics"]}
    del content["samples"]  # each metric's protocol says it
    write_json(file, {"schema": 1, **content})


__all__ = ["SAMPLES", "SAMPLE_SEED", "Evaluated", "Value", "evaluate", "evaluation_table"]
