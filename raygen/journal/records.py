"""The records of a journal: one frozen class for each kind, which says what its fields may hold.

`parse` makes a record of an object of JSON, and is the one place where what an older raygen left
out gets its value; `as_json` is the way back. A field that is not named here is left alone, so that
a later raygen may add some. A value that is not finite is null in JSON, and None here.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_type_hints

from raygen import __version__
from raygen.document import shown
from raygen.errors import did_you_mean
from raygen.journal.checks import (
    KIMG,
    SECONDS,
    TIME,
    Check,
    Wrong,
    fields,
    flag,
    list_of,
    number_or_range,
    one_of,
    optional_fields,
    or_none,
    plain_value,
    real_number,
    scalar,
    settings,
    table_of,
    text,
    trial_name,
    value_or_values,
    whole,
    wrong_at,
)

SCHEMA = 1  # of the records; study.json has it, too
# Of a trial: how it ended, or that it has not.
STATES = (
    "completed",
    "stopped",
    "diverged",
    "out_of_memory",
    "failed",
    "lost",
    "interrupted",
    "running",
)
GROUPS = (
    "budget", "scheduler", "sampler", "evaluation", "finalists", "resources", "data",
    "environment", "directions", "protocols", "protocol_of", "settings",
    "recovery", "left_out",
)  # fmt: skip
LISTS = ("rungs", "milestones", "parameters")
ROLES = ("best", "last")  # of a checkpoint

_ENDS = tuple(state for state in STATES if state != "running")
_METRIC = fields({"metric": text, "direction": one_of("minimize", "maximize")})
_PARAMETER = fields(
    {"name": text, "kind": one_of("float", "int", "choice")},
    {"log": or_none(flag), "condition": or_none(table_of(scalar))},
)
_RANGE = fields({"low": real_number, "high": real_number})
_CHOICES = fields({"choices": list_of(scalar)})


def _parameter(value: Any) -> None:
    _PARAMETER(value)
    (_CHOICES if value["kind"] == "choice" else _RANGE)(value)


_PROTOCOL = optional_fields({"metric": text, "samples": whole})
# What a study records of itself: raygen.search.study_record writes it.
_FACTS = optional_fields({
    "objectives": list_of(_METRIC), "directions": table_of(one_of("minimize", "maximize")),
    "name": text, "family": text, "raygen": text, "command": text, "space_file": text,
    "resume_command": text, "space_hash": text, "started": TIME, "seed": scalar,
    "budget": optional_fields({
        "trials": whole, "kimg": KIMG, "hours": real_number, "gpu_hours": real_number,
        "total_kimg": real_number, "target": real_number, "dollars": real_number,
    }),
    "scheduler": optional_fields({
        "name": text, "grace_kimg": KIMG, "reduction_factor": real_number,
    }),
    "sampler": optional_fields({"name": text, "startup_trials": whole}),
    "evaluation": optional_fields({
        "samples": whole, "first_samples": whole, "metrics": list_of(text),
    }),
    "finalists": optional_fields({"count": whole, "seeds": whole, "confidence": real_number}),
    "resources": optional_fields({
        "workers": number_or_range, "cpus": real_number, "gpus": real_number,
        "prices": table_of(real_number), "accelerator": list_of(text),
    }),
    "data": optional_fields({
        "name": text, "fingerprint": text, "classes": list_of(text), "train": whole,
        "test": whole, "source": settings,
    }),
    "rungs": list_of(KIMG), "milestones": list_of(KIMG),
    "parameters": list_of(_parameter), "start_trials": whole, "settings": settings,
    "compute": settings, "recovery": optional_fields({"retries": whole}), "checkpoints": settings,
    "environment": table_of(scalar), "left_out": table_of(text),
})  # fmt: skip
_STUDY = fields(
    {"objective": _METRIC}, {"protocols": table_of(_PROTOCOL), "protocol_of": table_of(text)}
)
_NUMBERS = table_of(or_none(real_number))
_FULL = fields(
    {
        "value": or_none(real_number),
        "sd": or_none(real_number),
        "each": list_of(or_none(real_number), 1),
    },
    {"spread": or_none(real_number)},
)


def _protocol(value: Any) -> None:
    _PROTOCOL(value)
    plain_value(value)


def _study(value: Any) -> None:
    _STUDY(value)
    _FACTS(value)
    plain_value(value)


def _measurements(value: Any) -> None:
    table_of(_FULL)(value)
    if not value:
        raise Wrong(value, "must have a metric")


def _by_trial(value: Mapping[str, Any]) -> dict[int, Any]:
    return {int(trial): inside for trial, inside in value.items()}


def _complete(study: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a study, with all groups that readers look into: they ask for none in vain.

    An early raygen had one objective, and no list of them.
    """
    empty = {group: {} for group in GROUPS} | {items: [] for items in LISTS}
    given = {key: value for key, value in study.items() if value is not None or key not in empty}
    return {**empty, **given, "objectives": study.get("objectives") or [study["objective"]]}


TrialNumber = Annotated[int, whole]
Kimg = Annotated[float, KIMG]
Facts = Annotated[dict[str, Any], _study, _complete]
ByTrial = Annotated[dict[int, float | None], table_of(or_none(real_number), trial_name), _by_trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What every record has: the time at which it was written, in seconds since 1970."""

    kind: ClassVar[str]
    time: Annotated[float | None, TIME] = None  # before it is written; early studies have none


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(Record):
    """The first record: what is searched, how and where."""

    kind = "open"
    study: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen(Record):
    """A later session goes on: `changed` holds what it does otherwise, as [before, now]."""

    kind = "reopen"
    study: Facts
    changed: Annotated[dict[str, Any] | None, settings] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm(Record):
    """A trial of an earlier study: finished, or without values a point to try."""

    kind = "warm"
    study: Annotated[str, text]
    source: TrialNumber
    params: Annotated[dict[str, Any], settings]
    values: Annotated[list[float] | None, or_none(list_of(real_number, 1))]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricProtocol(Record):
    """How values with this hash are measured."""

    kind = "protocol"
    hash: Annotated[str, text]
    record: Annotated[dict[str, Any], _protocol]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggest(Record):
    """A new trial, or a replicate `of` a finalist; `by` whom it was suggested.

    Of a population it may be a copy of `parent` as that was at `from_kimg`, in the place of
    `replaces`, which ends (None: of a trial that has ended).

    `kernel`: the hyperparameters of the model that were fitted for it, if some were.
    """

    kind = "suggest"
    trial: TrialNumber
    by: Annotated[str | None, or_none(text)] = None
    config: Annotated[dict[str, Any], settings]
    params: Annotated[dict[str, Any], settings]
    seed: Annotated[int, whole]
    of: Annotated[int | None, or_none(whole)] = None
    kernel: Annotated[list[float] | None, or_none(list_of(real_number))] = None
    parent: Annotated[int | None, or_none(whole)] = None
    from_kimg: Annotated[float, or_none(KIMG)] = 0.0
    replaces: Annotated[int | None, or_none(whole)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Record):
    """An attempt begins on a node, from so many kimg of a checkpoint."""

    kind = "start"
    trial: TrialNumber
    attempt: Annotated[int, whole] = 1
    node: Annotated[str, text]
    pid: Annotated[int | None, whole] = None
    device: Annotated[str, or_none(text)] = ""
    kimg: Annotated[float, or_none(KIMG)] = 0.0
    workers: Annotated[int | None, or_none(whole)] = None  # None: as many as the study says
    accelerator: Annotated[str, text] = ""  # kind of GPU, by Ray's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Record):
    """A milestone: the values of all metrics, how each was measured, and what training cost."""

    kind = "report"
    trial: TrialNumber
    kimg: Kimg
    seconds: Annotated[float, SECONDS]  # of the trial so far, evaluation included
    evaluation_seconds: Annotated[float | None, or_none(real_number)] = None
    images_per_second: Annotated[float | None, or_none(real_number)]
    metrics: Annotated[dict[str, float | None], _NUMBERS]
    losses: Annotated[dict[str, float | None], or_none(_NUMBERS)] = dataclasses.field(
        default_factory=dict
    )
    sd: Annotated[dict[str, float | None], or_none(_NUMBERS)] = dataclasses.field(
        default_factory=dict
    )
    protocols: Annotated[dict[str, str], table_of(text)]
    diverged: Annotated[str | None, or_none(text)] = None
    last: Annotated[bool, flag] = False
    variation: Annotated[float | None, or_none(real_number)] = (
        None  # of the samples, over that of real images
    )
    path: Annotated[str | None, or_none(text)] = None  # how steps were run: graph, eager, …

    def values(self, metrics: Sequence[str]) -> list[float] | None:
        """The values of some metrics; None unless all of them are finite."""
        values = [self.metrics.get(metric) for metric in metrics]
        finite = [value for value in values if value is not None]
        return finite if len(finite) == len(values) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide(Record):
    """Whether a trial goes on from a rung; of several objectives by its rank: `kept` go on.

    A paused trial waits there, and is promoted if it is among the best later.
    """

    kind = "decide"
    trial: TrialNumber
    kimg: Kimg
    decision: Annotated[str, one_of("stop", "continue", "pause", "promote")]
    cutoff: Annotated[float | None, or_none(real_number)]
    peers: Annotated[int, whole]
    band: Annotated[float, or_none(real_number)] = 0.0
    value: Annotated[float | list[float], value_or_values]
    rank: Annotated[int | None, whole] = None
    kept: Annotated[int | None, whole] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Record):
    """A checkpoint was saved."""

    kind = "checkpoint"
    trial: TrialNumber
    kimg: Kimg
    role: Annotated[str, one_of(*ROLES)]
    bytes: Annotated[int, whole] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect(Record):
    """A checkpoint was deleted to save space."""

    kind = "collect"
    trial: TrialNumber
    role: Annotated[str, one_of(*ROLES)]
    bytes: Annotated[int, whole]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Record):
    """A lost trial is to be tried again from its checkpoint at `kimg`, `wait` seconds later.

    One that `moved` left its machine in order: all of its training was saved.
    """

    kind = "retry"
    trial: TrialNumber
    reason: Annotated[str, text]
    attempt: Annotated[int, whole]
    wait: Annotated[float, SECONDS]
    kimg: Kimg
    moved: Annotated[bool, flag] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Record):
    """A trial ended, or was interrupted and goes on with the study."""

    kind = "end"
    trial: TrialNumber
    state: Annotated[str, one_of(*_ENDS)]
    reason: Annotated[str, text]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finals(Record):
    """The finalists, the best first."""

    kind = "finals"
    trials: Annotated[list[int], list_of(whole, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Final(Record):
    """A checkpoint measured again at the end, by metric: mean, SD and each draw."""

    kind = "final"
    trial: TrialNumber
    values: Annotated[dict[str, dict[str, Any]], _measurements]
    protocols: Annotated[dict[str, str], table_of(text)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round(Record):
    """A round of the race of the finalists is over: means, and who is the best how probably."""

    kind = "race"
    seeds: Annotated[int, whole]
    means: ByTrial
    best: ByTrial
    dropped: Annotated[list[int], list_of(whole)]
    settled: Annotated[bool, flag]


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Record):
    """A session ended."""

    kind = "close"
    state: Annotated[str, one_of("finished", "interrupted", "failed")]
    seconds: Annotated[float, SECONDS]
    reason: Annotated[str, text] = ""


OfTrial = Suggest | Start | Report | Decide | Checkpoint | Collect | Retry | End | Final
KINDS: dict[str, type[Record]] = {
    record.kind: record
    for record in (
        Open, Reopen, Warm, MetricProtocol, Suggest, Start, Report, Decide, Checkpoint, Collect,
        Retry, End, Finals, Final, Round, Close,
    )
}  # fmt: skip


class Unknown(ValueError):
    """A record of a kind that this raygen does not write."""


class _Field:
    """A field of a kind: its check, its reader, and whether it may be left out (or null)."""

    def __init__(self, field: dataclasses.Field[Any], hint: Any) -> None:
        self.name = field.name
        check, *reader = hint.__metadata__
        self.check: Check = check
        self.read = reader[0] if reader else None
        missing = dataclasses.MISSING
        self.needed = field.default is missing and field.default_factory is missing
        self.bare = field.default is None  # left out of the JSON where it is None


def _fields_of(kind: type[Record]) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_Field(field, hints[field.name]) for field in dataclasses.fields(kind))


_FIELDS = {kind: _fields_of(kind) for kind in KINDS.values()}


def parse(raw: Mapping[str, Any]) -> Record:
    """Make a record of an object of JSON.

    Raises:
        Wrong: with the fields on the way to what is wrong, its value and the rule.
        Unknown: of a kind that this raygen does not know.
    """
    kind = raw.get("kind")
    if not isinstance(kind, str):
        if "kind" not in raw:
            raise Wrong({}, "has no kind")
        raise wrong_at(kind, "must be a text", "kind")
    if kind not in KINDS:
        raise Unknown(
            f"a record of kind {shown(kind)}, which this raygen ({__version__}) does not know; "
            f"made by a newer raygen?{did_you_mean(kind[:100], KINDS)}"
        )
    try:
        return _made(KINDS[kind], raw, checked=True)
    except Wrong as wrong:
        wrong.path = (kind, *wrong.path)
        raise


def _made(kind: type[Record], raw: Mapping[str, Any], checked: bool) -> Record:
    values = {}
    for field in _FIELDS[kind]:
        if field.name not in raw:
            if field.needed:
                raise wrong_at({}, "is missing", field.name)
            continue
        value = raw[field.name]
        if checked:
            try:
                field.check(value)
            except Wrong as wrong:
                wrong.path = (field.name, *wrong.path)
                raise
        if value is not None or field.needed:
            values[field.name] = value if field.read is None else field.read(value)
    record = kind(**values)
    if checked and isinstance(record, Final):
        for metric in record.values:
            if metric not in record.protocols:
                raise wrong_at({}, "is missing", "protocols", metric)
    return record


def as_json(record: Record) -> dict[str, Any]:
    """Return a record as an object of JSON: a float that is not finite is null."""
    raw: dict[str, Any] = {"kind": record.kind}
    for field in _FIELDS[type(record)]:
        value = getattr(record, field.name)
        if value is not None or not field.bare:
            raw[field.name] = _finite(value)
    return raw


def stamped(record: Record, time: float) -> Record:
    """Return a record as whoever reads the journal will see it, written at this time."""
    return _made(type(record), {**as_json(record), "time": time}, checked=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inside) for inside in value]
    return value
