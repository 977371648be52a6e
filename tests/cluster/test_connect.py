"""What is known of a cluster without starting one: where it is, what its disks and nodes are."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from raygen.cluster import connect
from raygen.cluster.connect import on_network, started_here
from raygen.cluster.nodes import facts, judge
from raygen.errors import RaygenError
from raygen.tuning.interface import choose_interface, interface_of

MOUNTS = """overlay / overlay rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
server:/export /shared nfs4 rw 0 0
/dev/sdb1 /shared/local ext4 rw 0 0
bucket /mnt/bucket fuse.s3fs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/home/me/runs", False),
        ("/shared/runs", True),
        ("/shared/local/runs", False),
        ("/sharedisk/runs", False),
        ("/mnt/bucket", True),
    ],
)
def test_whether_others_can_have_a_folder_follows_from_its_nearest_mount(
    folder: str, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)

    assert on_network(Path(folder), str(tmp_path / "mounts")) is expected


def test_a_cluster_of_this_machine_is_found_while_it_listens_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    assert started_here() is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)  # as `ray start` does
        assert started_here() == address
    assert started_here() is None


def test_the_interface_is_the_one_that_has_the_address() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; the kernel chooses the way
        address = probe.getsockname()[0]
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    default = [line.split()[0] for line in routes if line.split()[1] == "00000000"]

    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.77") is None
    if default:
        assert interface_of(address) == default[0]


def test_an_interface_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)

    choose_interface()

    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
    assert os.environ.pop("NCCL_SOCKET_IFNAME") == "=lo"


def verdicts(now: float, **changes: Any) -> dict[str, str]:
    """The state of each check of a node that says what this machine would, but for some facts."""
    mine = facts()
    found = {**mine, "time": now, **changes}
    checks = judge("n", found, mine["versions"], now - 1, now + 1, {"object_store_memory": 1e9})
    return {check.name.removeprefix("n "): check.state for check in checks}


def test_a_node_like_this_one_is_fine() -> None:
    found = verdicts(time.time(), disk=100.0)

    assert set(found.values()) <= {"ok"}


def test_another_version_a_wrong_clock_and_a_full_disk_are_told() -> None:
    now = time.time()
    other = {**facts()["versions"], "torch": "1.0"}

    assert verdicts(now, versions=other)["versions"] == "fail"
    assert verdicts(now, time=now + 60)["clock"] == "warn"
    assert verdicts(now, time=now - 60)["clock"] == "warn"
    assert verdicts(now, disk=0.5)["room"] == "warn"
    assert verdicts(now, gpus=[("NVIDIA L4", "470.1", "24 GB")])["gpus"] == "fail"


def test_two_waits_for_a_gpu_share_the_hours_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, cancelled = [0.0], []

    def wait(tasks: list[str], timeout: float) -> tuple[list[str], list[str]]:
        clock[0] += timeout
        done = tasks == ["first"] and clock[0] >= 40
        return (tasks, []) if done else ([], tasks)

    monkeypatch.setattr(connect.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(connect.ray, "wait", wait)
    monkeypatch.setattr(connect.ray, "get", lambda task: task)
    monkeypatch.setattr(connect.ray, "cancel", lambda task, force: cancelled.append(task))

    assert connect.wait_for("first", 60.0, lambda _: None, "") == "first"
    with pytest.raises(RaygenError, match="hours of the budget were spent"):
        connect.wait_for("second", 60.0, lambda _: None, "")
    assert cancelled == ["second"]
    assert clock[0] == 61
