"""YAML with the position of every value, YAML 1.2 numbers, and no silent duplicates.

PyYAML follows YAML 1.1, where `1e-4` is a text, `on` a boolean, `12:30` the number 750 and a
repeated key silently wins; so only its composer is used here, and scalars are read by YAML 1.2's
core schema.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from raygen.errors import InputError

Keys = tuple[str | int, ...]

INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NULL = {"", "~", "null", "Null", "NULL"}
TRUE, FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}


class Document:
    """Plain data (dict, list, str, int, float, bool, None) and where each part of it stands."""

    def __init__(self, source: str, data: Any, marks: dict[Keys, str]) -> None:
        self.source, self.data, self._marks = source, data, marks

    def get(self, at: Keys) -> Any:
        """Return the value at a path; None where there is none."""
        value = self.data
        for part in at:
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def mark(self, at: Keys) -> str:
        """Return "file:line:col" of a path, or of its nearest parent."""
        while at and at not in self._marks:
            at = at[:-1]
        return self._marks.get(at, f"{self.source}:1:1")

    def overridden(self, at: Keys) -> bool:
        """Whether the value at a path, or a part of it, was set on the command line."""
        inside = (mark for path, mark in self._marks.items() if path[: len(at)] == at)
        return any(mark.startswith("--set ") for mark in (self.mark(at), *inside))

    def replaced(self, at: Keys) -> bool:
        """Whether the value at a path was set on the command line as a whole."""
        return self.mark(at).startswith("--set ")

    def fail(self, at: Keys, rule: str) -> NoReturn:
        """Raise the one-line error for the value at a path."""
        raise InputError(self.describe(at, rule))

    def describe(self, at: Keys, rule: str) -> str:
        """Return "file:line:col: path: value: rule"; containers are not printed."""
        value = self.get(at)
        shown = f"{value!r}: " if value is not None and not isinstance(value, dict) else ""
        return f"{self.mark(at)}: {dotted(at)}: {shown}{rule}"

    def override(self, assignment: str) -> None:
        """Apply one "a.b.c=value"; the value is read as YAML.

        Raises:
            InputError: no "=", or the path goes through a plain value.
        """
        name, equals, text = assignment.partition("=")
        where = f"--set {assignment}"
        if not equals or not name.strip():
            raise InputError(f"{where}: must be a.b.c=value")
        path = tuple(int(p) if p.isdigit() else p for p in name.strip().split("."))
        value, marks = _compose(where, text)
        target: Any = self.data
        for depth, part in enumerate(path[:-1]):
            if isinstance(target, dict) and target.get(part) is None:
                target[part] = {}
                self._marks[path[: depth + 1]] = where
            if not _has(target, part):
                raise InputError(f"{where}: {dotted(path[: depth + 1])} cannot hold settings")
            target = target[part]
        if not (isinstance(target, dict) or _has(target, path[-1])):
            raise InputError(f"{where}: {dotted(path[:-1])} cannot hold settings")
        target[path[-1]] = value
        self._marks = {k: v for k, v in self._marks.items() if k[: len(path)] != path}
        self._marks |= {path + inside: where for inside in marks} | {path: where}


def load_document(file: Path, overrides: Iterable[str] = ()) -> Document:
    """Read a YAML file and apply overrides.

    Raises:
        InputError: the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    data, marks = _compose(str(file), text)
    if not isinstance(data, dict):
        raise InputError(f"{file}:1:1: must be a mapping of settings")
    document = Document(str(file), data, marks)
    for assignment in overrides:
        document.override(assignment)
    return document


def dump(data: Any) -> str:
    """Write plain data as YAML that load_document reads back equal."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings -> dotted names: {"loss": {"name": "hinge"}} -> {"loss.name": "hinge"}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def dotted(at: Keys) -> str:
    """("a", "b", 0) -> "a.b.0"."""
    return ".".join(str(part) for part in at) or "file"


class _Dumper(yaml.SafeDumper):
    """Quotes what PyYAML would leave plain but YAML 1.2 reads as a number."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    plain = _scalar(value)
    style = None if plain == value and isinstance(plain, str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _compose(source: str, text: str) -> tuple[Any, dict[Keys, str]]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = (error.problem or "not YAML").strip()
        raise InputError(f"{where}: not valid YAML: {problem}") from error
    except yaml.YAMLError as error:
        problem = str(error).partition("\n")[0]
        raise InputError(f"{source}: not valid YAML: {problem}") from error
    marks: dict[Keys, str] = {}
    try:
        return (_build(source, node, (), marks) if node else None), marks
    except RecursionError:  # an alias inside of what it stands for
        raise InputError(f"{source}:1:1: not valid settings: a value holds itself") from None


def _build(source: str, node: yaml.Node, at: Keys, marks: dict[Keys, str]) -> Any:
    where = f"{source}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    marks.setdefault(at, where)
    if isinstance(node, yaml.SequenceNode):
        return [_build(source, item, (*at, i), marks) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            here = f"{source}:{line}:{column}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"{here}: a key must be a plain name")
            key = key_node.value
            if key in mapping:
                first = marks[*at, key]
                raise InputError(f"{here}: {dotted((*at, key))}: stands twice, first at {first}")
            marks[*at, key] = here
            mapping[key] = _build(source, value_node, (*at, key), marks)
        return mapping
    return (
        node.value if getattr(node, "style", None) in ("'", '"', "|", ">") else _scalar(node.value)
    )


def _scalar(text: str) -> Any:
    if text in NULL:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    return text


def _has(container: Any, part: str | int) -> bool:
    if isinstance(container, list):
        return isinstance(part, int) and part < len(container)
    return isinstance(container, dict) and part in container
