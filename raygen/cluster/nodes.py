"""What every node of a cluster has: versions, GPUs, disk, clock, and access to the storage."""

import json
import platform
import shutil
import socket
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
from ray.exceptions import RayError

from raygen.cache import cache_folder
from raygen.cluster.connect import (
    PROBE_SECONDS,
    check_storage,
    connected,
    on_node,
    started_here,
)
from raygen.doctor import Check, driver_check, drivers
from raygen.errors import RaygenError, first_line

PACKAGES = ("raygen", "ray", "torch")
CLOCK = 5.0  # seconds apart, from which times of one study are misleading and S3 may refuse
ROOM = 10.0  # gigabytes


def cluster_checks(address: str | None, storage: str | None) -> list[Check]:
    """Ask every node of a cluster.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    with connected(address, lambda record: None):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        versions = _versions()
        checks = [Check("nodes", "ok", f"{len(nodes)} alive, {_resources()}")]
        sent = time.time()
        asked = {node["NodeID"]: on_node(node["NodeID"], facts).remote() for node in nodes}
        for node in nodes:
            name = node["NodeManagerAddress"]
            try:
                answer: Any = ray.get(asked[node["NodeID"]], timeout=PROBE_SECONDS)
            except RayError as error:
                reason = str(error).strip().rpartition("\n")[2]
                checks.append(Check(name, "fail", f"does not answer: {reason}"))
                continue
            checks += judge(name, answer, versions, sent, time.time(), node["Resources"])
        if storage is not None:
            try:
                check_storage(storage, elsewhere=False)
                checks.append(Check("storage", "ok", f"{storage} read and written by every node"))
            except RaygenError as error:
                checks.append(Check("storage", "fail", str(error)))
        return checks


def running_here() -> Check | None:
    """Whether the Ray that `ray start` left running on this machine, if any, is of our version."""
    address = started_here()
    if address is None:
        return None
    try:
        gcs = GcsClient(address=address)
        metadata = gcs.internal_kv_get(CLUSTER_METADATA_KEY, KV_NAMESPACE_CLUSTER, timeout=5)
        theirs = str(json.loads(metadata or b"{}").get("ray_version", "unknown"))
    except (RayError, RuntimeError, ValueError) as error:
        text = f"{address} does not report its version: {first_line(error)}"
        return Check("ray running here", "warn", text)
    if theirs == version("ray"):
        return Check("ray running here", "ok", f"{theirs} at {address}")
    advice = "search with --address local, or stop it with: ray stop"
    return Check("ray running here", "fail", f"{theirs}, not {version('ray')}", advice)


def facts() -> dict[str, Any]:
    """What a node reports about itself."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    return {
        "host": socket.gethostname(),
        "time": time.time(),
        "versions": _versions(),
        "gpus": drivers(),
        "disk": shutil.disk_usage(cache).free / 1e9,
        "shm": shutil.disk_usage("/dev/shm").free / 1e9 if Path("/dev/shm").exists() else 0.0,
    }


def judge(
    name: str,
    node: Mapping[str, Any],
    driver: Mapping[str, str],
    sent: float,
    heard: float,
    resources: Mapping[str, float],
) -> list[Check]:
    """Turn a node's report into checks; it answered between `sent` and `heard`."""
    other = {k: v for k, v in node["versions"].items() if driver[k] != v}
    words = ", ".join(f"{k} {v}" for k, v in node["versions"].items())
    differs = ", ".join(f"{k} {driver[k]}" for k in other)
    checks = [
        Check(
            f"{name} versions",
            "fail" if other else "ok",
            words,
            f"the driver has {differs}: install the same versions" if other else "",
        )
    ]
    if resources.get("GPU") or node["gpus"]:
        checks.append(driver_check(f"{name} gpus", node["gpus"]))
    # Clocks differ by no less than how far its time lies outside of the question and the answer.
    apart = max(sent - node["time"], node["time"] - heard, 0.0)
    late = f"{apart:.0f} s off: start chrony or ntpd there" if apart > CLOCK else ""
    checks.append(Check(f"{name} clock", "warn" if late else "ok", f"{apart:.1f} s apart", late))
    store = resources.get("object_store_memory", 0.0) / 1e9
    room = f"{node['disk']:.0f} GB disk, {node['shm']:.1f} GB /dev/shm, {store:.1f} GB object store"
    small = node["disk"] < ROOM
    checks.append(
        Check(f"{name} room", "warn" if small else "ok", room, "a larger disk" if small else "")
    )
    return checks


def _versions() -> dict[str, str]:
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{package: version(package) for package in PACKAGES}}


def _resources() -> str:
    total = ray.cluster_resources()
    return ", ".join(f"{total.get(key, 0):g} {key}" for key in ("CPU", "GPU"))
