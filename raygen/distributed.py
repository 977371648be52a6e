"""Process-group facts that also hold in a single process, so no caller has to ask."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """Return this process's rank, 0 outside a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes, 1 outside a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks (the tensor itself in a single process).

    Differentiable: each rank's loss may depend on the sums of all.
    """
    return tensor if world_size() == 1 else _AllReduceSum.apply(tensor)  # pyright: ignore[reportReturnType]


class _AllReduceSum(torch.autograd.Function):
    """The derivative of a sum over ranks is the sum over ranks of the derivatives."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _AllReduceSum.apply(gradient)  # pyright: ignore[reportReturnType]


def agree(flag: bool, device: torch.device) -> bool:
    """Return whether any rank raised the flag, so that all ranks leave a loop together."""
    if world_size() == 1:
        return flag
    return bool(all_reduce_sum(torch.tensor(float(flag), device=device)) > 0)


def data_parallel(module: nn.Module) -> nn.Module:
    """Wrap one network in DistributedDataParallel; in a single process return it as it is.

    Buffers are not sent in each step: raygen's batch and spectral normalisation keep theirs equal
    on every rank by themselves.
    """
    if world_size() == 1 or not any(p.requires_grad for p in module.parameters()):
        return module
    return DistributedDataParallel(module, forward_sync_buffers=False)


def unshared(module: nn.Module) -> AbstractContextManager[None]:
    """Context in which the backward passes of a wrapped network keep their gradients to a rank."""
    return module.no_sync() if hasattr(module, "no_sync") else nullcontext()  # pyright: ignore
