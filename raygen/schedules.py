"""Settings that change over a trial: a pure function of how much of the budget is used.

    discriminator_lr: 2e-4
    generator_lr: {schedule: cosine, from: 2e-4, to: 5e-5, over: 0.3}

Both are settings like any other: what stands in a schedule can be searched, too.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails

from raygen.spec import Spec, key_of, mistake_at

# The share of the budget that a schedule takes where `over` does not say.
SHARES = {"constant": 1.0, "linear": 1.0, "cosine": 1.0, "warmup": 0.05, "burn_in": 0.1}
KINDS = (*SHARES, "steps")


class Schedule(Spec):
    """A setting that moves `from` one value `to` another over the first `over` of the budget.

    Then it stays. `linear` and `warmup` move evenly, `cosine` and `burn_in` by half a period
    (Loshchilov and Hutter 2017). What is left out is 1 of the budget and, for the two that belong
    to the beginning, from 0 over 0.05 (`warmup`) and over 0.1 (`burn_in`, Huang et al. 2024,
    appendix B). `constant` stays at `from`, so that a search may choose between it and another.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    schedule: Literal["constant", "linear", "cosine", "warmup", "burn_in"]
    start: float = Field(alias="from")
    to: float
    over: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """Add what the kind of schedule implies."""
        kind = given.get("schedule") if isinstance(given, Mapping) else None
        if not isinstance(given, Mapping) or not isinstance(kind, str) or kind not in SHARES:
            return given
        implied: dict[str, Any] = {"over": SHARES[kind]}
        if kind == "warmup":
            implied["from"] = 0.0
        if kind == "constant" and "from" in given:
            implied["to"] = given["from"]
        filled = {**implied, **given}
        misspelt = filled.keys() - {"schedule", "from", "to", "over"}
        for end, moves in (("from", "begins at"), ("to", "ends at")):
            if end not in filled and not misspelt:
                raise mistake_at(f"is required: the value that {kind} {moves}", {}, end)
        return filled

    def at(self, share: float) -> float:
        """The value after a share of the budget, 0 to 1."""
        if self.schedule == "constant":
            return self.start
        moved = min(max(share / self.over, 0.0), 1.0)
        if self.schedule in ("cosine", "burn_in"):
            moved = 0.5 * (1.0 - math.cos(math.pi * moved))
        return self.start * (1.0 - moved) + self.to * moved


class Steps(Spec):
    """A setting that jumps: to `values[k]` at the share `at[k - 1]` of the budget, from the first.

    What population based training leaves behind: Jaderberg et al. 2017.
    """

    schedule: Literal["steps"]
    values: Annotated[tuple[float, ...], Field(min_length=1)]
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...]

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if len(self.at) != len(self.values) - 1:
            rule = "needs one place fewer than there are values"
            raise mistake_at(rule, list(self.at), "at")
        if any(after <= before for before, after in pairwise(self.at)):
            raise mistake_at("the places must rise", list(self.at), "at")
        return self

    def value(self, share: float) -> float:
        """The value after a share of the budget, 0 to 1."""
        return self.values[bisect_right(self.at, share)]


def value_at(setting: "Scheduled", share: float) -> float:
    """The value of a setting after a share of the budget, 0 to 1."""
    match setting:
        case Schedule():
            return setting.at(share)
        case Steps():
            return setting.value(share)
        case _:
            return setting


def jumps(setting: Any) -> bool:
    """Whether a setting, as a configuration holds it, is one that jumps."""
    return isinstance(setting, Mapping) and setting.get("schedule") == "steps"


def last_value(setting: Any) -> Any:
    """The last value of a setting that jumps, as a configuration holds it; else the setting."""
    return setting["values"][-1] if jumps(setting) else setting


def _number_or_schedule(number: TypeAdapter[float], ends: TypeAdapter[float], value: Any) -> Any:
    if isinstance(value, Mapping) and "schedule" not in value:
        example = "{schedule: linear, from: 0.1, to: 0.01}"
        raise ValueError(f"must be a number or a schedule such as {example}")
    if isinstance(value, Mapping):
        try:
            key_of(KINDS)(str(value["schedule"]))
        except ValueError as error:
            raise mistake_at(str(error), value["schedule"], "schedule") from error
    if isinstance(value, Steps) or jumps(value):
        steps = value if isinstance(value, Steps) else Steps.model_validate(value)
        places = [(("values", place), each) for place, each in enumerate(steps.values)]
        _check_each(number, places)
        return steps
    if not isinstance(value, Mapping | Schedule):
        return number.validate_python(value)
    schedule = value if isinstance(value, Schedule) else Schedule.model_validate(value)
    _check_each(ends, [(("from",), schedule.start), (("to",), schedule.to)])
    return schedule


def _check_each(
    number: TypeAdapter[float], places: list[tuple[tuple[str | int, ...], float]]
) -> None:
    for place, value in places:
        try:
            number.validate_python(value)
        except ValidationError as error:
            (said,) = error.errors()
            mistake = InitErrorDetails(
                type=said["type"], loc=place, input=said["input"], ctx=said.get("ctx", {})
            )
            raise ValidationError.from_exception_data("Schedule", [mistake]) from None


def _plain(setting: "Scheduled") -> Any:
    return setting.model_dump() if isinstance(setting, Schedule | Steps) else setting


def scheduled(number: Any, ends: Any = None) -> tuple[PlainValidator, PlainSerializer]:
    """Validate a number of one kind, or a schedule whose two ends are of that kind (or `ends`)."""
    kinds = TypeAdapter(number), TypeAdapter(ends or number)
    return PlainValidator(partial(_number_or_schedule, *kinds)), PlainSerializer(_plain)


# A rate may fall to 0, and a weight rise from it, where neither may be 0 throughout.
_POSITIVE = scheduled(Annotated[float, Field(gt=0, allow_inf_nan=False)], NonNegativeFloat)
_ANY = scheduled(Annotated[float, Field(ge=0, allow_inf_nan=False)])
_BETA = scheduled(Annotated[float, Field(ge=0, lt=1)])
_SHARE = scheduled(Annotated[float, Field(ge=0, le=1)])
Scheduled = float | Schedule | Steps
Positive = Annotated[Scheduled, *_POSITIVE]
NonNegative = Annotated[Scheduled, *_ANY]
Beta = Annotated[Scheduled, *_BETA]
Share = Annotated[Scheduled, *_SHARE]
