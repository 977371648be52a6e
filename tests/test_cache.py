"""The cache: made once, whole or not at all, and never in the way."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from raygen.cache import cache_folder, cached, replace_file
from raygen.errors import StorageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(value: float) -> dict[str, Any]:
    return {"tensor": torch.full((1000,), value), "name": "x"}


def never() -> dict[str, Any]:
    raise AssertionError("made although it was there")


def value_of(found: dict[str, Any]) -> float:
    assert found["tensor"].shape == (1000,)
    assert found["tensor"].unique().numel() == 1
    return float(found["tensor"][0])


def test_the_folder_is_the_one_of_the_environment(folder: Path) -> None:
    assert cache_folder() == folder


def test_without_the_environment_the_folder_lies_in_the_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAYGEN_CACHE")

    assert cache_folder() == Path.home() / ".cache" / "raygen"


def test_a_second_request_reads_what_the_first_made() -> None:
    cached("thing", lambda: entry(3.0))

    found = cached("thing", never)

    assert value_of(found) == 3.0
    assert found["name"] == "x"


def test_entries_of_two_names_do_not_meet() -> None:
    cached("one", lambda: entry(1.0))
    cached("two", lambda: entry(2.0))

    assert value_of(cached("one", never)) == 1.0


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a tensor at all",
        lambda content: b"\x80\x02" + bytes(100),
        lambda content: bytes(1000),
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[len(content) // 2 :],
    ],
    ids=["empty", "text", "pickle", "zeros", "half", "one byte short", "second half"],
)
def test_a_damaged_entry_is_made_again(folder: Path, damage: Any) -> None:
    cached("thing", lambda: entry(1.0))
    file = folder / "thing.pt"
    file.write_bytes(damage(file.read_bytes()))

    assert value_of(cached("thing", lambda: entry(2.0))) == 2.0
    assert value_of(cached("thing", never)) == 2.0


def test_an_entry_that_would_run_code_is_made_again(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    folder.mkdir()
    torch.save({"tensor": Trap()}, folder / "thing.pt")

    assert value_of(cached("thing", lambda: entry(2.0))) == 2.0
    assert not (tmp_path / "sprung").exists()


def test_a_file_in_place_of_the_folder_costs_nothing_but_time(folder: Path) -> None:
    folder.write_text("in the way")

    assert value_of(cached("thing", lambda: entry(1.0))) == 1.0
    assert value_of(cached("thing", lambda: entry(2.0))) == 2.0
    assert folder.read_text() == "in the way"


def test_a_folder_in_place_of_the_entry_costs_nothing_but_time(folder: Path) -> None:
    (folder / "thing.pt").mkdir(parents=True)

    assert value_of(cached("thing", lambda: entry(1.0))) == 1.0
    assert os.listdir(folder) == ["thing.pt"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """The limit on file sizes stands in for a full disk: write() fails in the same way."""
    file = tmp_path / "kept.pt"
    replace_file(file, entry(1.0))
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        with pytest.raises(StorageError, match="too large"):
            replace_file(file, {"tensor": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["kept.pt"]


def test_an_entry_that_cannot_be_written_is_given_all_the_same(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        found = cached("thing", lambda: entry(1.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert value_of(found) == 1.0
    assert os.listdir(folder) == []


def test_a_reader_beside_two_writers_always_sees_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "shared.pt"
    replace_file(file, entry(0.0))
    writers = [
        threading.Thread(target=lambda v=v: [replace_file(file, entry(v)) for _ in range(20)])
        for v in (1.0, 2.0)
    ]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(value_of(torch.load(file, weights_only=True)))
    for writer in writers:
        writer.join()

    assert seen <= {0.0, 1.0, 2.0}
    assert value_of(torch.load(file, weights_only=True)) in (1.0, 2.0)
    assert os.listdir(tmp_path) == ["shared.pt"]


WRITER = """
import sys, torch
from pathlib import Path
from raygen.cache import replace_file
value = float(sys.argv[2])
print("ready", flush=True)
while True:
    replace_file(Path(sys.argv[1]), {"tensor": torch.full((200_000,), value), "name": "x"})
"""


def test_writers_in_other_processes_killed_at_any_moment_leave_a_whole_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "shared.pt"
    commands = [[sys.executable, "-c", WRITER, str(file), str(v)] for v in (1.0, 2.0)]
    writers = [subprocess.Popen(c, stdout=subprocess.PIPE) for c in commands]
    seen = set()
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        deadline = time.monotonic() + 120
        while (len(seen) < 2 or not file.exists()) and time.monotonic() < deadline:
            if file.exists():
                values = torch.load(file, weights_only=True)["tensor"].unique()
                assert len(values) == 1
                seen.add(float(values))
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()

    assert seen == {1.0, 2.0}
    assert float(torch.load(file, weights_only=True)["tensor"].unique()) in seen
    replace_file(file, entry(3.0))  # what the killed ones left behind is in nobody's way
    assert value_of(torch.load(file, weights_only=True)) == 3.0
