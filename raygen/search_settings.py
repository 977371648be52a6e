"""Who proposes configurations, and who is stopped early."""

import re
from inspect import isabstract
from typing import Annotated, Any, Literal
from warnings import catch_warnings

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from raygen.plugins import argument_problem, is_reference, place_of, resolve
from raygen.spec import Count, Kimg, Spec, imported, key_of, mistake_at

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
