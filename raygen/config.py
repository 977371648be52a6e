"""What one study may say: frozen, closed, every mistake reported with its place."""

import copy
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from raygen.callbacks import CallbackSpec
from raygen.compute import Compute, Precision
from raygen.data import DataSpec
from raygen.document import Document, flatten, holder
from raygen.gpu_kinds import WITHOUT_GPU
from raygen.metrics import METRICS
from raygen.plugins import hashes
from raygen.resources import Resources
from raygen.schedules import jumps
from raygen.search_settings import SamplerSpec, SchedulerSpec
from raygen.space import Group, Parameter, assign, parameters
from raygen.spec import Kimg, Spec, key_of, mistake_at
from raygen.trial import TRIALS, Family, Trial, batch_problem

Samples = Annotated[int, Field(ge=16, le=1_000_000)]  # beyond, features fill the memory
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # torch and numpy take it, mixed with a position
MetricName = Annotated[str, AfterValidator(key_of(METRICS))]


class Budget(Spec):
    """When the search ends: at whichever limit comes first.

    `kimg`: thousands of real images that one trial at full budget is shown; `hours` of wall time;
    `gpu_hours`, `dollars` (by `resources.prices`) and `total_kimg` over all trials; `target`: a
    value of the objective to reach.
    """

    trials: Annotated[int, Field(gt=0, le=1_000_000)] = 32
    kimg: Kimg
    hours: PositiveFloat | None = None
    gpu_hours: PositiveFloat | None = None
    dollars: PositiveFloat | None = None
    total_kimg: PositiveFloat | None = None
    target: float | None = None


class Finalists(Spec):
    """After the search: the best `count` again at full budget, with up to `seeds` other seeds each.

    The race ends early once one of them is the best with this `confidence`. With `samples` the
    best weights of each finalist are then measured in full: by every objective, against training
    and test images, and by `metrics`, over `sample_seeds` draws of so many samples.
    """

    count: Annotated[int, Field(ge=0, le=1000)] = 3
    seeds: Annotated[int, Field(gt=0, le=1000)] = 3
    confidence: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    samples: Samples | None = None
    sample_seeds: Annotated[int, Field(gt=0, le=100)] = 3
    metrics: tuple[MetricName, ...] = ()

    @model_validator(mode="after")
    def _metrics_need_samples(self) -> "Finalists":
        if self.metrics and self.samples is None:
            rule = "need samples: how many to measure the finalists with"
            raise mistake_at(rule, list(self.metrics), "metrics")
        return self


class Recovery(Spec):
    """A trial that was lost (a node, a process) goes on up to `retries` times.

    One that has not advanced for `hang_minutes` is ended and counts as lost.
    """

    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    # Not below 3 s: a trial gives a sign of life every second, and every trial would be hung.
    hang_minutes: Annotated[float, Field(ge=0.05)] = 30.0


class Checkpoints(Spec):
    """What stays on disk: the weights of the best `keep` trials, within `gigabytes` if given.

    A running trial writes one at every milestone, and between them every `every_minutes`.
    """

    keep: Annotated[int, Field(gt=0, le=1_000_000)] = 10
    gigabytes: PositiveFloat | None = None
    every_minutes: Annotated[float, Field(ge=0.001)] = 10.0  # below, it only ever saves


class Evaluation(Spec):
    """What is measured at every milestone, beside the objective.

    From `samples` images; with `first_samples` from as many up to the first rung, and by the same
    factor more from rung to rung: a cheap estimate where most trials end, a better one to promote.
    A trial's best counts anew at every rung then, since values compare only at equal samples.
    `precision` is that of the networks that make features, at milestones: TF32 is faster on CUDA,
    and its values compare with each other only. What is measured afresh is always in float32.
    """

    metrics: tuple[MetricName, ...] = ()
    precision: Precision = "float32"
    samples: Samples = 5000
    first_samples: Samples | None = None
    every_kimg: Kimg | None = None

    @model_validator(mode="after")
    def _rising(self) -> "Evaluation":
        if self.first_samples is not None and self.first_samples > self.samples:
            rule = f"is above the samples, {self.samples}"
            raise mistake_at(rule, self.first_samples, "first_samples")
        return self

    @property
    def fewest(self) -> int:
        """Samples of the smallest evaluation."""
        return self.first_samples or self.samples

    def samples_at(self, kimg: float, rungs: Sequence[float]) -> int:
        """Samples of the evaluation at a milestone: those of the first rung at or after it."""
        if self.first_samples is None or len(rungs) < 2:
            return self.samples
        rung = min(bisect_left(rungs, kimg * (1 - 1e-9)), len(rungs) - 1)
        growth = (self.samples / self.first_samples) ** (rung / (len(rungs) - 1))
        return round(self.first_samples * growth)


def _name_of_metric(objective: Any) -> Any:
    if isinstance(objective, dict | list):
        rule = "must be the name of a metric, such as fid, which knows its direction"
        raise ValueError(f"{rule}; further objectives go into trade_off")
    return objective


class Job(Spec):
    """One trial to its end: what `raygen train` runs, and what a study runs many of."""

    family: Family
    data: DataSpec = DataSpec()
    objective: Annotated[MetricName, BeforeValidator(_name_of_metric)] = "fid"
    evaluation: Evaluation = Evaluation()
    compute: Compute = Compute()
    seed: Seed = 0

    @property
    def metrics(self) -> tuple[str, ...]:
        """The objective and every other metric, each once."""
        return tuple(dict.fromkeys((self.objective, *self.evaluation.metrics)))


class TrainJob(Job):
    """The file of `raygen train --config`: a trial, its data and its budget.

    `threads` of the CPU: sums are rounded differently with another number, and GANs amplify that,
    so a trial is repeated bit for bit only with as many as it had. `rungs`: where the samples of
    the evaluation grow, if they do.
    """

    kimg: Kimg
    threads: Annotated[int, Field(gt=0, le=1024)] | None = None
    milestones: tuple[Kimg, ...] = ()
    rungs: tuple[Kimg, ...] = ()
    trial: Trial = Field(discriminator="family")


class StudySpec(Job):
    """The file of `raygen tune --space`, without the space itself.

    With a `trade_off`, further metrics are objectives, too: the study seeks the Pareto front.
    """

    trade_off: tuple[MetricName, ...] = ()
    budget: Budget
    scheduler: SchedulerSpec = SchedulerSpec()
    sampler: SamplerSpec = SamplerSpec()
    finalists: Finalists = Finalists()
    recovery: Recovery = Recovery()
    checkpoints: Checkpoints = Checkpoints()
    resources: Resources = Resources()
    callbacks: tuple[CallbackSpec, ...] = ()

    @model_validator(mode="after")
    def _dollars_need_prices(self) -> "StudySpec":
        prices = self.resources.prices
        if self.budget.dollars is None:
            return self
        if not prices:
            rule = "needs resources.prices: dollars per hour of one GPU"
            raise mistake_at(rule, self.budget.dollars, "budget", "dollars")
        if not self.resources.gpu_share and WITHOUT_GPU not in prices:
            rule = f"without gpus needs a price of {WITHOUT_GPU} in resources.prices"
            raise mistake_at(rule, self.budget.dollars, "budget", "dollars")
        return self

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objective, and what it is traded off against."""
        return (self.objective, *self.trade_off)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The objectives and every other metric, each once."""
        return tuple(dict.fromkeys((*self.objectives, *self.evaluation.metrics)))

    @property
    def final_metrics(self) -> tuple[str, ...]:
        """What finalists are measured by in full; nothing if they are not."""
        if self.finalists.samples is None:
            return ()
        tests = (f"{name}_test" for name in self.objectives)
        twins = (name for name in tests if name in METRICS)
        return tuple(dict.fromkeys((*self.objectives, *twins, *self.finalists.metrics)))

    @property
    def rungs(self) -> tuple[float, ...]:
        """Milestones in kimg at which trials are compared; the last is the full budget."""
        factor, budget = self.scheduler.reduction_factor, self.budget.kimg
        if self.scheduler.name == "pbt":
            return with_extra((), self.scheduler.interval_kimg or budget / 10, budget)
        rung = self.scheduler.grace_kimg or budget / factor ** int(math.log(10, factor) + 1e-9)
        rungs = []
        while rung < budget * (1 - 1e-9):
            rungs.append(round(rung, 6))
            rung *= factor
        return (*rungs, budget)

    @property
    def milestones(self) -> tuple[float, ...]:
        """The rungs and the evaluations between them, in kimg."""
        return with_extra(self.rungs, self.evaluation.every_kimg, self.budget.kimg)


# What may change when a study goes on: how long and where it runs, not what it compares.
FREE = (
    "budget.", "resources.", "recovery.", "checkpoints.", "finalists.", "data.", "callbacks"
)  # fmt: skip


class Study(NamedTuple):
    """A validated search: its settings, its space and its known-good starting points."""

    spec: StudySpec
    space: Group
    start: tuple[dict[str, Any], ...]
    raw: dict[str, Any]

    @property
    def parameters(self) -> list[Parameter]:
        return parameters(self.space)

    def settings(self) -> dict[str, Any]:
        """Every setting that must stay as it is while the study goes on, by dotted name."""
        spec = self.spec.model_dump(mode="json")
        flat = flatten({**spec, "space": self.raw["space"], "start": self.raw.get("start") or []})
        kept = {key: value for key, value in flat.items() if not key.startswith(FREE)}
        # Not of `data`, where a name with a colon may be that of a column; nor of who listens.
        free = ("data", "callbacks")
        naming = {key: value for key, value in {**self.raw, **spec}.items() if key not in free}
        code = {f"plugins.{name}": digest for name, digest in hashes(naming).items()}
        kept["budget.kimg"] = self.spec.budget.kimg
        if self.spec.scheduler.name == "pbt":  # its size
            kept["budget.trials"] = self.spec.budget.trials
        return {**kept, **code}

    def points(self, starts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Starting points as values by parameter; what lies outside of the space is left out.

        Raises:
            InputError: one of them is no mapping of settings.
        """
        document = Document("start", {"start": list(starts)}, {(): "--set start"})
        return [assign(self.space, document, ("start", i)) for i in range(len(starts))]

    def may_change(self, parameter: Parameter, config: Mapping[str, Any]) -> bool:
        """Whether a setting of a configuration may be another one later in a training."""
        if parameter.kind != "float":
            return False
        config = copy.deepcopy(dict(config))
        group, key = holder(config, parameter.setting)
        if group is None or key not in group:
            return False
        if isinstance(group[key], Mapping):
            return jumps(group[key])
        group[key] = {"schedule": "steps", "values": [group[key]], "at": []}
        try:
            self.trial(config)
        except ValidationError:
            return False
        return True

    def trial(self, config: dict[str, Any]) -> Trial:
        """Turn one sampled configuration into a trial."""
        return TRIALS[self.spec.family].model_validate({"family": self.spec.family, **config})


def worker_counts(trial: Trial, resources: Resources) -> list[int]:
    """How many workers can train a trial: every count in range into which its batch divides."""
    return [
        count
        for count in range(resources.fewest_workers, resources.most_workers + 1)
        if batch_problem(trial, count) is None
    ]


def with_extra(milestones: Sequence[float], every: float | None, end: float) -> tuple[float, ...]:
    """Milestones before `end`, every multiple of `every`, and `end`, in order, each once."""
    extra = [round(every * k, 6) for k in range(1, int(end / every) + 1)] if every else []
    return tuple(sorted({*(kimg for kimg in milestones if kimg < end), *extra, end}))
