"""The process group of a worker group lives as long as its processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from ray.train.torch.config import _TorchBackend

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
