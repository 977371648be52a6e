"""What one trial needs of a machine, and what that costs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    Tag,
    field_validator,
    model_validator,
)

from raygen.errors import did_you_mean
from raygen.gpu_kinds import WITHOUT_GPU, check_kind
from raygen.spec import Spec, mistake_at

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
