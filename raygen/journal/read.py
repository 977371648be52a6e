"""Where a study is read from: its journal."""

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from raygen.document import brief, check_file, shown
from raygen.errors import InputError
from raygen.journal.checks import Wrong
from raygen.journal.order import Order
from raygen.journal.records import Record, Unknown, parse
from raygen.study_folder import StudyFolder
from raygen.untrusted import check_links

MOST_DIGITS = 4300  # that Python reads
HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a surrogate pair, perhaps a whole one


def read_records(path: Path, strict: bool = False) -> list[Record]:
    """Read a journal; a torn last line (the writer died while writing it) is left out.

    `strict`: every record has its time, and trials are numbered without gaps.

    Raises:
        InputError: it is no file, or a line before the last one is no record, not of a kind that
            this raygen knows, or may not stand where it stands; with its line.
    """
    check_file(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    records: list[Record] = []
    order = Order(strict)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            raw = _parsed(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # no newline behind it: never finished
                break
            why = _reason(error)
            raise InputError(f"{path}:{number}: not a journal record: {why}") from error
        try:
            record = parse(raw)
            order.take(record)
        except Unknown as error:
            raise InputError(f"{path}:{number}: {error}") from None
        except Wrong as error:
            raise InputError(f"{path}:{number}: not a journal record: {error}") from None
        records.append(record)
    return records


def read_study(path: Path, strict: bool = False) -> list[Record]:
    """Read the journal of a study folder: at least one record, the first of which opens it.

    `strict`: as for read_records.

    Raises:
        InputError: the folder does not exist, holds no study, or its journal is damaged.
    """
    folder = StudyFolder(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such study folder")
    check_links(path)
    if not folder.journal.exists():
        raise InputError(f"{path}: not a study (no {folder.journal.name} in it)")
    records = read_records(folder.journal, strict)
    if not records:
        raise InputError(f"{path}: the study is empty: it was stopped before its first record")
    return records


def _parsed(line: bytes) -> dict[str, Any]:
    """One line as an object; strictly, for what cannot be written again breaks whoever tries."""
    record = _DECODER.decode(line.decode("utf-8"))
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if HALF.search(line):
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} appears twice")
    return made


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _reason(error: BaseException) -> str:
    match error:
        case json.JSONDecodeError():
            return f"{error.msg} at column {error.colno}"
        case UnicodeDecodeError():
            return f"is not UTF-8 at column {error.start + 1}"
        case UnicodeEncodeError():
            return "a text has half of a surrogate pair"
        case RecursionError():
            return "is nested too deeply"
    said = str(error)
    return f"a number of more than {MOST_DIGITS:,} digits" if "digits" in said else brief(said)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
