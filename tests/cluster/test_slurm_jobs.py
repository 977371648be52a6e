"""Searches as jobs of a real Slurm, on two nodes: the time limit, --stop, scancel, and mistakes.

`pytest -s` prints how long each step took.
"""

import json
import time
from collections.abc import Iterator

import pytest

from cluster.slurm import ROOT, LoginNode, login_node
from raygen.config_file import load_space

pytestmark = [pytest.mark.slow, pytest.mark.ray]
LONG = "budget={trials: 2, kimg: 30}"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginNode]:
    with login_node(tmp_path_factory.mktemp("slurm")) as node:
        text = (ROOT / "cluster" / "slurm.sh").read_text()
        for line, ours in (
            ("#SBATCH --cpus-per-task=8", "#SBATCH --cpus-per-task=1"),
            ("#SBATCH --gpus-per-node=1\n", ""),
            ("#SBATCH --time=24:00:00", "#SBATCH --time=10"),
        ):
            assert line in text
            text = text.replace(line, ours)
        (node.folder / "cluster").mkdir()
        (node.folder / "cluster" / "slurm.sh").write_text(text)
        one = text.replace("--nodes=2", "--nodes=1\n#SBATCH --nodelist=host0")
        (node.folder / "cluster" / "one.sh").write_text(one)
        yield node
        print(json.dumps({what: round(took, 1) for what, took in node.times.items()}))


def test_a_search_is_told_of_its_time_limit_requeues_itself_and_finishes_with_nothing_lost(
    node: LoginNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(node.env, "SBATCH_SIGNAL", "B:USR1@120")
    following = node.start(*node.tune("gan", "--set", LONG))
    began = time.monotonic()
    node.wait_for("gan", "1 of 1 other nodes joined")
    node.times["queued until all nodes joined"] = time.monotonic() - began
    while len({r["trial"] for r in node.records("gan") if r["kind"] == "checkpoint"}) < 2:
        assert time.monotonic() < began + 500, node.output("gan")
        time.sleep(0.2)
    node.times["queued until both nodes have checkpoints"] = time.monotonic() - began
    job, ran = node.slurm("squeue", "--noheader", "--Format=JobID:|,TimeUsed:|").split("|")[:2]
    minutes, seconds = map(int, ran.strip().split(":"))
    # It is over in 105 to 165 s; Slurm looks every 30 s whom it must tell.
    limit = -(-(60 * minutes + seconds + 105) // 60)
    node.slurm("scontrol", "update", f"JobId={job.strip()}", f"TimeLimit={limit}")
    noticed = node.wait_for("gan", "SIGUSR1: saving and stopping")
    node.times["saved, closed, with a page"] = node.wait_for("gan", "reports/gan.html") - noticed
    node.wait_for("gan", "and requeued")
    node.times["requeued"] = time.monotonic() - noticed
    node.slurm("scontrol", "update", f"JobId={job.strip()}", "TimeLimit=10")
    out, err = following.communicate(timeout=900)

    node.times["notice until finished"] = time.monotonic() - noticed
    assert following.returncode == 0, out + err
    assert "and requeued" in err
    records = node.records("gan")
    assert [r["state"] for r in records if r["kind"] == "close"] == ["interrupted", "finished"]
    ends = {r["trial"]: r["state"] for r in records if r["kind"] == "end"}
    assert ends == dict.fromkeys(range(2), "completed")
    told = [(r["trial"], r["kimg"]) for r in records if r["kind"] == "report"]
    milestones = load_space(node.folder / "space.yaml", [LONG]).spec.milestones
    assert sorted(told) == [(trial, kimg) for trial in range(2) for kimg in milestones]
    closed = next(n for n, r in enumerate(records) if r["kind"] == "close")
    # Where they were, at a milestone or between two: test_drills has how much is lost.
    began_at = restarts(node, "gan", closed)
    assert began_at, records
    assert min(began_at) > 0, records
    assert {r["node"] for r in records if r["kind"] == "start"} == {"host0", "host1"}
    assert (node.folder / "reports" / "gan.html").exists()
    assert node.left() == []


def restarts(node: LoginNode, study: str, closed: int) -> list[float]:
    """Where trials went on after a session was closed: no earlier than its last checkpoints."""
    records = node.records(study)
    saved = {r["trial"]: r["kimg"] for r in records[:closed] if r["kind"] == "checkpoint"}
    first: dict[int, float] = {}
    for record in records[closed:]:
        if record["kind"] == "start":
            first.setdefault(record["trial"], record["kimg"])
    assert all(first[trial] >= kimg for trial, kimg in saved.items() if trial in first)
    return list(first.values())


def test_two_searches_on_one_node_end_in_order_by_scancel_and_by_stop(node: LoginNode) -> None:
    began = time.monotonic()
    node.run(*node.tune("two", "--detach", "--set", LONG))
    node.run(*node.tune("one", "--detach", "--set", LONG, "--cluster", "cluster/one.sh"))
    for name in ("one", "two"):
        while not any(r["kind"] == "checkpoint" for r in node.records(name)):
            assert time.monotonic() < began + 500, node.output(name)
            time.sleep(0.2)
    node.times["both have checkpoints"] = time.monotonic() - began
    following = node.start("raygen", "status", "one", "--cluster", "slurm", "--follow")
    said = node.run("raygen", "status", "--cluster", "slurm")
    assert "one  running" in said
    assert "two  running" in said

    with node.timed("scancel"):
        node.slurm("scancel", "--name=raygen-two")
        while "raygen-two" in node.slurm("squeue", "--noheader", "--format=%j"):
            time.sleep(0.2)

    assert node.records("two")[-1]["state"] == "interrupted"
    said = node.run("raygen", "status", "--cluster", "slurm")
    assert "one  running" in said
    assert "two  stopped" in said  # and not requeued

    with node.timed("--stop"):
        said = node.run("raygen", "status", "one", "--cluster", "slurm", "--stop")

    assert "one  stopped (exit code 143)" in said
    out, err = following.communicate(timeout=600)
    assert following.returncode == 143, out + err
    assert node.records("one")[-1]["state"] == "interrupted"
    saved = [r for r in node.records("one")[-8:] if r["kind"] == "checkpoint"]
    assert saved, node.records("one")[-8:]
    assert node.slurm("squeue", "--noheader") == ""


def test_a_signal_leaves_a_job_that_waits_and_stop_takes_it_from_the_queue(node: LoginNode) -> None:
    node.slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    following = node.start(*node.tune("late"))
    while "raygen-late" not in node.slurm("squeue", "--noheader", "--format=%j"):
        time.sleep(0.2)
    time.sleep(1)
    following.terminate()
    _, err = following.communicate(timeout=600)

    assert following.returncode == 143
    assert "raygen status late --cluster slurm --stop" in err
    node.run("raygen", "status", "late", "--cluster", "slurm", "--stop")
    assert node.slurm("squeue", "--noheader") == ""
    node.slurm("scontrol", "update", "PartitionName=main", "State=UP")


def test_what_slurm_refuses_is_one_line(node: LoginNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(node.env, "SBATCH_PARTITION", "gpus")

    said = node.run(*node.tune("wrong"), code=4)

    assert "invalid partition specified: gpus" in said
    assert len(said.splitlines()) == 1
