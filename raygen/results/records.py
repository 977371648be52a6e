"""Where a study is read from: its journal."""

import json
from pathlib import Path
from typing import Any

from raygen.errors import InputError
from raygen.folders import StudyFolder


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read a journal; a torn last line (the writer died while writing it) is left out.

    Raises:
        InputError: a line before the last one is not a JSON object.
    """
    records: list[dict[str, Any]] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(lines):  # no newline behind it: never finished
                break
            raise InputError(f"{path}:{number}: not a journal record ({error})") from error
        records.append(record)
    return records


def read_study(path: Path) -> list[dict[str, Any]]:
    """Read the journal of a study folder: at least one record, the first of which opens it.

    Raises:
        InputError: the folder does not exist, holds no study, or its journal is damaged.
    """
    folder = StudyFolder(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such study folder")
    if not folder.journal.exists():
        raise InputError(f"{path}: not a study (no {folder.journal.name} in it)")
    records = read_records(folder.journal)
    if not records:
        raise InputError(f"{path}: the study is empty: it was stopped before its first record")
    if records[0].get("kind") != "open":
        raise InputError(f"{folder.journal}:1: not a raygen journal: it does not open a study")
    return records
