"""The cluster under a search: connect, see what fits, reach a node."""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygen.config import Resources
from raygen.errors import ClusterError, InputError

FOREVER = "1000000000"
# Read by Ray when it starts and by its workers: quiet, no files nobody reads, quick polling.
RAY_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": FOREVER,
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_THRESHOLD_S": FOREVER,
}


@contextmanager
def connected(address: str | None, notify: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine for as long as the search runs.

    Raises:
        ClusterError: it cannot be reached.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in RAY_SETTINGS.items()})
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    where = "on this machine" if address == "local" else f"at {address}"
    notify({"kind": "phase", "text": f"starting Ray {where}"})
    # A lost trial is told in one line by raygen; Tune would print pages about it.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    already = ray.is_initialized()
    try:
        ray.init(
            address=address,
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": RAY_SETTINGS},
        )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ClusterError(f"Ray {where} cannot be reached: {reason}") from error
    try:
        yield
    finally:
        if not already:
            ray.shutdown()


def concurrency(resources: Resources, cluster: Mapping[str, float]) -> int:
    """Return how many trials fit at once.

    Raises:
        InputError: not even one does, now or (unless `concurrent` is set, for a cluster that
            grows on demand) ever.
    """
    if resources.concurrent is not None:
        return resources.concurrent
    fits = []
    for name, key in (("CPU", "cpus"), ("GPU", "gpus")):
        wanted, there = getattr(resources, key), cluster.get(name, 0.0)
        if wanted == 0:
            continue
        if 0 < wanted < 1:  # a fraction never spans two devices
            slots = int(there) * int(1 / wanted + 1e-9)
        else:
            slots = int(there / wanted + 1e-9)
        if slots < resources.workers:
            workers = f" for each of {resources.workers} workers" if resources.workers > 1 else ""
            raise InputError(
                f"resources.{key}: a trial wants {wanted:g} {name}{workers}, but the cluster has "
                f"{there:g}; lower it with --set resources.{key}=…, or set resources.concurrent "
                "if the cluster grows on demand"
            )
        fits.append(slots // resources.workers)
    return min(fits)


def check_shared(folder: Path) -> None:
    """Make sure that every node sees the study folder before a trial trains for nothing.

    Raises:
        ClusterError: a node does not.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    for node in nodes:
        if not ray.get(_on(node["NodeID"], _sees).remote(str(folder))):
            raise ClusterError(
                f"{folder} is not visible from node {node['NodeManagerAddress']}: use "
                "--storage with a folder that every node shares"
            )


def kill(node_id: str, pid: int) -> None:
    """End a process on a node, whatever it is doing; nothing happens if either is gone."""
    with suppress(RayError):
        _on(node_id, _kill).remote(pid)


def _on(node_id: str, function: Callable[..., Any]) -> Any:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0)(function).options(scheduling_strategy=there)


def _sees(path: str) -> bool:
    return Path(path).exists()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
