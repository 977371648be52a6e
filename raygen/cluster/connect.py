"""The cluster under a search: connect, see what fits, reach a node."""

import logging
import os
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
from ray._private.utils import read_ray_address
from ray.exceptions import RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raygen.cluster.local_cluster import as_a_library, inside_of, on_loopback, rearm_sigterm
from raygen.errors import ClusterError, RaygenError
from raygen.home import protect_token, temporary_folder
from raygen.interrupts import quitting_on_signals
from raygen.notices import Notify, Phase
from raygen.storage import Storage, is_uri
from raygen.words import duration

FOREVER = "1000000000"
PROBE_SECONDS = 120.0  # for a node to answer: its first process may have to start
ANSWER_SECONDS = 20.0  # for a Ray to answer its address
SAY_SECONDS = 20.0  # between two lines on what is waited for
REASON = 300  # characters of what Ray says of itself
# Opens a connection to any gRPC server, which answers with its settings (RFC 9113, section 3.4).
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
KILL_SECONDS = 20.0  # for a process to be ended, or its node is gone, too
NETWORK = ("nfs", "cifs", "smb", "fuse.", "lustre", "gpfs", "ceph", "beegfs", "9p", "virtiofs")
SHARED = "; use --storage s3://BUCKET/PREFIX, gs://…, or a folder that every node shares"
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
def connected(address: str | None, notify: Notify) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine for as long as the search runs.

    Raises:
        ClusterError: it cannot be reached.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in RAY_SETTINGS.items()})
    address = address or os.environ.get("RAY_ADDRESS") or started_here() or "local"
    # A lost trial is told in one line by raygen; Tune would print pages about it.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="raygen-") as folder, as_a_library():
        try:
            _start(address, folder, notify)
            rearm_sigterm()
            yield
        finally:
            ray.shutdown()
            rearm_sigterm()


def _start(address: str, folder: str, notify: Notify) -> None:
    """Start or reach Ray, whose processes then work in a folder."""
    here = address == "local"
    where = "on this machine" if here else f"at {address}"
    logs = ""
    notify(Phase(f"starting Ray {where}"))
    options: dict[str, Any] = {}
    if here:
        protect_token()
        options = {"_temp_dir": temporary_folder()}
        logs = f"; its logs are in {options['_temp_dir'] or os.environ['RAY_TMPDIR']}"
    else:
        _ask(address)
    try:
        with (
            waiting(notify, f"still starting Ray {where}{logs}"),
            inside_of(folder),
            quitting_on_signals(),  # processes that Ray has started end with this one
            on_loopback() if here else nullcontext(),
            # Parts of Ray have sockets where temporary files go, too, wherever its own folder is.
            patch.dict(
                os.environ, {"TMPDIR": place} if (place := options.get("_temp_dir")) else {}
            ),
        ):
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": RAY_SETTINGS},
                **options,
            )
    # What Ray raises when it cannot start or connect has no common class: RuntimeError and OSError
    # among them, and bare Exceptions for a node that died as it started.
    except Exception as error:
        reason = " ".join(str(error).split())[:REASON] or type(error).__name__
        hint = "" if here else "; to start a separate Ray for this search: --address local"
        raise ClusterError(f"Ray {where} cannot be reached: {reason}{hint}{logs}") from error


def _ask(address: str) -> None:
    """Make sure that a Ray answers at an address: Ray itself tries for a quarter of an hour.

    Raises:
        ClusterError: nothing answers in 20 s.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return  # auto, or what Ray itself refuses
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(HTTP2_HELLO)
            if not connection.recv(1):
                raise ConnectionError("it closed the connection")
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"Ray at {address} cannot be reached: {error or 'no answer'}; check RAY_ADDRESS and "
            "--address, or start one for this search with --address local"
        ) from error


@contextmanager
def waiting(notify: Notify, text: str) -> Iterator[None]:
    """Report every 20 seconds what is being waited for, and for how long."""
    over, began = threading.Event(), time.monotonic()

    def remind() -> None:
        while not over.wait(SAY_SECONDS):
            notify(Phase(f"{text} ({duration(time.monotonic() - began)})"))

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait_for(task: Any, until: float | None, notify: Notify, text: str) -> Any:
    """Return what a task that needs a GPU made; `text` is told as long as it takes.

    Raises:
        RaygenError: it was not done at `until` (time.monotonic), when the hours are spent.
    """
    with waiting(notify, text):
        while not ray.wait([task], timeout=1.0)[0]:  # a signal is heard between two looks
            if until is not None and time.monotonic() > until:
                ray.cancel(task, force=True)
                raise RaygenError("the hours of the budget were spent waiting for a GPU")
    return ray.get(task)


def started_here() -> str | None:
    """Return the address of the cluster that `ray start` joined this machine to, if it runs."""
    address = read_ray_address()
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal():
        return None
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return None  # the file of a cluster that was killed stays behind
    return address


def check_storage(place: str, elsewhere: bool) -> None:
    """Make sure that every node reads and writes where the study is kept, before a trial trains.

    `elsewhere`: trials do not fit on the nodes that are there, so they will run on others.

    Raises:
        ClusterError: a node does not, or a node that is yet to come would not.
    """
    storage, nodes = Storage(place), [node for node in ray.nodes() if node["Alive"]]
    if not is_uri(place) and len(nodes) < 2:
        if elsewhere and not on_network(Path(place)):
            raise ClusterError(
                f"{place}: is on a disk of this machine, but trials run on other machines{SHARED}"
            )
        return
    token = f".probe-{uuid.uuid4().hex[:12]}"
    storage.write(token, token.encode())
    try:
        asked = {n["NodeID"]: on_node(n["NodeID"], _probe).remote(storage, token) for n in nodes}
        for node in nodes:
            address = node["NodeManagerAddress"]
            try:
                problem = ray.get(asked[node["NodeID"]], timeout=PROBE_SECONDS)
            except TaskUnschedulableError:
                continue  # it left in the meantime
            except RayError as error:
                reason = str(error).strip().rpartition("\n")[2]
                raise ClusterError(f"node {address} does not answer: {reason}") from error
            written = f"{token}-{node['NodeID']}"
            if problem is None and storage.read(written) != token.encode():
                problem = "what it writes there cannot be seen from here"
            if problem is not None:
                hint = "" if is_uri(place) else SHARED
                raise ClusterError(f"{place}: not usable from node {address}: {problem}{hint}")
    finally:
        for name in (token, *(f"{token}-{node['NodeID']}" for node in nodes)):
            storage.delete(name)


def on_network(path: Path, mounts: str = "/proc/mounts") -> bool:
    """Whether a folder is on a file system that other machines can have mounted, too."""
    lines = Path(mounts).read_text(encoding="utf-8").splitlines()
    kinds = {mount: kind for _, mount, kind, *_ in (line.split() for line in lines)}
    nearest = next(str(p) for p in (path, *path.parents) if str(p) in kinds)
    return kinds[nearest].startswith(NETWORK)


def kill(node_id: str, pid: int) -> None:
    """End a process on a node, whatever it is doing, and wait until it has; either may be gone."""
    with suppress(RayError):
        ray.get(on_node(node_id, _kill).remote(pid), timeout=KILL_SECONDS)


def on_node(node_id: str, function: Callable[..., Any]) -> Any:
    """Return a function as a task of a node; it takes no CPU from trials."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0)(function).options(scheduling_strategy=strategy)


def _probe(storage: Storage, token: str) -> str | None:
    """Read and write the storage from here; return what is wrong with it."""
    probe = f"{token}-{ray.get_runtime_context().get_node_id()}"
    try:
        if storage.read(token) != token.encode():
            return "it cannot see what the search wrote there"
        storage.write(probe, token.encode())
    except RaygenError as error:
        return str(error)
    return None


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
