"""Machines that are to go: who says so, and Ray's word for it, which every trial there hears.

A cloud, Kubernetes or an operator says that a machine will go; its Ray node is then drained. It
takes no new work, and the trials on it save what they have and go on elsewhere.
"""

import functools
import json
import os
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import ray
from ray._private.state import state
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]
from ray.core.generated import autoscaler_pb2

from raygen.errors import ClusterError
from raygen.words import duration

EVERY = 5.0  # seconds between two questions, as the clouds advise
ANSWER_SECONDS = 2.0  # of a service that is a hop away; where there is none nobody answers
TOKEN_SECONDS = 21600
GCE_SECONDS = 30.0  # what Compute Engine leaves a machine


class Notice(NamedTuple):
    """That a machine will go, and in how many seconds."""

    reason: str
    seconds: float


class Ec2:
    """Spot notices of EC2: the instance metadata service, version 2.

    `AWS_EC2_METADATA_SERVICE_ENDPOINT` is another address of it, as for every SDK of AWS.
    """

    def __init__(self) -> None:
        name = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
        self.place = os.environ.get(name, "http://169.254.169.254").rstrip("/") + "/latest"
        self.token = ""

    def __call__(self) -> Notice | None:
        """Return the notice, if there is one.

        Raises:
            OSError: this is no machine of EC2.
        """
        if not self.token:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            self.token = _ask(f"{self.place}/api/token", lifetime, "PUT")
        try:
            token = {"X-aws-ec2-metadata-token": self.token}
            answer = json.loads(_ask(f"{self.place}/meta-data/spot/instance-action", token))
        except HTTPError as error:
            if error.code == HTTPStatus.UNAUTHORIZED:
                self.token = ""  # it has expired
            return None  # 404: nothing is planned
        left = datetime.fromisoformat(answer["time"]).timestamp() - time.time()
        return Notice(f"spot notice of EC2: {answer['action']}", max(0.0, left))


class Gce:
    """Preemptions of Compute Engine. `GCE_METADATA_HOST` is another address of its service."""

    def __init__(self) -> None:
        host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
        self.place = f"http://{host}/computeMetadata/v1/instance/preempted"

    def __call__(self) -> Notice | None:
        """Return the notice, if there is one.

        Raises:
            OSError: this is no machine of Compute Engine.
        """
        if _ask(self.place, {"Metadata-Flavor": "Google"}).strip() == "TRUE":
            return Notice("preempted by Compute Engine", GCE_SECONDS)
        return None


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    # Never through a proxy: the answer is about this machine.
    opener = build_opener(ProxyHandler({}))
    with opener.open(Request(url, headers=headers, method=method), timeout=ANSWER_SECONDS) as reply:
        return reply.read().decode()


@functools.cache
def watch_cloud() -> None:
    """Drain this node once its cloud says that the machine will go; asked from a thread.

    Once a process. Not on the head, where the search itself is: it ends in order with SIGTERM.
    """
    here = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == here)
    if "node:__internal_head__" not in node["Resources"]:
        threading.Thread(target=_watch, args=(here,), daemon=True).start()


def _watch(node: str) -> None:
    clouds, answered = [Ec2(), Gce()], set[Ec2 | Gce]()
    while clouds:
        for cloud in list(clouds):
            try:
                notice = cloud()
                answered.add(cloud)
            except (OSError, ValueError, KeyError):
                if cloud not in answered:  # or it only has a bad moment
                    clouds.remove(cloud)
                continue
            if notice is not None:
                drain(node, notice)
                return
        time.sleep(EVERY)


def drain(node: str, notice: Notice) -> None:
    """Tell Ray that a node will go.

    Raises:
        ClusterError: Ray refuses, as it does for a node that is gone.
    """
    accepted, why = GcsClient(address=ray.get_runtime_context().gcs_address).drain_node(
        node,
        autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION,  # pyright: ignore[reportAttributeAccessIssue]
        notice.reason,
        int((time.time() + notice.seconds) * 1000),
    )
    if not accepted:
        raise ClusterError(f"node {node}: Ray does not drain it: {why}")


def draining() -> dict[str, int]:
    """The nodes that are to go, and when: milliseconds since 1970, 0 where nobody said."""
    return state.get_draining_nodes()


def leaving(nodes: Iterable[str]) -> str | None:
    """Say that one of these nodes is to go, if one is: Ray's draining state."""
    deadlines = draining()
    ends = [deadlines[node] for node in nodes if node in deadlines]
    if not ends:
        return None
    left = min(ends) / 1000 - time.time()
    return f"its machine is to go in {duration(left)}" if left > 0 else "its machine is to go"
