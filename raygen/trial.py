"""What one trial may say: its networks, losses, optimisers and batches."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    Field,
    NonNegativeFloat,
    PlainSerializer,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    model_validator,
)

from raygen.data.augmentation import PolicyName
from raygen.losses.adversarial import AdversarialLoss
from raygen.losses.elbo import ElboLoss
from raygen.models import ConvVae, Dcgan, GanModel, OwnModel, VaeModel
from raygen.schedules import Beta, NonNegative, Positive, Scheduled, Share
from raygen.spec import Kimg, Spec, mistake_at

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


def batch_problem(trial: Trial, workers: int) -> str | None:
    """Why so many workers cannot share the batches of a trial; None if they can."""
    if trial.batch_size % (workers * trial.accumulate):
        micro = f" x accumulate {trial.accumulate}" if trial.accumulate > 1 else ""
        return f"a batch of {trial.batch_size} does not divide by {workers} workers{micro}"
    return trial.group_problem(workers) if isinstance(trial, GanTrial) else None


def parse_trial(raw: dict[str, Any]) -> Trial:
    """Turn settings that were checked before, such as those of a checkpoint, into a trial."""
    adapter: TypeAdapter[Trial] = TypeAdapter(Annotated[Trial, Field(discriminator="family")])
    return adapter.validate_python(raw)
