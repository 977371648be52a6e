"""Searches over several nodes: raylets of their own on this machine, and storage that speaks S3."""

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tune.test_faults import make, measured

from raygen.errors import ClusterError
from raygen.folders import StudyFolder
from raygen.results import load_study as load_results
from raygen.results import read_records
from raygen.storage import Storage, fetch
from raygen.tune.search import run_study

pytestmark = pytest.mark.ray
Record = dict[str, Any]


class Nodes(NamedTuple):
    """A cluster of raylets, and how to add one."""

    cluster: Any
    add: Callable[..., Any]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket on a server that speaks S3; the URI of a folder in it."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(key, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket="nodes")
        yield "s3://nodes/runs"
    server.stop()


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """A head without CPUs; workers are added, each with a cache (its disk) of its own."""
    import ray
    from ray.cluster_utils import Cluster

    from raygen.tune.cluster import RAY_SETTINGS

    if ray.is_initialized():
        ray.shutdown()  # the session's own cluster: this one is another
    root = tempfile.mkdtemp(prefix="rg-", dir="/tmp")
    for key, value in {**RAY_SETTINGS, "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(key, value)
    memory = {"object_store_memory": 200_000_000}
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "temp_dir": root, **memory})

    def add(name: str, **resources: Any) -> Any:
        env = {"RAYGEN_CACHE": str(tmp_path / "disks" / name)}
        return cluster.add_node(env_vars=env, **memory, **resources)

    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield Nodes(cluster, add)
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(root, ignore_errors=True)


def test_a_node_lost_in_the_middle_costs_what_came_after_its_last_checkpoint(
    nodes: Nodes, s3: str, tmp_path: Path
) -> None:
    study = make(tmp_path)
    workers = {}
    for name in ("a", "b"):
        workers[name] = nodes.add(name, num_cpus=1)
    lost: list[str] = []

    def lose(record: Record) -> None:
        if record["kind"] == "report" and not lost:
            start = next(r for r in heard if r["kind"] == "start" and r["trial"] == record["trial"])
            lost.append(start["node_id"])
            node = next(n for n in workers.values() if n.node_id == start["node_id"])
            nodes.cluster.remove_node(node, allow_graceful=False)

    heard: list[Record] = []

    def hear(record: Record) -> None:
        heard.append(record)
        lose(record)

    storage = Storage(f"{s3}/lost")
    folder = StudyFolder(tmp_path / "driver" / "lost")
    outcome = run_study(study, folder, {"command": "x"}, None, hear, storage=storage)

    records = read_records(fetch(storage.place) / "journal.jsonl")
    retry = next(r for r in records if r["kind"] == "retry")
    again = [r for r in records if r["kind"] == "start" and r["trial"] == retry["trial"]][-1]
    assert outcome.state == "finished"
    assert list(load_results(folder.root).trials["state"]) == ["completed"] * 2
    assert again["kimg"] >= retry["kimg"] > 0  # from its checkpoint, which came through S3
    measured(records)  # and nothing was told twice
