"""What workers reserve and where, over clusters that are described and not started."""

from typing import Any

import pytest
import ray

from raygen.cluster import room
from raygen.cluster.room import free_places, offered, selector
from raygen.resources import Resources

NODES = {
    "a": {"labels": {"ray.io/accelerator-type": "A10G"}, "has": {"CPU": 8.0, "GPU": 2.0}},
    "b": {"labels": {"ray.io/accelerator-type": "T4"}, "has": {"CPU": 8.0, "GPU": 4.0}},
    "c": {"labels": {}, "has": {"CPU": 16.0}},
}


@pytest.fixture
def draining(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A cluster of three nodes, of which node d has gone; those that drain can be added."""
    nodes: list[dict[str, Any]] = [
        {"NodeID": name, "Alive": True, "Labels": node["labels"], "Resources": node["has"]}
        for name, node in NODES.items()
    ]
    nodes.append({**nodes[0], "NodeID": "d", "Alive": False})
    going: dict[str, int] = {}
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(room, "draining", lambda: going)
    free = {name: node["has"] for name, node in NODES.items()}
    monkeypatch.setattr(room, "available_resources_per_node", lambda: free)
    return going


def test_only_nodes_of_the_kinds_that_are_asked_for_count(draining: dict[str, int]) -> None:
    either = Resources(gpus=1, accelerator=("A10G", "H100"))

    assert offered(either) == {"CPU": 8.0, "GPU": 2.0}
    assert free_places(either) == 2
    assert free_places(Resources(gpus=1)) == 6
    assert selector(either) == {"ray.io/accelerator-type": "in(A10G,H100)"}
    assert selector(Resources(gpus=1)) == {}


@pytest.mark.parametrize(
    ("resources", "places"),
    [
        ({"cpus": 4}, 2 + 2 + 4),
        ({"cpus": 6}, 1 + 1 + 2),  # what is left on a node is of no use on another
        ({"cpus": 4, "gpus": 1}, 2 + 2),
        ({"cpus": 0.5, "gpus": 0.5}, 4 + 8),
        ({"cpus": 17}, 0),
    ],
)
def test_places_are_counted_node_by_node(
    draining: dict[str, int], resources: dict[str, float], places: int
) -> None:
    assert free_places(Resources.model_validate(resources)) == places


def test_a_node_that_is_to_go_has_no_place(draining: dict[str, int]) -> None:
    draining["b"] = 0

    assert free_places(Resources(gpus=1)) == 2


def test_a_worker_without_a_gpu_reserves_none() -> None:
    assert Resources(cpus=2).bundle == {"CPU": 2}
    assert Resources(cpus=2, gpus=0.25).bundle == {"CPU": 2, "GPU": 0.25}
