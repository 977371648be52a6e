"""What a search would do: the text of --dry-run."""

from collections.abc import Sequence
from pathlib import Path

from raygen.config import Study, StudySpec
from raygen.config_file import a_draw, possible_workers
from raygen.data import ImageData
from raygen.doctor import free_at
from raygen.gpu_kinds import WITHOUT_GPU
from raygen.metrics import METRICS
from raygen.resources import Resources
from raygen.storage import is_uri
from raygen.words import counted, duration, kimg_text

MOST_CLASSES = 12  # that are named


def plan_text(
    study: Study,
    folder: Path | str,
    fits: str,
    data: ImageData | None = None,
    about: Sequence[str] = (),
) -> str:
    """Return what would run: the space, the rungs, the worst-case cost; `fits`: how many at once.

    `data`: the images, if they were read; `about`: lines on the study and where it runs.
    """
    spec = study.spec
    rungs = ", ".join(map(kimg_text, spec.rungs))
    starts = min(len(study.start), spec.budget.trials)
    start = f", the first {starts} from known settings" if starts > 1 else ""
    start = ", the first from known settings" if starts == 1 else start
    most = spec.budget.trials * spec.budget.kimg
    more = "".join(f"{line}\n" for line in about)
    return (
        f"study      {folder}\n"
        f"{more}"
        f"family     {spec.family}\n"
        f"{_read(data)}"
        f"objective  {spec.objective}, {METRICS[spec.objective].direction}d\n"
        f"trials     {spec.budget.trials}{start}\n"
        f"rungs      {rungs} kimg (thousands of images; {spec.scheduler.name})\n"
        f"{_population(study)}"
        f"measured   {_samples(spec)} samples: {', '.join(spec.metrics)}\n"
        f"at most    {most:g} kimg{_unstopped(spec)}{_limits(spec)}\n"
        f"finalists  {_finalists(spec)}\n"
        f"{_at_the_end(spec, data)}"
        f"each trial {_workers(study)} x {spec.resources.cpus:g} CPU, {_gpus(spec.resources)}\n"
        f"at once    {fits}\n"
        f"{_free(folder)}"
        f"{_doubts(study)}"
        f"{_searched(study)}"
    )


def _searched(study: Study) -> str:
    """Every parameter and its values."""
    if not study.parameters:
        return "searched   nothing: all trials have the same settings, each another seed"
    return "\n".join(("searched", *(f"  {p.name}: {p.rule()}" for p in study.parameters)))


def _unstopped(spec: StudySpec) -> str:
    return "" if spec.scheduler.name == "pbt" else " if nothing is stopped"


def _population(study: Study) -> str:
    """What becomes of a population at each rung but the last."""
    spec = study.spec.scheduler
    if spec.name != "pbt":
        return ""
    config = a_draw(study)
    moving = [p.name for p in study.parameters if study.may_change(p, config)]
    count = int(spec.quantile * study.spec.budget.trials)
    return (
        f"copies     {count} of the best replace the worst at each rung but the last, with other\n"
        f"           {', '.join(moving)}\n"
    )


def _workers(study: Study) -> str:
    """How many workers train a trial: as many as its batch divides into."""
    resources = study.spec.resources
    low, high = resources.fewest_workers, resources.most_workers
    *fewer, most = counts = possible_workers(study)
    text = f"{', '.join(map(str, fewer))} or {most} workers" if fewer else counted(most, "worker")
    left_out = len(counts) <= high - low
    return f"{text} (those of {low} to {high} that divide the batch)" if left_out else text


def _gpus(resources: Resources) -> str:
    if resources.gpus == "auto":
        return "a GPU or, as will be measured, a share of one, if there are any"
    return f"{resources.gpus:g} GPU{_kinds(resources)}"


def _kinds(resources: Resources) -> str:
    """Of which kinds a GPU may be, and what an hour of one costs."""
    prices = {kind: f"{kind} (${price:g} per hour)" for kind, price in resources.prices.items()}
    if not resources.gpu_share:
        return f", {prices[WITHOUT_GPU]}" if WITHOUT_GPU in prices else ""
    if resources.accelerator:
        return f": {' or '.join(prices.get(kind, kind) for kind in resources.accelerator)}"
    kinds = [text for kind, text in prices.items() if kind != WITHOUT_GPU]
    return f" of any kind; prices are known of {', '.join(kinds)}" if kinds else ""


def _read(data: ImageData | None) -> str:
    """A line on the images, and one on each that is left out."""
    if data is None:
        return ""
    train, test = len(data.train.labels), len(data.test.labels)
    classes = "1 class" if len(data.classes) == 1 else f"{len(data.classes)} classes"
    counts = f"{train} training and {test} test images, {classes}"
    named = ", ".join(data.classes[:MOST_CLASSES])
    if len(data.classes) > MOST_CLASSES:
        named += ", …"
    lines = [
        f"data       {data.name}: {counts} ({named})",
        *(f"           {n}" for n in data.notes),
    ]
    return "\n".join(lines) + "\n"


def _free(folder: Path | str) -> str:
    """A line on the free disk space of a local folder."""
    if is_uri(str(folder)):
        return ""
    return f"disk       {free_at(Path(folder))[0]:.0f} GB free\n"


def _doubts(study: Study) -> str:
    """Lines on what was hardly meant so, given the budget."""
    spec, kimg, lines = study.spec, study.spec.budget.kimg, []
    if unused := spec.resources.unused_prices:
        lines.append(f"note       not used: the prices of {', '.join(unused)}, {_not_used(spec)}")
    for parameter in study.parameters:
        high = parameter.high
        if parameter.setting == "ema.half_life_kimg" and high is not None and high > kimg:
            lines.append(
                f"note       {parameter.name} goes up to {high:g}, beyond the budget of {kimg:g} "
                "kimg: such averages keep the start of the training"
            )
    chosen = spec.finalists
    again = min(chosen.count, spec.budget.trials) * chosen.seeds * kimg
    if not spec.trade_off and again > spec.budget.trials * kimg:
        lines.append(
            f"note       the finalists may cost more than the whole search: {again:g} kimg of "
            f"{spec.budget.trials * kimg:g}"
        )
    return "".join(f"{line}\n" for line in lines)


def _not_used(spec: StudySpec) -> str:
    if spec.resources.gpu_share:
        return "which resources.accelerator does not name"
    return f"since trials without a GPU cost the price of {WITHOUT_GPU}"


def _samples(spec: StudySpec) -> str:
    counts = [spec.evaluation.samples_at(kimg, spec.rungs) for kimg in spec.rungs]
    return ", ".join(str(count) for count in dict.fromkeys(counts))


def _finalists(spec: StudySpec) -> str:
    chosen = spec.finalists
    if spec.trade_off:
        return "none: where objectives are traded off, no one value says which is the best"
    if not chosen.count:
        return "none"
    count = min(chosen.count, spec.budget.trials)
    most = count * chosen.seeds * spec.budget.kimg
    best = "the best" if count == 1 else f"the best {count}"
    seeds = counted(chosen.seeds, "new seed")
    return f"{best} retrained with up to {seeds}, at most {most:g} kimg"


def _at_the_end(spec: StudySpec, data: ImageData | None) -> str:
    """How what was chosen is measured again, and what is left out for want of images."""
    if data is None:
        return ""
    from raygen.metrics.afresh import plan_afresh

    objectives = [{"metric": name} for name in spec.objectives]
    facts = {"finalists": spec.finalists.model_dump(), "evaluation": spec.evaluation.model_dump()}
    plan = plan_afresh({**facts, "objectives": objectives}, data)
    whom = "the finalists" if spec.finalists.samples else "the model to use"
    seeds = counted(len(plan.seeds), "seed")
    lines = [
        f"at the end {whom}: {', '.join(plan.metrics)} on {plan.samples} samples from {seeds}",
        *(f"           not measured: {reason}" for reason in plan.left_out.values()),
    ]
    return "\n".join(lines) + "\n"


def _limits(spec: StudySpec) -> str:
    """The other budgets, in words."""
    budget = spec.budget.model_dump(exclude={"trials", "kimg", "hours"}, exclude_none=True)
    time = "" if spec.budget.hours is None else f", {duration(3600 * spec.budget.hours)}"
    return time + "".join(f", {v:g} {k.replace('_', ' ')}" for k, v in budget.items())
