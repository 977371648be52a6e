"""Journals that were changed: going on with them, and checking them, is refused in one line."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raygen.errors import InputError
from raygen.journal import Record, read_records
from raygen.journal.local import Journal
from raygen.journal.records import Close, Suggest, as_json, parse
from raygen.search.verify import verify
from search.studies import Memory, make_controller, make_study, run


def searched(folder: Path) -> tuple[Any, list[Record]]:
    """A study of four trials, and the journal of its search."""
    study = make_study(folder, "budget.trials=4")
    journal = Memory()
    run(make_controller(study, journal), lambda config, seed, kimg: 50 / kimg + seed % 7)
    return study, list(journal)


@pytest.mark.parametrize("change", ["gone", "of no branch", "outside", "a list"])
def test_parameters_of_another_space_are_refused_with_the_number_of_their_record(
    tmp_path: Path, change: str
) -> None:
    study, records = searched(tmp_path)
    at, first = next((n, r) for n, r in enumerate(records) if isinstance(r, Suggest))
    params = dict(first.params)
    match change:
        case "gone":
            del params["batch_size"]
        case "of no branch":
            params["loss.name"] = "hinges"
        case "outside":
            params["batch_size"] = 33
        case _:
            params["loss.name"] = ["hinge"]
    records[at] = replace(first, params=params)
    line = rf"journal\.jsonl:{at + 1}: suggest: params: not of this search space"

    with pytest.raises(InputError, match=line):
        verify(study, records)
    with pytest.raises(InputError, match=line):
        make_controller(study, Memory(records))


def test_a_last_line_that_is_nested_without_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(Close(state="finished", seconds=1.0))
    whole = path.read_bytes()
    path.write_bytes(whole + b"[" * 100_000)

    with Journal(path):
        assert path.read_bytes() == whole


def test_a_search_never_goes_on_with_records_that_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    info = {"objective": {"metric": "fd_classifier", "direction": "minimize"}}
    opened = {"kind": "open", "time": 0.0, "study": info}
    newer = {"kind": "promote", "time": 1.0, "trial": 0}
    path.write_text(f"{json.dumps(opened)}\n{json.dumps(newer)}\n")

    with pytest.raises(InputError, match=re.escape(f"{path}:2: a record of kind 'promote'")):
        read_records(path, strict=True)
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == [
        "open", "promote",
    ]  # fmt: skip


def test_a_start_that_does_not_say_which_attempt_it_is_is_the_first(tmp_path: Path) -> None:
    study, records = searched(tmp_path)
    whole = verify(study, records)
    bare = [{k: v for k, v in as_json(r).items() if k != "attempt"} for r in records]

    assert verify(study, [parse(record) for record in bare]) == whole
