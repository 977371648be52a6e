"""What a value of a record may be: one check a kind of value, and where a value breaks its rule.

Written by hand, without a library: a journal of 5,000 trials has 100,000 records.
"""

import sys
from collections.abc import Callable
from typing import Any

from raygen.document import shown

Check = Callable[[Any], None]
MOST_DEPTH = 50  # of nested settings
LATEST = 1e11  # seconds since 1970: the year 5138
MOST_KIMG = 1e12


class Wrong(ValueError):
    """A value that breaks a rule; `path` are the names on the way to it."""

    def __init__(self, value: Any, rule: str) -> None:
        super().__init__(rule)
        self.path: tuple[str, ...] = ()
        self.said = "" if isinstance(value, dict | list) else f"{shown(value)}: "

    def __str__(self) -> str:
        names = "".join(f"{shown(name)[1:-1]}: " for name in self.path)
        return f"{names}{self.said}{self.args[0]}"


def wrong_at(value: Any, rule: str, *path: str) -> Wrong:
    wrong = Wrong(value, rule)
    wrong.path = path
    return wrong


def real_number(value: Any) -> None:
    # By its exact type: true is no number. NaN and infinity fail the comparison.
    kind = type(value)
    if kind is float and -FLOATS <= value <= FLOATS:
        return
    if kind is not int:
        raise Wrong(value, "must be a number")
    if not -(2**63) <= value < 2**63:
        raise Wrong(value, "must be a number of 64 bits")


def between(low: float, high: float, what: str) -> Check:
    def check(value: Any) -> None:
        kind = type(value)
        if (kind is not float and kind is not int) or not low <= value <= high:
            raise Wrong(value, f"must be {what}")

    return check


def whole(value: Any) -> None:
    if type(value) is not int or not 0 <= value < 2**63:
        raise Wrong(value, "must be a whole number, 0 or above")


def text(value: Any) -> None:
    if type(value) is not str:
        raise Wrong(value, "must be a text")


def flag(value: Any) -> None:
    if type(value) is not bool:
        raise Wrong(value, "must be true or false")


def scalar(value: Any) -> None:
    if type(value) in (dict, list):
        raise Wrong(value, "must be a plain value")
    if type(value) in (int, float):
        real_number(value)


def plain_value(value: Any, depth: int = 0) -> None:
    """Any settings: what a later reader flattens, shows and writes again."""
    if depth > MOST_DEPTH:
        raise Wrong(value, f"is nested more than {MOST_DEPTH} deep")
    if type(value) is dict:
        for inside in value.values():
            plain_value(inside, depth + 1)
    elif type(value) is list:
        for inside in value:
            plain_value(inside, depth + 1)
    elif type(value) in (int, float):
        real_number(value)


def settings(value: Any) -> None:
    if type(value) is not dict:
        raise Wrong(value, "must be a mapping of settings")
    plain_value(value)


def one_of(*words: str) -> Check:
    def check(value: Any) -> None:
        if type(value) is not str or value not in words:
            raise Wrong(value, f"must be one of {', '.join(words)}")

    return check


def or_none(inner: Check) -> Check:
    def check(value: Any) -> None:
        if value is not None:
            inner(value)

    return check


def list_of(inner: Check, least: int = 0) -> Check:
    def check(value: Any) -> None:
        if type(value) is not list or len(value) < least:
            raise Wrong(value, f"must be a list of at least {least}" if least else "must be a list")
        for index, item in enumerate(value):
            try:
                inner(item)
            except Wrong as wrong:
                wrong.path = (str(index), *wrong.path)
                raise

    return check


def table_of(inner: Check, names: Check = text) -> Check:
    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Wrong(value, "must be a mapping")
        for name, item in value.items():
            try:
                names(name)
                inner(item)
            except Wrong as wrong:
                wrong.path = (name, *wrong.path)
                raise

    return check


def fields(needed: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
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


def optional_fields(names: dict[str, Check]) -> Check:
    """Facts of a study: each may be missing, as it is in an older one, or null."""
    return fields({}, {name: or_none(inner) for name, inner in names.items()})


def trial_name(value: Any) -> None:
    """The number of a trial as a name: JSON has no others."""
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise Wrong(value, "must be the number of a trial")


def value_or_values(value: Any) -> None:
    (list_of(real_number) if type(value) is list else real_number)(value)


def number_or_range(value: Any) -> None:
    """A number, or the ends of a range."""
    (_RANGE if type(value) is dict else real_number)(value)


_RANGE = fields({"min": real_number, "max": real_number})
FLOATS = sys.float_info.max
TIME = between(0, LATEST, "a time in seconds since 1970")
SECONDS = between(0, LATEST, "a number of seconds")
KIMG = between(0, MOST_KIMG, "a number of kimg")
