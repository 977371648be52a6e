import errno
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from raygen.errors import RaygenError
from raygen.journal.local import Journal
from raygen.journal.records import Close, Open, Report, Warm, parse
from search.studies import FACTS, suggested, written

REPORT = Report(
    trial=0, kimg=1.0, seconds=1.0, images_per_second=10.0, metrics={"fid": 1.0}, protocols={}
)


def test_records_come_back_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        for number in range(5):
            journal.append(suggested(number))

    assert [r["trial"] for r in written(tmp_path / "journal.jsonl")] == [0, 1, 2, 3, 4]


def test_reopening_appends_and_never_truncates(tmp_path: Path) -> None:
    for number in range(2):
        with Journal(tmp_path / "journal.jsonl") as journal:
            journal.append(suggested(number))

    assert len(written(tmp_path / "journal.jsonl")) == 2


def test_a_number_that_is_not_finite_is_null_so_that_every_line_is_strict_json(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(replace(REPORT, metrics={"fid": math.nan}, losses={"penalty": math.inf}))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = (tmp_path / "journal.jsonl").read_text()
    record = json.loads(line, parse_constant=refuse)

    assert record["metrics"] == {"fid": None}
    assert record["losses"] == {"penalty": None}


def test_times_never_run_backwards_though_the_clock_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    for clock in ([100.0, 40.0], [30.0, 101.0]):  # set back in a session, and between two
        with Journal(path) as journal:
            for now in clock:
                monkeypatch.setattr(time, "time", lambda now=now: now)
                journal.append(suggested(0))

    assert [r["time"] for r in written(path)] == [100.0, 100.0, 100.0, 101.0]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl"), pytest.raises(RaygenError, match="another raygen"):
        Journal(tmp_path / "journal.jsonl")


def test_the_lock_of_a_killed_process_is_gone_and_what_it_wrote_is_there(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from raygen.journal.local import Journal; from raygen.journal.records import Suggest;"
        f"journal = Journal(Path({str(path)!r}));"
        "journal.append(Suggest(trial=0, config={}, params={}, seed=1));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)

    assert ended.returncode == -9
    with Journal(path) as journal:
        journal.append(suggested(1))
    assert [r["trial"] for r in written(path)] == [0, 1]


def test_a_journal_cut_at_every_byte_of_its_last_record_goes_on_with_whole_lines(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(Open(study={**FACTS, "name": "größer"}))
        journal.append(Warm(study="größer", source=0, params={}, values=None))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1

    for cut in range(first, len(whole) + 1):
        path.write_bytes(whole[:cut])
        before = written(path)
        with Journal(path) as journal:
            journal.append(Close(state="finished", seconds=1.0))
        kinds = [record["kind"] for record in written(path)]

        # What a reader saw before is still there; a line counts once it can be read.
        assert kinds == [*(record["kind"] for record in before), "close"]
        assert len(before) == (2 if cut >= len(whole) - 1 else 1)
        assert path.read_bytes().endswith(b"\n")


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from raygen.errors import StorageError\n"
        "from raygen.journal.local import Journal\n"
        "from raygen.journal.records import Open\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "opened = Open(study={'objective': {'metric': 'fid', 'direction': 'minimize'}})\n"
        "journal.append(opened)\n"
        "half = journal.path.stat().st_size * 3 // 2\n"  # half of the next record fits
        "resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))\n"
        "try:\n"
        "    journal.append(opened)\n"
        "except StorageError as error:\n"
        "    print(error, error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )

    assert "could not be written: File too large 4" in done.stdout
    assert [record["kind"] for record in written(path)] == ["open"]
    assert path.read_bytes().endswith(b"\n")


def test_what_is_not_a_number_is_null_in_what_is_applied_as_in_what_is_written(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        metrics = {"fid": math.nan, "elbo": -math.inf}
        record = journal.append(replace(REPORT, metrics=metrics))

    assert isinstance(record, Report)
    assert record.metrics == {"fid": None, "elbo": None}
    assert [parse(line) for line in written(tmp_path / "journal.jsonl")] == [record]


def test_a_file_system_without_locks_is_no_end_but_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(Open(study=FACTS))
        assert not journal.locked
    monkeypatch.undo()
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert journal.locked
