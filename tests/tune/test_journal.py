import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from raygen.errors import RaygenError
from raygen.results import read_records
from raygen.tune.journal import Journal


def test_records_come_back_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        for number in range(5):
            journal.append("suggest", trial=number)

    assert [r["trial"] for r in read_records(tmp_path / "journal.jsonl")] == [0, 1, 2, 3, 4]


def test_reopening_appends_and_never_truncates(tmp_path: Path) -> None:
    for number in range(2):
        with Journal(tmp_path / "journal.jsonl") as journal:
            journal.append("suggest", trial=number)

    assert len(read_records(tmp_path / "journal.jsonl")) == 2


def test_a_number_that_is_not_finite_is_null_so_that_every_line_is_strict_json(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append("report", metrics={"fid": math.nan}, curve=[1.0, math.inf])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = (tmp_path / "journal.jsonl").read_text()
    record = json.loads(line, parse_constant=refuse)

    assert record["metrics"] == {"fid": None}
    assert record["curve"] == [1.0, None]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl"), pytest.raises(RaygenError, match="another raygen"):
        Journal(tmp_path / "journal.jsonl")


def test_the_lock_of_a_killed_process_is_gone_and_what_it_wrote_is_there(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path; from raygen.tune.journal import Journal;"
        f"journal = Journal(Path({str(path)!r})); journal.append('suggest', trial=0);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)

    assert ended.returncode == -9
    with Journal(path) as journal:
        journal.append("suggest", trial=1)
    assert [r["trial"] for r in read_records(path)] == [0, 1]
