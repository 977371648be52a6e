"""`ray up cluster/local.yaml` as it comes, on hosts with sshd, and searches on them from a laptop.

The tests run in the order of the file, on one cluster; `pytest -s` prints how long each step took.
"""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import object_store
from cluster.files import filled
from cluster.hosts import NET, Network, require
from cluster.laptop import Laptop
from raygen.config_file import load_space

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    require()
    folder = tmp_path_factory.mktemp("up")
    profile = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}  # 60, else, after the head is gone
    with Network(folder / "net", 3, profile) as net, pytest.MonkeyPatch.context() as patch:
        server = object_store.start(f"{NET}.1")
        settings = object_store.access(object_store.endpoint(server))
        user = Laptop(folder, net, settings, "local.yaml")
        for key, value in settings.items():
            patch.setenv(key, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket="raygen")
        head, *workers = (host.address for host in net.hosts)
        text = filled(
            "local.yaml",
            ("head_ip: 10.0.0.10", f"head_ip: {head}"),
            ("[10.0.0.11, 10.0.0.12]", f"[{', '.join(workers)}]"),
            ("ssh_user: ubuntu", "ssh_user: root"),
            ("~/.ssh/id_ed25519", str(net.key)),
        )
        (folder / "local.yaml").write_text(text)
        user.run("ray", "get-auth-token", "--generate")
        user.run("raygen", "validate", "local.yaml")
        user.run("ray", "up", "-y", "local.yaml")
        yield user
        server.stop()


def test_every_host_joins_and_doctor_tells_what_it_has(laptop: Laptop) -> None:
    words = ("raygen", "doctor", "--cluster", "local.yaml", "--storage", "s3://raygen/runs")
    deadline = time.monotonic() + 600
    with laptop.timed("all hosts joined"):
        while not all("raylet" in str(host.processes()) for host in laptop.net.hosts):
            assert time.monotonic() < deadline
            time.sleep(0.5)
    while "3 alive" not in (said := laptop.run(*words)):  # it runs, but is not yet counted
        assert time.monotonic() < deadline, said

    for host in laptop.net.hosts:
        for fact in ("versions", "clock", "room"):
            assert any(f"{host.address} {fact}" in line for line in said.splitlines()), said
    assert "s3://raygen/runs read and written by every node" in said
    assert "fail" not in said


def test_without_the_token_nobody_gets_in_and_from_outside_there_is_no_door(
    laptop: Laptop,
) -> None:
    head, worker = laptop.net.hosts[:2]
    asked = "import urllib.request as u; u.urlopen('http://127.0.0.1:8265/api/jobs/')"
    refused = head.ssh(f'/usr/bin/python3 -c "{asked}"', check=False)
    join = f"RAY_AUTH_MODE=disabled ~/venv/bin/ray status --address {head.address}:6379"
    outsider = worker.ssh(join, check=False)

    assert "401" in refused.stderr
    assert outsider.returncode != 0
    assert "CPU" not in outsider.stdout
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(f"http://{head.address}:8265/api/version", timeout=3)


def test_a_disk_of_one_host_is_refused_before_anything_starts(laptop: Laptop) -> None:
    words = ["raygen", "tune", "--space", "space.yaml", "--cluster", "local.yaml"]
    said = laptop.run(*words, "--storage", "/tmp/ray/studies", "--name", "own", code=4)

    assert "not usable from node" in said
    assert "use --storage s3://" in said
    assert "Traceback" not in said


def test_a_trial_of_two_workers_spans_two_hosts(laptop: Laptop) -> None:
    settings = ("resources={workers: 2, cpus: 2}", "budget={trials: 1, kimg: 1}")
    sets = [word for setting in settings for word in ("--set", setting)]

    with laptop.timed("a trial over two hosts"):
        said = laptop.run(*laptop.tune("pair", *sets))

    states = [r["state"] for r in laptop.records("pair") if r["kind"] == "end"]
    assert states == ["completed"], said
    assert (laptop.folder / "reports" / "pair.html").exists()


def test_a_search_loses_a_host_is_stopped_and_goes_on_with_nothing_lost(laptop: Laptop) -> None:
    began = time.monotonic()
    following = laptop.start(*laptop.tune("gan"))
    records = laptop.wait(
        "gan", lambda rs: sum(r["kind"] == "checkpoint" and r["kimg"] >= 1 for r in rs) >= 4
    )
    laptop.times["first checkpoints"] = time.monotonic() - began

    os.killpg(following.pid, signal.SIGINT)  # as Ctrl-C in a terminal does: also ssh gets it
    out, err = following.communicate(timeout=600)
    assert following.returncode == 0, out + err
    assert (
        "the search keeps running; follow it with: raygen status gan --cluster local.yaml --follow"
        in err
    )
    follow = ("raygen", "status", "gan", "--cluster", "local.yaml", "--follow")
    following = laptop.start(*follow)

    victim = next(host for host in laptop.workers if host.name == records_node(records))
    killed = time.monotonic()
    victim.kill()
    records = laptop.wait("gan", lambda rs: any(r["kind"] == "retry" for r in rs))
    laptop.times["loss noticed after"] = time.monotonic() - killed
    lost = next(r for r in records if r["kind"] == "retry")
    went_on = lambda r: r["kind"] == "start" and r["trial"] == lost["trial"] and r["attempt"] == 2  # noqa: E731
    records = laptop.wait("gan", lambda rs: any(map(went_on, rs)))
    laptop.times["trial goes on elsewhere after"] = time.monotonic() - killed
    start = next(r for r in records if went_on(r))
    assert start["node"] != victim.name
    assert start["kimg"] >= lost["kimg"] > 0  # from its last checkpoint

    said = laptop.run("raygen", "status", "gan", "--cluster", "local.yaml")
    assert "gan  running" in said
    with laptop.timed("stopped, all saved"):
        said = laptop.run("raygen", "status", "gan", "--cluster", "local.yaml", "--stop")
    out, err = following.communicate(timeout=600)
    assert following.returncode == 143, out + err
    assert laptop.records("gan")[-1]["state"] == "interrupted"

    with laptop.timed("gone on to the end"):
        said = laptop.run(*laptop.tune("gan"))

    records = laptop.records("gan")
    ends = {r["trial"]: r["state"] for r in records if r["kind"] == "end"}
    told = [(r["trial"], r["kimg"]) for r in records if r["kind"] == "report"]
    assert ends == dict.fromkeys(range(4), "completed"), said
    milestones = load_space(laptop.folder / "space.yaml").spec.milestones
    assert sorted(told) == [(trial, kimg) for trial in range(4) for kimg in milestones]
    page = (laptop.folder / "reports" / "gan.html").read_text()
    assert "gan" in page
    # And from the storage alone, with nothing of the cluster.
    opened = laptop.run("raygen", "status", "s3://raygen/runs/gan")
    assert "finished" in opened


def test_ray_down_leaves_nothing_running(laptop: Laptop) -> None:
    down = time.monotonic()
    laptop.run("ray", "down", "-y", "local.yaml")

    alive = [host for host in laptop.net.hosts if host.process is not None]
    deadline = time.monotonic() + 900  # the workers end a while after their head
    while left := [(h.name, line) for h in alive for line in h.processes() if "ray" in line]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
    laptop.times["nothing left after"] = time.monotonic() - down
    assert len(alive) == 2
    print(json.dumps({what: round(took, 1) for what, took in laptop.times.items()}))


def records_node(records: list[dict[str, Any]]) -> str:
    """The host on which the last trial started that has a checkpoint."""
    saved = {r["trial"] for r in records if r["kind"] == "checkpoint"}
    return [r["node"] for r in records if r["kind"] == "start" and r["trial"] in saved][-1]
