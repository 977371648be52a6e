"""Validation errors as lines that a user can act on: place, value, rule, nearest name."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from raygen.document import Document, Keys, shown, spoken
from raygen.errors import InputError, did_you_mean, nearest
from raygen.plugins import is_reference, resolve

Model = TypeVar("Model", bound=BaseModel)
# How pydantic ends the place of a mistake in a setting that may have values of several kinds.
MEMBER = re.compile(r"bool|int|float|str|constrained-\w+|literal\[.*\]")
# The rule that a value breaks, by pydantic's name of the mistake.
NUMBER, WHOLE, TEXT = "must be a number", "must be a whole number", "must be a text"
MAPPING, LIST, SWITCH = "must be a mapping", "must be a list", "must be true or false"
RULES = {
    "bool_parsing": SWITCH, "bool_type": SWITCH, "dict_type": MAPPING,
    "finite_number": "must be finite",
    "float_parsing": NUMBER, "float_type": NUMBER, "int_from_float": WHOLE, "int_parsing": WHOLE,
    "int_parsing_size": WHOLE, "int_type": WHOLE, "list_type": LIST, "mapping_type": MAPPING,
    "model_attributes_type": MAPPING, "model_type": MAPPING, "none_required": "must be null",
    "string_type": TEXT, "tuple_type": LIST,
    "greater_than": "must be above {gt}", "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}", "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "too_short": "needs {min_length} or more values",
    "too_long": "takes at most {max_length} values",
    "string_too_short": "needs {min_length} or more characters",
    "string_too_long": "takes at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}", "literal_error": "must be {expected}",
    "missing": "is required", "union_tag_not_found": "needs a {discriminator}", "union": "{rule}",
    "other_kind": "does not go with the settings beside it",
}  # fmt: skip
PARAMETER_KINDS = ("float", "int", "choice", "one_of")
# What a word in place of a mapping is, where that goes without saying.
TITLES = {"data": "source", **dict.fromkeys(("loss", "model", "sampler", "scheduler"), "name")}
SCALARS = (NUMBER, WHOLE, TEXT, SWITCH)


def checked(
    model: type[Model],
    data: dict[str, Any],
    document: Document,
    place: Callable[[Keys], Keys] = lambda at: at,
    extra_names: tuple[str, ...] = (),
) -> Model:
    """Validate `data`; `place` turns a path in it into one in the document.

    `extra_names` are keys at the top that the model does not know but the file may have.

    Raises:
        InputError: one line per mistake.
    """
    try:
        valid = model.model_validate(data)
    except ValidationError as error:
        lines: dict[str, None] = {}
        meant: set[Keys] = set()
        # Unknown names first: a name that is missing only because it is misspelt is one mistake.
        mistakes = sorted(_as_unions(error.errors()), key=lambda e: e["type"] == "missing")
        for mistake in mistakes:
            if mistake["type"] == "union_tag_not_found" and error.error_count() > 1:
                continue  # what the tag stands in is wrong, and reported itself
            at, names = _untagged(model, mistake["loc"])
            if mistake["type"] == "union_tag_invalid":
                at = (*at, mistake["ctx"]["discriminator"].strip("'"))
            names = _own_names(data, at) or names
            if len(at) == 1:
                names = [*names, *extra_names]
            # A name that another kind of this setting has is no misspelling of a name.
            if mistake["type"] == "extra_forbidden" and at[-1] in names:
                mistake, names = {**mistake, "type": "other_kind"}, []
            elif mistake["type"] == "extra_forbidden" and (near := nearest(str(at[-1]), names)):
                meant.add((*at[:-1], near))
            if at not in meant:
                lines[_line(document, place(at), mistake, names)] = None
        raise InputError("\n".join(lines)) from None
    if switches := list(_as_numbers(data, valid)):
        raise InputError(
            "\n".join(_line(document, place(each["loc"]), each, []) for each in switches)
        )
    return valid


def _as_numbers(given: Any, valid: Any, at: Keys = ()) -> Iterator[dict[str, Any]]:
    """Where pydantic has read true as 1 or false as 0: mistakes such as it reports itself."""
    if isinstance(given, bool) and isinstance(valid, int | float) and not isinstance(valid, bool):
        kind = "int_type" if isinstance(valid, int) else "float_type"
        yield {"type": kind, "loc": at, "input": given, "msg": ""}
    elif isinstance(given, dict) and isinstance(valid, BaseModel):
        for name, field in type(valid).model_fields.items():
            key = field.alias or name
            if key in given:
                yield from _as_numbers(given[key], getattr(valid, name), (*at, key))
    elif isinstance(given, list) and isinstance(valid, list | tuple):
        for number, (before, after) in enumerate(zip(given, valid, strict=False)):
            yield from _as_numbers(before, after, (*at, number))


def _as_unions(mistakes: Iterable[Any]) -> list[Any]:
    """Join what pydantic says of each kind of value that a setting may have."""
    joined: dict[Any, Any] = {}
    for mistake in mistakes:
        loc = tuple(mistake["loc"])
        if not loc or not MEMBER.fullmatch(str(loc[-1])) or mistake["type"] == "extra_forbidden":
            joined[loc, mistake["type"]] = mistake
            continue
        at, rule = loc[:-1], _rule(mistake)
        if at in joined:
            rules = (joined[at]["ctx"]["rule"], rule.removeprefix("must be "))
            rule = " or ".join(dict.fromkeys(rules))
        joined[at] = {**mistake, "loc": at, "type": "union", "ctx": {"rule": rule}}
    return list(joined.values())


def _line(document: Document, at: Keys, mistake: Any, names: list[str]) -> str:
    value = mistake["input"]
    hidden = isinstance(value, dict | list | BaseModel) or "may be a secret" in mistake["msg"]
    said = "" if hidden else f"{shown(value)}: "
    rule = _rule(mistake).removeprefix(f"{value}: ")  # a reference names itself
    if mistake["type"] == "union_tag_invalid":
        tag, choices = mistake["ctx"]["tag"], mistake["ctx"]["expected_tags"].replace("'", "")
        hint = did_you_mean(tag, choices.split(", "))
        said, rule = f"{shown(tag)}: ", f"unknown name, choose from {choices}{hint}"
    elif mistake["type"] == "extra_forbidden":
        rule = _unknown(at, value, names)
    elif mistake["type"] == "missing":
        said = ""
    elif mistake["type"] == "literal_error" and isinstance(value, str):
        choices = mistake["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        rule = f"unknown name, choose from {choices}{did_you_mean(value, choices.split(', '))}"
    elif mistake["type"] == "model_type" and isinstance(value, str) and at[-1] in TITLES:
        rule += f", such as {{{TITLES[at[-1]]}: {value}}}"
    elif mistake["type"] == "tuple_type" and not isinstance(value, dict):
        rule += f": [{shown(value)}]"
    elif rule.startswith(SCALARS) or mistake["type"] == "literal_error":
        rule += _not_one_value(at, value, rule)
    return f"{document.mark(at)}: {spoken(at)}: {said}{rule}"


def _rule(mistake: Any) -> str:
    """The rule that a value breaks, in words of raygen's."""
    numbers = {k: f"{v:,}" if type(v) is int else v for k, v in mistake.get("ctx", {}).items()}
    numbers = {k: f"{v:g}" if type(v) is float else v for k, v in numbers.items()}
    if mistake["type"] in RULES:
        return RULES[mistake["type"]].format(**numbers)
    rule = str(mistake["msg"]).removeprefix("Value error, ")
    return re.sub(r"^[A-Z]\w*( \w+)? should ", "must ", rule)


def _unknown(at: Keys, value: Any, names: list[str]) -> str:
    """What is said of a name that its group does not have."""
    name = str(at[-1])
    if at[:1] == ("space",) and isinstance(value, dict | list) and nearest(name, PARAMETER_KINDS):
        if name in PARAMETER_KINDS:
            return "stands in the wrong place: a parameter is the value of one setting"
        names = [*PARAMETER_KINDS]
    return f"unknown name, choose from {', '.join(sorted(names))}{did_you_mean(name, names)}"


def _not_one_value(at: Keys, value: Any, rule: str) -> str:
    """What a mapping or a list in place of one value may have been meant as; "" if it is neither.

    `rule`: what the value must be.
    """
    if not isinstance(value, dict | list):
        return ""
    if "schedule" in value:
        return ": this setting takes no schedule"
    if at[:1] != ("space",):
        searched = isinstance(value, dict) and value.keys() & {*PARAMETER_KINDS}
        return ": only settings below `space` are searched" if searched else ""
    if isinstance(value, dict) and value.keys() & {
        *PARAMETER_KINDS
    }:  # where it may, it has been drawn
        return ": a parameter cannot stand in its place"
    example = "choice: [a, b]"
    if rule.startswith((NUMBER, WHOLE)) and isinstance(value, dict):
        example = f"{'int' if rule == WHOLE else 'float'}: [low, high]"
    elif isinstance(value, list) and 0 < len(value) < 5 and {int, float} >= {*map(type, value)}:
        example = f"choice: {value}"
    words = map(str, value) if isinstance(value, dict) else ()
    hints = (did_you_mean(word, (*PARAMETER_KINDS, "schedule")) for word in words)
    return f", or a parameter such as {{{example}}}{next(filter(None, hints), '')}"


def _untagged(model: type[BaseModel], loc: tuple[Any, ...]) -> tuple[Keys, list[str]]:
    """Split pydantic's location into the path without union tags and the names known there."""
    models: list[type[BaseModel]] = [model]
    path: list[str | int] = []
    for part in loc:
        # Which kind of value it was taken for, or that the name itself is the mistake.
        if str(part).startswith("=") or part == "[key]":
            continue
        tagged = [m for m in models if part in _tags(m)]
        if len(models) > 1 and tagged:
            models = tagged
            continue
        path.append(part)
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        inner = [m for field in fields for m in _models_in(field.annotation)]
        if inner and part != loc[-1]:
            models = inner
    names = {field.alias or name for m in models for name, field in m.model_fields.items()}
    return tuple(path), sorted(names)


def _own_names(data: dict[str, Any], at: Keys) -> list[str]:
    """The settings of a model of the user's own, where a mistake is among them."""
    group = data.get(str(at[0])) if len(at) == 2 else None
    name = group.get("name") if isinstance(group, dict) else None
    if name is None or not is_reference(name):
        return []
    try:
        return sorted({"name", *getattr(resolve(name), "model_fields", ())})
    except InputError:  # reported as the mistake itself
        return []


def _tags(model: type[BaseModel]) -> set[Any]:
    fields = (model.model_fields.get("name"), model.model_fields.get("family"))
    return {field.default for field in fields if field is not None}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inside = getattr(annotation, "__args__", ())
    return [model for part in inside for model in _models_in(part)]
