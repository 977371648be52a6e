"""raygen doctor: facts of this machine, and verdicts on what nodes say of themselves."""

import json
import os
import platform
from pathlib import Path

import pytest
from click.testing import CliRunner

from raygen.cli import main
from raygen.doctor import Check, check_table, driver_check, gigabytes, local_checks
from raygen.errors import InputError
from raygen.storage import Storage

L4 = ("NVIDIA L4", "580.82.07", "23034 MiB")


def test_it_tells_the_facts_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {check.name: check for check in local_checks(str(tmp_path))}

    assert found["python"].value == platform.python_version()
    assert found["cpus"].value.startswith(f"{len(os.sched_getaffinity(0))} of ")
    free = os.statvfs(tmp_path)
    assert f"{free.f_bavail * free.f_frsize / 1e9:.0f} GB free" in found["studies"].value
    assert {"ray", "torch", "optuna", "gpus", "/dev/shm", "cifar10"} <= set(found)


def test_nothing_is_downloaded_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path / "cache"))

    found = {check.name: check for check in local_checks(str(tmp_path / "runs"))}

    assert list(tmp_path.iterdir()) == []
    assert found["cifar10"].state == "warn"
    assert found["inception weights"].state == "warn"


def test_the_command_prints_a_line_per_check_or_json_and_fails_only_for_a_failure() -> None:
    said = CliRunner().invoke(main, ["doctor", "--json"])
    checks = json.loads(said.stdout)["checks"]
    plain = CliRunner().invoke(main, ["doctor"])

    failed = any(check["state"] == "fail" for check in checks)
    assert said.exit_code == plain.exit_code == int(failed)
    assert len(plain.stdout.splitlines()) == len(checks)


@pytest.mark.parametrize(
    ("found", "state"),
    [([L4], "ok"), ([("NVIDIA L4", "535.183.01", "23034 MiB")], "fail"), ([], "warn")],
)
def test_a_driver_older_than_the_cuda_of_torch_is_a_failure(
    found: list[tuple[str, str, str]], state: str
) -> None:
    assert driver_check("gpus", found).state == state


def test_advice_is_given_only_where_something_is_to_be_done(tmp_path: Path) -> None:
    enough = gigabytes("room", tmp_path, 0.0, "buy a disk")
    too_little = gigabytes("room", tmp_path / "not" / "there", 1e9, "buy a disk")

    assert (enough.state, enough.advice) == ("ok", "")
    assert (too_little.state, too_little.advice) == ("warn", "buy a disk")
    assert check_table([enough, too_little]).count("-> buy a disk") == 1
    assert check_table([Check("a", "ok", "1")]) == "ok    a  1"


def test_object_storage_is_written_read_and_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A storage in memory, in the place of a bucket."""
    kept: dict[str, bytes] = {}
    monkeypatch.setattr(Storage, "write", lambda self, name, content: kept.update({name: content}))
    monkeypatch.setattr(Storage, "read", lambda self, name: kept.get(name))
    monkeypatch.setattr(Storage, "delete", lambda self, name: kept.pop(name))

    found = {check.name: check for check in local_checks("s3://bucket/runs")}

    assert found["studies"] == Check("studies", "ok", "s3://bucket/runs written and read")
    assert kept == {}
    with pytest.raises(InputError, match="must be a folder, s3://"):
        local_checks("ftp://x")
