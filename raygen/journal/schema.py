"""What the records of a journal hold, and in what order they stand: what every reader relies on.

A journal may have been cut, merged or edited, or come from anybody; a reader would end in the
middle of something else. Fields that are not named here are left alone, so that a later raygen may
add some. Checks are written by hand: a journal of 5,000 trials has 100,000 records.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from raygen import __version__
from raygen.document import shown
from raygen.errors import did_you_mean

Check = Callable[[Any], None]
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
MOST_DEPTH = 50  # of nested settings
LATEST = 1e11  # seconds since 1970: the year 5138
MOST_KIMG = 1e12
ROLES = ("best", "last")


class Wrong(ValueError):
    """A value that breaks a rule; `path` are the names on the way to it."""

    def __init__(self, value: Any, rule: str) -> None:
        super().__init__(rule)
        self.path: tuple[str, ...] = ()
        self.said = "" if isinstance(value, dict | list) else f"{shown(value)}: "

    def __str__(self) -> str:
        names = "".join(f"{shown(name)[1:-1]}: " for name in self.path)
        return f"{names}{self.said}{self.args[0]}"


class Unknown(ValueError):
    """A record of a kind that this raygen does not write."""


def check(record: Mapping[str, Any], order: "Order") -> None:
    """Make sure that a record is one, and that it may stand where it stands.

    Raises:
        Wrong: with the fields on the way to what is wrong, its value and the rule.
        Unknown: of a kind that this raygen does not know.
    """
    kind = record.get("kind")
    if not isinstance(kind, str):
        if "kind" not in record:
            raise Wrong({}, "has no kind")
        raise _at(kind, "must be a text", "kind")
    if kind not in KINDS:
        raise Unknown(
            f"a record of kind {shown(kind)}, which this raygen ({__version__}) does not know; "
            f"made by a newer raygen?{did_you_mean(kind[:100], KINDS)}"
        )
    try:
        KINDS[kind](record)
        order.take(kind, record)
    except Wrong as wrong:
        wrong.path = (kind, *wrong.path)
        raise


class Order:
    """What the records so far say of the trials, as far as the next record depends on it.

    `strict` is for whoever goes on with the search, or tells of it by the clock: every record has
    its time, and trials are numbered without gaps. Studies of an early raygen have neither.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.state: dict[int, str] = {}  # of each trial: open, interrupted or ended
        self.kimg: dict[int, float] = {}  # of its last report
        self.valued: set[int] = set()  # those of which a report had all objectives
        self.repeats: set[int] = set()
        self.objectives: list[str] = []
        self.raced = False

    def take(self, kind: str, record: Mapping[str, Any]) -> None:
        """Check a record against those before it, and remember it."""
        if self.strict and "time" not in record:
            raise _at({}, "is missing", "time")
        if kind == "open" or kind == "reopen":
            self._opens(kind, record["study"])
            return
        if not self.objectives:
            raise Wrong({}, "does not open a study, as the first record must")
        match kind:
            case "suggest":
                self._suggested(record)
            case "finals":
                for number in record["trials"]:
                    self._of_search(number, "trials")
                self.raced = True
            case "race":
                if not self.raced:
                    raise Wrong({}, "there are no finalists yet")
            case "close" | "warm" | "protocol":
                pass
            case _:
                self._of_trial(kind, record)

    def _opens(self, kind: str, study: Mapping[str, Any]) -> None:
        if kind == "open" and self.objectives:
            raise Wrong({}, "the study was opened before")
        if kind == "reopen" and not self.objectives:
            raise Wrong({}, "the study was not opened before")
        self.objectives = [each["metric"] for each in study.get("objectives") or ()]
        self.objectives = self.objectives or [study["objective"]["metric"]]
        for number, state in self.state.items():
            self.state[number] = "open" if state == "interrupted" else state

    def _suggested(self, record: Mapping[str, Any]) -> None:
        number, of = record["trial"], record.get("of")
        if number in self.state:
            raise _at(number, "was suggested before", "trial")
        if self.strict and number != len(self.state):
            raise _at(number, f"is not the next trial, which is {len(self.state)}", "trial")
        if of is not None:
            self._of_search(of, "of")
            self.repeats.add(number)
        self.state[number], self.kimg[number] = "open", 0.0

    def _of_trial(self, kind: str, record: Mapping[str, Any]) -> None:
        number = record["trial"]
        self._known(number, "trial")
        if kind in ("checkpoint", "collect", "final"):
            return
        if self.state[number] != "open":
            raise _at(number, f"the trial has ended ({self.state[number]})", "trial")
        match kind:
            case "report":
                if record["kimg"] <= self.kimg[number]:
                    last = f"its last report was at {self.kimg[number]:g} kimg"
                    raise _at(record["kimg"], f"must rise: {last}", "kimg")
                self.kimg[number] = record["kimg"]
                metrics = record["metrics"]
                if all(metrics.get(name) is not None for name in self.objectives):
                    self.valued.add(number)
            case "decide":
                if number not in self.valued:
                    raise _at(number, "the trial has reported no value yet", "trial")
                self._placed(record)
            case "end":
                state = record["state"]
                self.state[number] = state if state == "interrupted" else "ended"

    def _placed(self, record: Mapping[str, Any]) -> None:
        """A decision by one value has a cut-off, one by several a place among the others."""
        value, count = record["value"], len(self.objectives)
        if isinstance(value, list) and (count == 1 or len(value) != count):
            raise _at(value, f"must be one value for each of {count} objectives", "value")
        for name in ("rank", "kept"):
            if (name in record) != isinstance(value, list):
                has = "is missing" if isinstance(value, list) else "belongs to several objectives"
                raise _at({}, has, name)

    def _known(self, number: int, name: str) -> None:
        if number not in self.state:
            last = f"the last one is {max(self.state)}" if self.state else "there is none"
            raise _at(number, f"no such trial so far: {last}", name)

    def _of_search(self, number: int, name: str) -> None:
        self._known(number, name)
        if number in self.repeats:
            raise _at(number, "is a finalist with another seed, and no trial of the search", name)


def _at(value: Any, rule: str, *path: str) -> Wrong:
    wrong = Wrong(value, rule)
    wrong.path = path
    return wrong


# Values


def _number(value: Any) -> None:
    # By its exact type: true is no number. NaN and infinity fail the comparison.
    kind = type(value)
    if kind is float and -FLOATS <= value <= FLOATS:
        return
    if kind is not int:
        raise Wrong(value, "must be a number")
    if not -(2**63) <= value < 2**63:
        raise Wrong(value, "must be a number of 64 bits")


def _between(low: float, high: float, what: str) -> Check:
    def check(value: Any) -> None:
        kind = type(value)
        if (kind is not float and kind is not int) or not low <= value <= high:
            raise Wrong(value, f"must be {what}")

    return check


def _whole(value: Any) -> None:
    if type(value) is not int or not 0 <= value < 2**63:
        raise Wrong(value, "must be a whole number, 0 or above")


def _text(value: Any) -> None:
    if type(value) is not str:
        raise Wrong(value, "must be a text")


def _flag(value: Any) -> None:
    if type(value) is not bool:
        raise Wrong(value, "must be true or false")


def _scalar(value: Any) -> None:
    if type(value) in (dict, list):
        raise Wrong(value, "must be a plain value")
    if type(value) in (int, float):
        _number(value)


def _plain(value: Any, depth: int = 0) -> None:
    """Any settings: what a later reader flattens, shows and writes again."""
    if depth > MOST_DEPTH:
        raise Wrong(value, f"is nested more than {MOST_DEPTH} deep")
    if type(value) is dict:
        for inside in value.values():
            _plain(inside, depth + 1)
    elif type(value) is list:
        for inside in value:
            _plain(inside, depth + 1)
    elif type(value) in (int, float):
        _number(value)


def _settings(value: Any) -> None:
    if type(value) is not dict:
        raise Wrong(value, "must be a mapping of settings")
    _plain(value)


def _one_of(*words: str) -> Check:
    def check(value: Any) -> None:
        if type(value) is not str or value not in words:
            raise Wrong(value, f"must be one of {', '.join(words)}")

    return check


def _or_none(inner: Check) -> Check:
    def check(value: Any) -> None:
        if value is not None:
            inner(value)

    return check


def _list_of(inner: Check, least: int = 0) -> Check:
    def check(value: Any) -> None:
        if type(value) is not list or len(value) < least:
            raise Wrong(value, f"must be a list{f' of at least {least}' * bool(least)}")
        for index, each in enumerate(value):
            try:
                inner(each)
            except Wrong as wrong:
                wrong.path = (str(index), *wrong.path)
                raise

    return check


def _table_of(inner: Check, names: Check = _text) -> Check:
    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Wrong(value, "must be a mapping")
        for name, each in value.items():
            try:
                names(name)
                inner(each)
            except Wrong as wrong:
                wrong.path = (name, *wrong.path)
                raise

    return check


def _fields(needed: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    """A mapping with these names, and any others."""
    must, may = tuple(needed.items()), tuple((optional or {}).items())

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Wrong(value, "must be a mapping")
        name = ""
        try:
            for name, inner in must:
                if name not in value:
                    raise Wrong({}, "is missing")
                inner(value[name])
            for name, inner in may:
                if name in value:
                    inner(value[name])
        except Wrong as wrong:
            wrong.path = (name, *wrong.path)
            raise

    return check


def _facts(names: dict[str, Check]) -> Check:
    """Facts of a study: each may be missing, as it is in an older one, or null."""
    return _fields({}, {name: _or_none(inner) for name, inner in names.items()})


def _trial_name(value: Any) -> None:
    """The number of a trial as a name: JSON has no others."""
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise Wrong(value, "must be the number of a trial")


def _value(value: Any) -> None:
    (_list_of(_number) if type(value) is list else _number)(value)


FLOATS = sys.float_info.max
_TIME = _between(0, LATEST, "a time in seconds since 1970")
_SECONDS = _between(0, LATEST, "a number of seconds")
_KIMG = _between(0, MOST_KIMG, "a number of kimg")
_METRIC = _fields({"metric": _text, "direction": _one_of("minimize", "maximize")})
_PARAMETER = _fields(
    {"name": _text, "kind": _text},
    {"low": _or_none(_number), "high": _or_none(_number), "log": _or_none(_flag),
     "choices": _or_none(_list_of(_scalar)), "condition": _or_none(_table_of(_scalar))},
)  # fmt: skip
_PROTOCOL = _facts({"metric": _text, "samples": _whole})
# What a study records of itself: raygen.search.study_record writes it.
_FACTS = _facts({
    "objectives": _list_of(_METRIC), "directions": _table_of(_one_of("minimize", "maximize")),
    "name": _text, "family": _text, "raygen": _text, "command": _text, "space_file": _text,
    "resume_command": _text, "space_hash": _text, "started": _TIME, "seed": _scalar,
    "budget": _facts({
        "trials": _whole, "kimg": _KIMG, "hours": _number, "gpu_hours": _number,
        "total_kimg": _number, "target": _number,
    }),
    "scheduler": _facts({"name": _text, "grace_kimg": _KIMG, "reduction_factor": _number}),
    "sampler": _facts({"name": _text, "startup_trials": _whole}),
    "evaluation": _facts({"samples": _whole, "first_samples": _whole, "metrics": _list_of(_text)}),
    "finalists": _facts({"count": _whole, "seeds": _whole, "confidence": _number}),
    "resources": _facts({"workers": _number, "cpus": _number, "gpus": _number}),
    "data": _facts({
        "name": _text, "fingerprint": _text, "classes": _list_of(_text), "train": _whole,
        "test": _whole, "source": _settings,
    }),
    "rungs": _list_of(_KIMG), "milestones": _list_of(_KIMG), "retries": _whole,
    "parameters": _list_of(_PARAMETER), "start_trials": _whole, "settings": _settings,
    "compute": _settings, "recovery": _settings, "checkpoints": _settings,
    "environment": _table_of(_scalar),
})  # fmt: skip
_STUDY = _fields(
    {"objective": _METRIC}, {"protocols": _table_of(_PROTOCOL), "protocol_of": _table_of(_text)}
)
_NUMBERS = _table_of(_or_none(_number))
_FULL = _fields(
    {"value": _or_none(_number), "sd": _or_none(_number),
     "each": _list_of(_or_none(_number), 1)},
    {"spread": _or_none(_number)},
)  # fmt: skip
_ENDS = tuple(state for state in STATES if state != "running")


def _record(needed: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    return _fields(needed, {"time": _TIME, **(optional or {})})


def _protocol(value: Any) -> None:
    _PROTOCOL(value)
    _plain(value)


def _study(value: Any) -> None:
    _STUDY(value)
    _FACTS(value)
    _plain(value)


def _final(record: Any) -> None:
    _FINAL(record)
    for name in record["values"]:
        if name not in record["protocols"]:
            raise _at({}, "is missing", "protocols", name)
    if not record["values"]:
        raise _at({}, "must have a metric", "values")


_FINAL = _record({"trial": _whole, "values": _table_of(_FULL), "protocols": _table_of(_text)})
KINDS: dict[str, Check] = {
    "open": _record({"study": _study}),
    "reopen": _record({"study": _study}, {"changed": _settings}),
    "warm": _record(
        {"study": _text, "source": _whole, "params": _settings,
         "values": _or_none(_list_of(_number, 1))},
    ),
    "protocol": _record({"hash": _text, "record": _protocol}),
    "suggest": _record(
        {"trial": _whole, "config": _settings, "params": _settings, "seed": _whole},
        {"by": _or_none(_text), "of": _or_none(_whole)},
    ),
    "start": _record(
        {"trial": _whole, "node": _text},
        {"attempt": _whole, "device": _or_none(_text), "kimg": _or_none(_KIMG)},
    ),
    "report": _record(
        {"trial": _whole, "kimg": _KIMG, "seconds": _SECONDS,
         "images_per_second": _or_none(_number), "metrics": _NUMBERS,
         "protocols": _table_of(_text)},
        {"sd": _or_none(_NUMBERS), "losses": _or_none(_NUMBERS), "diverged": _or_none(_text),
         "last": _flag, "evaluation_seconds": _or_none(_number),
         "variation": _or_none(_number)},
    ),
    "decide": _record(
        {"trial": _whole, "kimg": _KIMG, "value": _value, "cutoff": _or_none(_number),
         "decision": _one_of("stop", "continue"), "peers": _whole},
        {"band": _or_none(_number), "rank": _whole, "kept": _whole},
    ),
    "checkpoint": _record(
        {"trial": _whole, "kimg": _KIMG, "role": _one_of(*ROLES)}, {"bytes": _whole}
    ),
    "collect": _record({"trial": _whole, "role": _one_of(*ROLES), "bytes": _whole}),
    "retry": _record(
        {"trial": _whole, "attempt": _whole, "reason": _text, "kimg": _KIMG, "wait": _SECONDS}
    ),
    "end": _record({"trial": _whole, "state": _one_of(*_ENDS), "reason": _text}),
    "finals": _record({"trials": _list_of(_whole, 1)}),
    "final": _final,
    "race": _record({
        "seeds": _whole, "means": _table_of(_or_none(_number), _trial_name),
        "best": _table_of(_or_none(_number), _trial_name), "dropped": _list_of(_whole),
        "settled": _flag,
    }),
    "close": _record(
        {"state": _one_of("finished", "interrupted", "failed"), "seconds": _SECONDS},
        {"reason": _text},
    ),
}  # fmt: skip
