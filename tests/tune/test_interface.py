"""The process group of a worker group lives as long as its processes."""

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch.distributed as dist
from ray.train.torch.config import _TorchBackend
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table

from raygen.tuning.interface import OverRaysNetwork

pytestmark = pytest.mark.ray


class Survivors:
    """A worker group of two of which this process is the one left; it does what it is asked."""

    def __len__(self) -> int:
        return 2

    def execute_async(self, function: Callable[..., Any], **arguments: Any) -> list[Any]:
        function(**arguments)
        return []


@pytest.mark.parametrize(
    ("backend", "survives"), [(_TorchBackend, False), (OverRaysNetwork().backend_cls, True)]
)
def test_a_survivor_of_a_killed_worker_keeps_its_rank(
    tmp_path: Path, cluster: None, backend: type[_TorchBackend], survives: bool
) -> None:
    dist.init_process_group("gloo", f"file://{tmp_path}/meet", world_size=1, rank=0)
    try:
        backend().on_shutdown(Survivors(), OverRaysNetwork())  # pyright: ignore[reportArgumentType]
        assert dist.is_initialized() == survives
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class Forming:
    """A worker group of one process, this one, whose place is reserved and whose port is taken."""

    def __init__(self, place: PlacementGroup, port: int) -> None:
        self.state = SimpleNamespace(placement_group_handle=SimpleNamespace(placement_group=place))
        self.port = port

    def __len__(self) -> int:
        return 1

    def get_worker_group_state(self) -> Any:
        return self.state

    def get_resources_per_worker(self) -> dict[str, float]:
        return {"CPU": 1}

    def execute(self, function: Callable[..., Any], **arguments: Any) -> None:
        if function.__name__ == "set_env_vars":
            function(**arguments)

    def execute_single(self, rank: int, function: Callable[..., Any]) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def execute_single_async(self, rank: int, function: Callable[..., Any], **given: Any) -> None:
        function(**given)


def test_a_group_whose_port_is_taken_says_so_and_gives_back_its_place(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")
    place = placement_group([{"CPU": 1}])
    ray.get(place.ready())
    config = OverRaysNetwork(timeout_s=20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        group: Any = Forming(place, server.getsockname()[1])
        with pytest.raises(dist.DistNetworkError, match="EADDRINUSE"):
            config.backend_cls().on_start(group, config)

    assert not dist.is_initialized()
    assert placement_group_table(place)["state"] == "REMOVED"
