"""What one trial and one study may say: frozen, closed, every mistake reported with its place."""

import copy
import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from inspect import isabstract
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar
from warnings import catch_warnings

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    PlainSerializer,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from raygen.callbacks import CallbackSpec
from raygen.compute import Compute, Precision
from raygen.data import DataSpec
from raygen.data.augmentation import PolicyName
from raygen.document import Document, flatten, holder
from raygen.errors import did_you_mean
from raygen.gpu_kinds import WITHOUT_GPU, check_kind
from raygen.losses.adversarial import AdversarialLoss
from raygen.losses.elbo import ElboLoss
from raygen.metrics import METRICS
from raygen.models import ConvVae, Dcgan, GanModel, OwnModel, VaeModel
from raygen.plugins import argument_problem, hashes, is_reference, place_of, resolve
from raygen.schedules import Beta, NonNegative, Positive, Scheduled, Share, jumps
from raygen.space import (
    Group,
    Parameter,
    assign,
    parameters,
)
from raygen.spec import Spec, imported, key_of, mistake_at

IMAGE = 0.001  # kimg: nothing happens more often than once an image
Samples = Annotated[int, Field(ge=16, le=1_000_000)]  # beyond, features fill the memory
Kimg = Annotated[float, Field(ge=IMAGE, le=1e9)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # torch and numpy take it, mixed with a position
Family = Literal["gan", "vae", "own"]
Decay = Literal["none", "linear", "cosine"]


class _Optimizer(Spec):
    """What the optimisers of GANs and VAEs share.

    Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019) or Muon (Jordan et al. 2024) for
    the matrices of hidden layers, with its `momentum`, and Adam for all else. `weight_decay` is
    decoupled, and not Adam's. Rates fall to 0 at full budget with a `decay`, or follow a schedule;
    gradients are clipped to a norm of `clip` (0 = not).
    """

    beta1: Beta = 0.9
    beta2: Beta = 0.999
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    weight_decay: NonNegativeFloat = 0.0
    clip: NonNegativeFloat = 0.0
    decay: Decay = "none"

    @property
    def betas_are_numbers(self) -> bool:
        """Whether no schedule changes them."""
        return isinstance(self.beta1, float) and isinstance(self.beta2, float)

    @property
    def rates(self) -> list[Scheduled]:
        """Every learning rate."""
        names = (name for name in type(self).model_fields if name.endswith("lr"))
        return [getattr(self, name) for name in names]

    @property
    def constant(self) -> bool:
        """Whether rates and betas stay what they are."""
        numbers = all(isinstance(rate, float) for rate in self.rates)
        return self.decay == "none" and numbers and self.betas_are_numbers

    @model_validator(mode="after")
    def _settings_are_its_own(self) -> Self:
        name: str = getattr(self, "name")  # noqa: B009
        if self.momentum != 0.95 and name != "muon":
            raise mistake_at(f"is a setting of muon, not {name}", self.momentum, "momentum")
        if self.weight_decay and name == "adam":
            rule = "is a setting of adamw and muon, not adam"
            raise mistake_at(rule, self.weight_decay, "weight_decay")
        if name == "adamax" and not self.betas_are_numbers:
            beta = "beta2" if isinstance(self.beta1, float) else "beta1"
            raise mistake_at("the betas of adamax cannot follow a schedule", {}, beta)
        if self.decay != "none" and not all(isinstance(rate, float) for rate in self.rates):
            rule = "give a rate a schedule or all rates a decay, not both"
            raise mistake_at(rule, self.decay, "decay")
        return self


class GanOptimizer(_Optimizer):
    """One optimiser for each network, and discriminator steps per generator step."""

    name: Literal["adam", "adamw", "muon"] = "adam"
    generator_lr: Positive = 2e-4
    discriminator_lr: Positive = 2e-4
    beta1: Beta = 0.5
    discriminator_steps: Annotated[int, Field(gt=0, le=20)] = 1


class VaeOptimizer(_Optimizer):
    """As for a GAN, or Adamax (Kingma and Ba 2015, section 7.1).

    Updates of Adam and AdamW whose gradient norm, before it is clipped, is not below `skip` (nats
    per image) or not finite are left out (0 = none; Child 2021, section 3).
    """

    name: Literal["adam", "adamw", "adamax", "muon"] = "adam"
    lr: Positive = 1e-3
    clip: NonNegativeFloat = 100.0
    skip: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _skips_by_one_kernel(self) -> Self:
        if self.skip and (self.name not in ("adam", "adamw") or not self.betas_are_numbers):
            rule = "is a setting of adam and adamw, with betas that are numbers"
            raise mistake_at(rule, self.skip, "skip")
        return self


class Ema(Spec):
    """Average of the weights that is evaluated and kept.

    The half-life is in thousands of images and at most `rampup` times the images seen so far
    (Karras et al. 2020 b, ADA); a half-life of 0 evaluates the weights themselves.
    """

    half_life_kimg: NonNegative = 10.0
    rampup: PositiveFloat = 0.05


T = TypeVar("T", "GanTrial", "VaeTrial")


def _batch_divides(trial: T) -> T:
    if trial.batch_size % trial.accumulate:
        rule = f"does not divide the batch_size of {trial.batch_size}"
        raise mistake_at(rule, trial.accumulate, "accumulate")
    return trial


class Adaptive(Spec):
    """How often images are augmented, driven by the discriminator's overfitting (ADA).

    The probability starts at 0 and rises while the share of real images that the discriminator
    calls real, minus that it calls generated, is above `target`; it falls below. From 0 to 1 takes
    at least `kimg`. Karras et al. 2020 b, section 3.1: 0.6 and 500.
    """

    target: Annotated[float, Field(gt=-1, lt=1)] = 0.6
    kimg: Kimg = 500.0


_SHARE: TypeAdapter[Scheduled] = TypeAdapter(Share)


def _probability(value: Any) -> Scheduled | Adaptive:
    if isinstance(value, Adaptive):
        return value
    if isinstance(value, Mapping) and ("schedule" not in value or {"target", "kimg"} & set(value)):
        return Adaptive.model_validate(value)
    return _SHARE.validate_python(value)


AugmentP = Annotated[
    Scheduled | Adaptive,
    PlainValidator(_probability),
    PlainSerializer(lambda p: p.model_dump() if isinstance(p, Spec) else p),
]


class GanTrial(Spec):
    """One configuration of a GAN.

    `augment` changes what the discriminator sees, with each of its parts at a probability of
    `augment_p`: "color,translation,cutout" (DiffAugment), "blit,geometric" (ADA), or some of them.
    With `accumulate` k, each worker's part of a batch passes in k parts, for the memory
    of one: the same gradients, but batch normalisation sees one part at a time.
    """

    family: Literal["gan"] = "gan"
    model: GanModel = Dcgan()
    loss: AdversarialLoss = AdversarialLoss()
    optimizer: GanOptimizer = GanOptimizer()
    ema: Ema = Ema()
    batch_size: Annotated[int, Field(ge=2)] = 64
    flip: bool = True
    augment: PolicyName = "none"
    augment_p: AugmentP = 1.0
    accumulate: PositiveInt = 1

    @model_validator(mode="after")
    def _batch_divides(self) -> "GanTrial":
        return _batch_divides(self)

    @model_validator(mode="after")
    def _probability_is_of_something(self) -> "GanTrial":
        if self.augment == "none" and self.augment_p != 1:
            rule = "needs an augment; to search for none, let augment_p be 0 among others"
            raise mistake_at(rule, self.augment_p, "augment_p")
        return self

    @model_validator(mode="after")
    def _groups_divide(self) -> "GanTrial":
        problem = self.group_problem(workers=1)
        if problem is not None:
            raise ValueError(problem)
        return self

    def group_problem(self, workers: int) -> str | None:
        """Why groups of images that the discriminator compares would not be those of one batch."""
        group, part = self.model.compared_images, self.batch_size // (workers * self.accumulate)
        if part % group == 0:
            return None
        return (
            f"{part} images pass the discriminator at once, which do not divide into the groups of "
            f"{group} that it compares: change model.minibatch_std or batch_size"
        )

    @model_validator(mode="after")
    def _penalty_needs_independent_images(self) -> "GanTrial":
        if self.loss.penalty and self.model.mixes_images:
            rule = "needs a discriminator that scores each image by itself, so "
            rule += "model.discriminator_norm must not be batch"
            raise mistake_at(rule, self.loss.penalty, "loss", "penalty")
        return self


class VaeTrial(Spec):
    """One configuration of a VAE.

    With `accumulate` k, each worker's part of a batch passes in k parts, for the memory of one:
    the same gradients, but batch normalisation and free bits see one part at a time.
    """

    family: Literal["vae"] = "vae"
    model: VaeModel = ConvVae()
    loss: ElboLoss = ElboLoss()
    optimizer: VaeOptimizer = VaeOptimizer()
    ema: Ema = Ema()
    batch_size: Annotated[int, Field(ge=2)] = 64
    flip: bool = True
    accumulate: PositiveInt = 1

    @model_validator(mode="after")
    def _batch_divides(self) -> "VaeTrial":
        return _batch_divides(self)


class OwnTrial(Spec):
    """One configuration of a generator that the user's own code trains.

    By default without an average of its weights: `ema` adds one.
    """

    family: Literal["own"] = "own"
    model: OwnModel
    ema: Ema = Ema(half_life_kimg=0.0)
    batch_size: Annotated[int, Field(ge=2)] = 64
    flip: bool = True

    @property
    def accumulate(self) -> int:
        """Parts in which a batch passes: its author's business."""
        return 1


Trial = GanTrial | VaeTrial | OwnTrial
TRIALS: dict[str, type[Trial]] = {"gan": GanTrial, "vae": VaeTrial, "own": OwnTrial}
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


PBT = ("interval_kimg", "quantile", "resample")  # settings of this scheduler, and of no other


class SchedulerSpec(Spec):
    """Who is stopped early: `asha` (Li et al. 2020), `median` (Golovin et al. 2017) or none.

    Or `pbt`, population based training (Jaderberg et al. 2017): all trials train side by side, and
    every `interval_kimg` (by default a tenth of the budget) the worst `quantile` of them become
    copies of some of the best, weights and settings. Of these settings those that can follow a
    schedule are changed by a fifth, up or down, or with probability `resample` drawn anew.

    The first rung is at `grace_kimg`: by default the highest power of the reduction factor below
    the budget that leaves it at 10% or more of it. A trial is not cut while it is within `noise`
    standard errors of the cut-off, where the metric knows its error. With `promote` asha stops
    nobody: a trial waits at its rung, and goes on from its checkpoint once it is among the best.
    """

    name: Literal["asha", "median", "pbt", "none"] = "asha"
    grace_kimg: Kimg | None = None
    interval_kimg: Kimg | None = None
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    reduction_factor: Annotated[float, Field(ge=2, le=1000)] = 3.0
    noise: NonNegativeFloat = 1.0
    promote: bool = False

    @model_validator(mode="after")
    def _settings_are_its_own(self) -> "SchedulerSpec":
        fields = type(self).model_fields
        pbt = self.name == "pbt"
        others = set(fields) - {"name", *PBT} if pbt else PBT
        for name in (name for name in fields if name in others):
            value = getattr(self, name)
            if value != fields[name].default:
                rule = f"pbt's settings are {', '.join(PBT)}" if pbt else "is a setting of pbt"
                raise mistake_at(rule, value, name)
        return self


def _package(name: str) -> str:
    if not re.fullmatch(r"[\w./-]+(@[\w.-]+)?", name):
        raise ValueError(
            "must be a package of OptunaHub, such as samplers/NAME or samplers/NAME@REF"
        )
    return name


SAMPLERS = ("curve", "tpe", "random", "quasi_random", "gp", "nsga2", "nsga3")


class SamplerSpec(Spec):
    """Who proposes configurations; curve, tpe and gp model none of the first `startup_trials`.

    `design_share`: of the compute of curve that goes to points of a quasi-random sequence.
    `prior`: how far curve prefers the neighbourhood of the starting points, 0 to not at all.
    `population`: trials of one generation of nsga2 and nsga3.

    Or any class of optuna.samplers.BaseSampler, as `package.module:Class` or `file.py:Class`, and
    of OptunaHub by `hub: samplers/NAME` (`@REF` for one state of it), with its `arguments`. It is
    made afresh for each trial, with a seed if it takes one.

    Raises:
        ValueError: a setting that the sampler does not have.
    """

    hub: Annotated[str, AfterValidator(_package)] | None = None
    name: str = "curve"
    arguments: dict[str, Any] = {}
    startup_trials: Count = 12
    design_share: Annotated[float, Field(ge=0, le=1)] = 1 / 3
    prior: NonNegativeFloat = 1.0
    population: Annotated[int, Field(ge=4, le=10_000)] = 24

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str, info: ValidationInfo) -> str:
        """Import what a reference names: a mistake in it is reported before a search."""
        if info.data.get("hub") is not None:
            return name
        if not is_reference(name):
            return key_of(SAMPLERS)(name)
        imported(name)
        return name

    @model_validator(mode="after")
    def _settings_are_its_own(self) -> "SamplerSpec":
        if self.arguments and not self.others:
            rule = f"are for a sampler named as module:Class, not {self.name}"
            raise mistake_at(rule, self.arguments, "arguments")
        owners = {
            "startup_trials": SAMPLERS,
            "design_share": ("curve",),
            "prior": ("curve",),
            "population": ("nsga2", "nsga3"),
        }
        for setting, names in owners.items():
            value = getattr(self, setting)
            if value != type(self).model_fields[setting].default and (
                self.others or self.name not in names
            ):
                rule = f"is a setting of {' and '.join(names)}, not {self.called}"
                raise mistake_at(rule, value, setting)
        return self

    @model_validator(mode="after")
    def _can_be_made(self) -> "SamplerSpec":
        """Make a sampler of others once: what it refuses is reported before a search."""
        if self.hub is not None or not is_reference(self.name):
            return self
        kind = resolve(self.name)
        # By its name: only raygen.search imports Optuna.
        bases = [(base.__module__, base.__name__) for base in getattr(kind, "__mro__", ())]
        if ("optuna.samplers._base", "BaseSampler") not in bases or isabstract(kind):
            rule = "must be a class of optuna.samplers.BaseSampler"
            raise mistake_at(rule, self.name, "name")
        if problem := argument_problem(kind, self.arguments):
            at = [name for name in self.arguments if f" {name!r}" in problem][:1]
            raise mistake_at(problem, self.arguments.get(*at) if at else {}, "arguments", *at)
        try:
            with catch_warnings(action="ignore"):
                kind(**self.arguments)
        except Exception as error:  # whatever its author raises
            raise mistake_at(f"{self.name}: {place_of(error)}", {}, "arguments") from error
        return self

    @property
    def others(self) -> bool:
        """Whether it is none of raygen's."""
        return self.hub is not None or is_reference(self.name)

    @property
    def called(self) -> str:
        """What messages and tables call it."""
        return self.hub or self.name


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


GpuKind = Annotated[str, AfterValidator(check_kind)]
Workers = Annotated[int, Field(gt=0, le=10_000)]


class WorkerRange(Spec):
    """From how many workers up to how many a trial trains with, as there is room."""

    min: Workers = 1
    max: Workers

    @model_validator(mode="after")
    def _ascends(self) -> "WorkerRange":
        if self.min > self.max:
            raise mistake_at(f"is above the max, {self.max}", self.min, "min")
        return self


class Resources(Spec):
    """What one trial needs; `workers` > 1 trains it with DDP, each worker with these resources.

    With a range of workers a trial begins with as many as there is room for, goes on with fewer
    when some are lost, and grows again at a milestone: batches stay what they are, and results are
    equal up to rounding. Trials that have a fraction of a GPU share it, each kept to its part of
    the memory. With `auto` that fraction is measured at the start of a search, and is 0 on a
    cluster without GPUs. `accelerator`: the kinds of GPU that a trial may have, by Ray's names
    (`ray.io/accelerator-type`). `prices`: dollars that an hour of one GPU costs, by its kind; an
    hour of a worker without a GPU is that of the kind `CPU`.
    """

    workers: Annotated[
        Annotated[Workers, Tag("=number")] | Annotated[WorkerRange, Tag("=range")],
        Discriminator(lambda v: "=range" if isinstance(v, Mapping | WorkerRange) else "=number"),
    ] = 1
    cpus: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    gpus: Annotated[float, Field(ge=0, le=10_000)] | Literal["auto"] = 0.0
    concurrent: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    accelerator: tuple[GpuKind, ...] = ()
    prices: dict[GpuKind, NonNegativeFloat] = {}

    @field_validator("accelerator", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _kinds_have_prices(self) -> "Resources":
        if self.accelerator and not self.gpu_share:
            rule = "needs gpus: trials without a GPU run on any machine"
            raise mistake_at(rule, list(self.accelerator), "accelerator")
        for place, kind in enumerate(self.accelerator):
            if kind in self.accelerator[:place]:
                raise mistake_at("appears twice here", kind, "accelerator", place)
            if self.prices and kind not in self.prices:
                rule = f"resources.prices has none{did_you_mean(kind, self.prices)}"
                raise mistake_at(rule, kind, "accelerator", place)
        return self

    @property
    def unused_prices(self) -> list[str]:
        """Kinds that have a price and that no trial may have."""
        usable = self.accelerator if self.gpu_share else (WITHOUT_GPU,)
        return [kind for kind in self.prices if usable and kind not in usable]

    @property
    def fewest_workers(self) -> int:
        """Workers without which no trial trains."""
        return self.workers.min if isinstance(self.workers, WorkerRange) else self.workers

    @property
    def most_workers(self) -> int:
        """Workers beyond which no trial grows."""
        return self.workers.max if isinstance(self.workers, WorkerRange) else self.workers

    def trials_on(self, places: int) -> int:
        """How many trials so many places for workers hold; the last may have fewer than most."""
        return max(1, places // self.most_workers) if places >= self.fewest_workers else 0

    @property
    def bundle(self) -> dict[str, float]:
        """What one worker reserves, by Ray's names."""
        gpu = {"GPU": self.gpu_share} if self.gpu_share else {}
        return {"CPU": self.cpus, **gpu}

    @property
    def gpu_share(self) -> float:
        """GPUs that a trial reserves: a whole one until `auto` is settled."""
        return 1.0 if self.gpus == "auto" else self.gpus


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


def batch_problem(trial: Trial, workers: int) -> str | None:
    """Why so many workers cannot share the batches of a trial; None if they can."""
    if trial.batch_size % (workers * trial.accumulate):
        micro = f" x accumulate {trial.accumulate}" if trial.accumulate > 1 else ""
        return f"a batch of {trial.batch_size} does not divide by {workers} workers{micro}"
    return trial.group_problem(workers) if isinstance(trial, GanTrial) else None


def with_extra(milestones: Sequence[float], every: float | None, end: float) -> tuple[float, ...]:
    """Milestones before `end`, every multiple of `every`, and `end`, in order, each once."""
    extra = [round(every * k, 6) for k in range(1, int(end / every) + 1)] if every else []
    return tuple(sorted({*(kimg for kimg in milestones if kimg < end), *extra, end}))


def parse_trial(raw: dict[str, Any]) -> Trial:
    """Turn settings that were checked before, such as those of a checkpoint, into a trial."""
    adapter: TypeAdapter[Trial] = TypeAdapter(Annotated[Trial, Field(discriminator="family")])
    return adapter.validate_python(raw)
