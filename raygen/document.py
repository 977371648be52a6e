"""YAML with the position of every value, YAML 1.2 numbers, and no silent duplicates.

PyYAML follows YAML 1.1, where `1e-4` is a text, `on` a boolean, `12:30` the number 750 and a
repeated key silently wins; so only its composer is used here, and scalars are read by YAML 1.2's
core schema. A file comes from anywhere, so its size, its depth and what its aliases stand for are
bounded: nine lines of aliases can mean a billion values.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from raygen.errors import InputError
from raygen.untrusted import one_line

Keys = tuple[str | int, ...]

INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NULL = {"", "~", "null", "Null", "NULL"}
TRUE, FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
# The files that raygen ships have at most 500 values, 10 deep, in 12 kB.
MOST_BYTES, MOST_VALUES, MOST_DEPTH = 1_000_000, 20_000, 50
LONGEST = 120  # characters of a value, a name or an override that a message repeats
# A text that cannot be written, as a file or as the name of a file.
NO_TEXT = "not text: it has a null byte or half of a surrogate pair"
UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")


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
        repeated = "" if value is None or isinstance(value, dict) else f"{shown(value)}: "
        return f"{self.mark(at)}: {spoken(at)}: {repeated}{rule}"

    def override(self, assignment: str) -> None:
        """Apply one "a.b.c=value"; the value is read as YAML.

        Raises:
            InputError: no "=", or the path goes through a plain value.
        """
        name, equals, text = assignment.partition("=")
        where = f"--set {brief(assignment)}"
        if not equals or not name.strip():
            raise InputError(f"{where}: must be a.b.c=value")
        if UNWRITABLE.search(name):
            raise InputError(f"{where}: no setting can have this name")
        names = name.strip().split(".")
        if len(names) > MOST_DEPTH:
            raise InputError(f"{where}: is nested more than {MOST_DEPTH} deep")
        value, marks = _compose(where, text)
        path: Keys = ()
        target: Any = self.data
        for part in names[:-1]:
            path = (*path, _key(target, part))
            if isinstance(target, dict) and target.get(path[-1]) is None:
                target[path[-1]] = {}
                self._marks[path] = where
            if not _has(target, path[-1]):
                raise InputError(f"{where}: {spoken(path)} cannot hold settings")
            target = target[path[-1]]
        key = _key(target, names[-1])
        if not (isinstance(target, dict) or _has(target, key)):
            raise InputError(f"{where}: {spoken(path)} cannot hold settings")
        target[key] = value
        path = (*path, key)
        self._marks = {k: v for k, v in self._marks.items() if k[: len(path)] != path}
        self._marks |= {path + inside: where for inside in marks} | {path: where}


def load_document(file: Path, overrides: Iterable[str] = ()) -> Document:
    """Read a YAML file and apply overrides.

    Raises:
        InputError: the file is missing, no plain file, too large, is not YAML, repeats a key, or
            is not a mapping.
    """
    content = read_bounded(file, MOST_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        raise InputError(f"{_place(str(file), before)}: is not UTF-8 ({error.reason})") from error
    data, marks = _compose(str(file), text)
    if not isinstance(data, dict):
        raise InputError(f"{file}:1:1: must be a mapping of settings")
    document = Document(str(file), data, marks)
    for assignment in overrides:
        document.override(assignment)
    return document


def read_bounded(file: Path, most: int) -> bytes:
    """Return what a plain file of at most `most` bytes holds.

    A pipe may never end and a device has no end at all, so neither is opened.

    Raises:
        InputError: there is no such file, it is of another kind, too large, or cannot be read.
    """
    check_file(file)
    try:
        # Not to wait for a writer, should a pipe have come in its place since it was looked at.
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
            content = opened.read(most + 1)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise InputError(f"{file}: is larger than {most:,} bytes: not a settings file")
    return content


def check_file(file: Path) -> None:
    """Make sure, before it is opened, that a path is that of a plain file.

    Raises:
        InputError: there is none, or it is a folder, a pipe, a socket or a device.
    """
    try:
        kind = file.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except OSError as error:
        raise InputError(f"{brief(str(file))}: cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(kind):
        raise InputError(f"{file}: is a folder, not a file")
    if not stat.S_ISREG(kind):
        raise InputError(f"{file}: is a pipe, a socket or a device, not a file")


def dump(data: Any) -> str:
    """Write plain data as YAML that load_document reads back equal."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def flatten(
    settings: Mapping[str, Any],
    prefix: str = "",
    whole: Callable[[Mapping[str, Any]], bool] = lambda _: False,
) -> dict[str, Any]:
    """Nested settings -> dotted names: {"loss": {"name": "hinge"}} -> {"loss.name": "hinge"}.

    A mapping that is `whole` is a value.
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value and not whole(value):
            flat |= flatten(value, f"{prefix}{key}.", whole)
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def holder(settings: Mapping[str, Any], name: str) -> tuple[Any, str]:
    """The mapping in which a dotted setting stands or would stand, and its key; or None and it."""
    *path, key = name.split(".")
    group: Any = settings
    for part in path:
        group = group.get(part) if isinstance(group, Mapping) else None
    return (group if isinstance(group, Mapping) else None), key


def dotted(at: Keys) -> str:
    """("a", "b", 0) -> "a.b.0"."""
    return ".".join(str(part) for part in at) or "file"


def spoken(at: Keys) -> str:
    """A path as a message says it: as `dotted`, on one line and not too long."""
    return brief(dotted(at))


def shown(value: Any) -> str:
    """A value as a message repeats it: as Python writes it, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def brief(text: str, most: int = LONGEST) -> str:
    """A text as a message repeats it: with no line feeds, and not too long."""
    return one_line(text if len(text) <= most else f"{text[:most]}…")


class _Dumper(yaml.SafeDumper):
    """Quotes what PyYAML would leave plain but YAML 1.2 reads as a number."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    try:
        plain = _scalar(value)
    except ValueError:  # digits that would be too large a number
        plain = None
    style = None if plain == value and isinstance(plain, str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


class _Loader(yaml.SafeLoader):
    """A composer that goes only so deep: each level takes some of Python's stack."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > MOST_DEPTH:
            mark = self.peek_event().start_mark
            problem = f"is nested more than {MOST_DEPTH} deep"
            raise ComposerError(None, None, problem, mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(source: str, text: str) -> tuple[Any, dict[Keys, str]]:
    try:
        loader = _Loader(text)
    except ReaderError as error:
        sign = f"a control character, {chr(error.character)!r}"
        raise InputError(f"{_place(source, text[: error.position])}: holds {sign}") from error
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = brief((error.problem or "not YAML").strip())
        raise InputError(f"{where}: not valid YAML: {problem}") from error
    except (ValueError, OverflowError) as error:  # "\\Uffffffff", or a version of 5,000 digits
        where = f"{source}:{loader.line + 1}:{loader.column + 1}"
        raise InputError(f"{where}: not valid YAML: no such character or version") from error
    builder = _Builder(source)
    return (builder.build(node, ()) if node else None), builder.marks


class _Builder:
    """Composed nodes as plain data; an alias is built as often as it stands somewhere."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.marks: dict[Keys, str] = {}
        self.values = 0

    def build(self, node: yaml.Node, at: Keys) -> Any:
        where = f"{self.source}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        self.values += 1
        if self.values > MOST_VALUES:
            raise InputError(
                f"{where}: more than {MOST_VALUES:,} values, including those of aliases"
            )
        if len(at) > MOST_DEPTH:  # deeper than what was composed: an alias inside of its own value
            raise InputError(f"{where}: not valid settings: a value contains itself")
        self.marks.setdefault(at, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*at, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if UNWRITABLE.search(node.value):
            raise InputError(f"{where}: {spoken(at)}: {shown(node.value)}: {NO_TEXT}")
        if getattr(node, "style", None) in ("'", '"', "|", ">"):
            return node.value
        try:
            return _scalar(node.value)
        except ValueError as error:
            text = brief(node.value)
            raise InputError(f"{where}: {spoken(at)}: {text}: {error}") from None

    def _mapping(self, node: yaml.MappingNode, at: Keys) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            here = f"{self.source}:{line}:{column}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"{here}: a key must be a plain name")
            key = key_node.value
            if UNWRITABLE.search(key):
                raise InputError(f"{here}: {shown(key)}: {NO_TEXT}")
            if key in mapping:
                first = self.marks[*at, key]
                raise InputError(f"{here}: {spoken((*at, key))}: appears twice, first at {first}")
            self.marks[*at, key] = here
            mapping[key] = self.build(value_node, (*at, key))
        return mapping


def _place(source: str, before: str) -> str:
    """Where a text goes on: "file:line:column", both from 1."""
    line = before.count("\n") + 1
    return f"{source}:{line}:{len(before) - before.rfind(chr(10))}"


def _scalar(text: str) -> Any:
    """Return what a plain scalar is.

    Raises:
        ValueError: a number that no setting can have.
    """
    if text in NULL:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if INT.fullmatch(text):
        # The length first: Python reads no more than 4,300 digits.
        based = text[:2] in ("0x", "0o")
        number = 2**64 if len(text) > 1000 else int(text, 0) if based else int(text)
        if not -(2**63) <= number < 2**63:
            raise ValueError("is beyond the whole numbers of 64 bits")
        return number
    if FLOAT.fullmatch(text):
        return float(text)
    return text


def _key(target: Any, part: str) -> str | int:
    """A part of an override's path: a position in a list, else a name."""
    plain = isinstance(target, list) and part.isascii() and part.isdigit() and len(part) < 10
    return int(part) if plain else part


def _has(container: Any, part: str | int) -> bool:
    if isinstance(container, list):
        return isinstance(part, int) and part < len(container)
    return isinstance(container, dict) and part in container
