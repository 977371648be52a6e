"""A search space or a training configuration, read from its file and checked as a whole."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from raygen.config import Job, Study, StudySpec, TrainJob, worker_counts
from raygen.document import Document, Keys, load_document
from raygen.metrics import METRICS, too_few
from raygen.space import (
    Draw,
    Group,
    RandomSuggester,
    assign,
    conditions,
    ignored,
    parameters,
    parse_space,
    sample,
    settings_of,
)
from raygen.trial import TRIALS, batch_problem
from raygen.validation import checked

CHECKED_DRAWS = 50
MOST_MILESTONES = 10_000


def load_space(file: Path, overrides: Sequence[str] = ()) -> Study:
    """Read and check a search space file.

    Raises:
        InputError: one line per mistake, each with file, line, column, value, rule and, for a
            misspelt name, the nearest one.
    """
    document = load_document(file, overrides)
    _refuse_empty_path(document)
    raw = dict(document.data)
    ours = ("space", "start")
    _refuse_outside_of_space(raw, document)
    settings = {key: value for key, value in raw.items() if key not in ours}
    spec = checked(StudySpec, settings, document, extra_names=ours)
    if "space" not in raw:
        document.fail((), "needs a space: the settings to search")
    space = parse_space(document, ("space",))
    for place, setting in ignored(space):
        document.fail((*place, setting), "a constant schedule stays at `from`: leave it out")
    _check_study(spec, document)
    if spec.sampler.name == "gp" and any(p.condition for p in parameters(space)):
        document.fail(("sampler", "name"), "a Gaussian process cannot search a space with one_of")
    starts = raw.get("start") or []
    if not isinstance(starts, list):
        document.fail(("start",), "must be a list of starting points")
    # The space first: a starting point is only judged against a space that is sound itself.
    _check_draws(spec, space, (), document)
    start = tuple(assign(space, document, ("start", index)) for index in range(len(starts)))
    if overrides and starts:
        # What --set left of them: the study's own file must be read without the --set.
        raw["start"] = [settings_of(space, point) for point in start]
    _check_draws(spec, space, start, document)
    study = Study(spec, space, start, raw)
    _check_population(study, document)
    return study


def load_train_job(file: Path, overrides: Sequence[str] = ()) -> TrainJob:
    """Read and check a configuration for `raygen train`.

    Raises:
        InputError: as load_space.
    """
    document = load_document(file, overrides)
    _refuse_empty_path(document)
    raw = dict(document.data)
    family, trial = raw.get("family"), raw.get("trial")
    if isinstance(trial, dict) and isinstance(family, str) and family in TRIALS:
        if trial.get("family", family) != family:
            document.fail(("trial", "family"), f"is not the family of the job ({family})")
        raw["trial"] = {"family": family, **trial}
    job = checked(TrainJob, raw, document)
    _check_metrics(job, document)
    _check_milestones(job.evaluation.every_kimg, job.kimg, document)
    return job


def _refuse_empty_path(document: Document) -> None:
    """An unset variable in `--set data.path=$PICTURES` must not fall back to other images."""
    at = ("data", "path")
    value = document.get(at)
    empty = isinstance(value, str) and not value.strip()
    if empty or document.mark(at).rstrip() == "--set data.path=":
        document.fail(at, "must not be empty; give a path, or null for data.source")


def _refuse_outside_of_space(raw: dict[str, Any], document: Document) -> None:
    """Settings of a trial at the top of the file: `space` was forgotten, or ends too early."""
    trial = TRIALS.get(str(raw.get("family")))
    for key in raw:
        if trial is not None and key in trial.model_fields and key not in StudySpec.model_fields:
            document.fail((key,), "is a setting of a trial, which stands below `space`")


def _check_milestones(every: float | None, budget: float, document: Document) -> None:
    """An evaluation costs seconds, and each is a row of every table."""
    if every is not None and budget / every > MOST_MILESTONES:
        document.fail(
            ("evaluation", "every_kimg"),
            f"makes {budget / every:,.0f} milestones of {budget:g} kimg, at most "
            f"{MOST_MILESTONES:,} are evaluated",
        )


def _check_study(spec: StudySpec, document: Document) -> None:
    _check_metrics(spec, document)
    _check_milestones(spec.evaluation.every_kimg, spec.budget.kimg, document)
    grace = spec.scheduler.grace_kimg
    if grace is not None and grace > spec.budget.kimg:
        document.fail(
            ("scheduler", "grace_kimg"),
            f"the first rung lies beyond the budget of {spec.budget.kimg:g} kimg",
        )
    if spec.family == "own" and spec.resources.most_workers > 1:
        document.fail(("resources", "workers"), "a trainer of your own trains in one process")
    if spec.scheduler.name == "median" and spec.trade_off:
        document.fail(("scheduler", "name"), "there is no median of several objectives")
    if spec.scheduler.name == "pbt" and spec.trade_off:
        document.fail(("scheduler", "name"), "pbt copies the best by one objective")
    if spec.scheduler.promote and spec.scheduler.name != "asha":
        document.fail(("scheduler", "promote"), f"{spec.scheduler.name} has no rungs; asha has")
    gpus = spec.resources.gpu_share
    if gpus > 1 and gpus != int(gpus):
        document.fail(("resources", "gpus"), "must be a whole number or a fraction of one GPU")


def _check_population(study: Study, document: Document) -> None:
    spec = study.spec
    if spec.scheduler.name != "pbt":
        return
    if spec.scheduler.quantile * spec.budget.trials < 1:
        document.fail(
            ("budget", "trials"),
            f"the worst {spec.scheduler.quantile:g} of a population of {spec.budget.trials} are "
            "nobody; pbt needs more trials, or a larger quantile",
        )
    if len(spec.rungs) < 2:
        document.fail(
            ("scheduler", "interval_kimg"),
            f"is not below the budget of {spec.budget.kimg:g} kimg, so that nobody is ever copied",
        )
    config = a_draw(study)
    if not any(study.may_change(parameter, config) for parameter in study.parameters):
        document.fail(
            ("scheduler", "name"),
            "pbt changes what can follow a schedule (rates, betas, weights, probabilities), and "
            "the space searches none of these as a float; rates with a decay have their course",
        )


def _check_metrics(job: Job, document: Document) -> None:
    places: list[tuple[str, Keys]] = [(job.objective, ("objective",))]
    places += [(m, ("evaluation", "metrics", i)) for i, m in enumerate(job.evaluation.metrics)]
    if isinstance(job, StudySpec):
        places += [(m, ("trade_off", i)) for i, m in enumerate(job.trade_off)]
        final = [(m, ("finalists", "metrics", i)) for i, m in enumerate(job.finalists.metrics)]
        places += final
        for name in job.final_metrics:
            problem = too_few(name, job.finalists.samples or 0)
            if problem is not None:
                document.fail(("finalists", "samples"), problem)
        for index, name in enumerate(job.trade_off):
            if name in job.objectives[: index + 1]:
                document.fail(("trade_off", index), f"{name} is already an objective")
    for name, at in places:
        metric = METRICS[name]
        if job.family not in metric.families:
            choices = ", ".join(key for key, m in METRICS.items() if job.family in m.families)
            document.fail(at, f"a {job.family} has no {name}; choose from {choices}")
        key = "first_samples" if job.evaluation.first_samples else "samples"
        problem = too_few(name, job.evaluation.fewest)
        if problem is not None and name in job.metrics:
            document.fail(("evaluation", key), problem)


def a_draw(study: Study) -> dict[str, Any]:
    """Return a configuration of a space, the same at every call: its first starting point."""
    point = study.start[0] if study.start else {}
    return sample(study.space, RandomSuggester(0, point)).config


def possible_workers(study: Study) -> list[int]:
    """Every number of workers that can train some configuration of a study."""
    resources = study.spec.resources
    if resources.fewest_workers == resources.most_workers:
        return [resources.most_workers]
    trials = {
        (trial.batch_size, trial.accumulate): trial
        for trial in (study.trial(draw.config) for draw in _draws(study.space, study.start))
    }
    return sorted({n for trial in trials.values() for n in worker_counts(trial, resources)})


def _check_draws(
    spec: StudySpec, space: Group, start: tuple[dict[str, Any], ...], document: Document
) -> None:
    """Build many samples as trials, so that no draw of the search can be an invalid one."""
    for draw in _draws(space, start):
        config = {"family": spec.family, **draw.config}
        trial = checked(TRIALS[spec.family], config, document, partial(_place, draw))
        problem = batch_problem(trial, spec.resources.fewest_workers)
        if problem is not None:
            document.fail(draw.where.get(("batch_size",), ("resources", "workers")), problem)


def _draws(space: Group, start: tuple[dict[str, Any], ...]) -> Iterator[Draw]:
    """Every end of every range, every choice and every starting point; all else at random."""
    # Ends first: of a range that leaves what is admitted, a user then reads a number of theirs.
    searched, needed = parameters(space), conditions(space)
    lows = {p.name: p.ends()[0] for p in searched}
    ends = [{**lows, **needed[p.name], p.name: end} for p in searched for end in p.ends()]
    random: list[dict[str, Any]] = [{} for _ in range(CHECKED_DRAWS)]
    for seed, values in enumerate([*ends, *random, *start]):
        yield sample(space, RandomSuggester(seed, values))


def _place(draw: Draw, at: Keys) -> Keys:
    """Where a setting of a draw stands in the file, or the nearest group around it."""
    near = at
    while near and near not in draw.where:
        near = near[:-1]
    return (*draw.where[near], *at[len(near) :]) if near else ("space", *at)
