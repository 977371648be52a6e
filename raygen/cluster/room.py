"""What a worker of a trial reserves, where, and how many trials that leaves room for."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ray
import yaml
from ray._private.state import available_resources_per_node
from ray.util.placement_group import placement_group_table

from raygen.cluster.connect import started_here
from raygen.cluster.files import most_trials
from raygen.cluster.preemption import draining
from raygen.errors import InputError
from raygen.home import home
from raygen.resources import Resources

KIND = "ray.io/accelerator-type"  # the label of a node by which Ray knows its kind of GPU


def selector(resources: Resources) -> dict[str, str]:
    """The labels of the nodes on which a worker may be; {}: on any."""
    return {KIND: f"in({','.join(resources.accelerator)})"} if resources.accelerator else {}


def offered(resources: Resources) -> dict[str, float]:
    """All that the cluster has on nodes on which a worker may be."""
    if not resources.accelerator:
        return dict(ray.cluster_resources())
    total: dict[str, float] = {}
    for node in _eligible(resources):
        for name, amount in node["Resources"].items():
            total[name] = total.get(name, 0.0) + amount
    return total


def free_places(resources: Resources) -> int:
    """How many more workers find room now, on nodes that stay."""
    going = draining()
    free: dict[str, dict[str, float]] = available_resources_per_node()
    nodes = [node["NodeID"] for node in _eligible(resources) if node["NodeID"] not in going]
    return sum(_times(resources.bundle, free.get(node, {})) for node in nodes)


def groups_wait(workers: int) -> bool:
    """Whether a group of so many workers waits for room."""
    groups: list[dict[str, Any]] = list(placement_group_table().values())
    return any(g["state"] == "PENDING" and len(g["bundles"]) == workers for g in groups)


def _eligible(resources: Resources) -> Iterable[Mapping[str, Any]]:
    kinds = resources.accelerator
    for node in ray.nodes():
        if node["Alive"] and (not kinds or node["Labels"].get(KIND) in kinds):
            yield node


def _times(wanted: Mapping[str, float], free: Mapping[str, float]) -> int:
    return min(int(free.get(name, 0.0) / n + 1e-9) for name, n in wanted.items())


class TrialSlots:
    """How many trials may run or wait for a place: as many as fit, also when nodes come and go."""

    EVERY = 5.0  # seconds between two looks at the cluster

    def __init__(self, resources: Resources) -> None:
        """Look at the cluster.

        Raises:
            InputError: not even one trial fits, and the cluster does not grow.
        """
        self.resources, self.grows_to = resources, growth(resources)
        cluster = offered(resources)
        fit, shortage = trials_that_fit(resources, cluster)
        if shortage and not self.grows_to:
            raise InputError(shortage)
        counted = resources.model_copy(update={"concurrent": None})
        self.elsewhere = trials_that_fit(counted, cluster).trials == 0
        self.size = max(fit, self.grows_to)
        self.looked = time.monotonic()

    def __call__(self) -> int:
        if self.resources.concurrent is None and time.monotonic() - self.looked > self.EVERY:
            self.looked = time.monotonic()
            fit, _ = trials_that_fit(self.resources, offered(self.resources))
            if fit:  # or nodes are gone: as many wait for others
                self.size = max(fit, self.grows_to)
        return self.size


def growth(resources: Resources) -> int:
    """How many trials the cluster can grow to hold: 0 unless `ray up` made this its head."""
    folder = home()
    if resources.concurrent is not None or folder is None or started_here() is None:
        return 0
    launched = folder / "ray_bootstrap_config.yaml"
    if not launched.exists():
        return 0
    return most_trials(yaml.safe_load(launched.read_text(encoding="utf-8")), resources)


class Fit(NamedTuple):
    """How many trials fit at once, and why not even one does ("" if one does)."""

    trials: int
    shortage: str


def trials_that_fit(resources: Resources, cluster: Mapping[str, float]) -> Fit:
    """Count the trials that fit on machines with these resources; `concurrent` says it itself."""
    if resources.concurrent is not None:
        return Fit(resources.concurrent, "")
    fits = []
    wants = (("CPU", "cpus", resources.cpus), ("GPU", "gpus", resources.gpu_share))
    for name, key, wanted in wants:
        available = cluster.get(name, 0.0)
        if wanted == 0:
            continue
        if 0 < wanted < 1:  # a fraction never spans two devices
            slots = int(available) * int(1 / wanted + 1e-9)
        else:
            slots = int(available / wanted + 1e-9)
        if not (trials := resources.trials_on(slots)):
            fewest = resources.fewest_workers
            workers = f" for each of {fewest} workers" if fewest > 1 else ""
            return Fit(
                0,
                f"resources.{key}: a trial needs {wanted:g} {name}{workers}, but the cluster has "
                f"{available:g}; lower it with --set resources.{key}=…, or set "
                "resources.concurrent if the cluster grows on demand",
            )
        fits.append(trials)
    return Fit(min(fits), "")
