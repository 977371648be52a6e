"""Batch normalisation over two processes equals one process with the whole batch.

This file is also the program of the processes: `python test_batch_norm_ddp.py RANK FOLDER`.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raygen.models.layers import BatchNorm2d

RANKS = 2
STEPS = 3
# Sums in another order: float64 keeps 16 digits, and a few are lost in E x^2 - (E x)^2.
TOLERANCE = 1e-10


def batches() -> Tensor:
    """(steps, 8, 5, 4, 4), with another mean and scale in each channel and in each half."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS, 8, 5, 4, 4, generator=random, dtype=torch.float64)
    x[:, :4] += 2
    return x * torch.arange(1, 6).view(5, 1, 1) - torch.arange(5).view(5, 1, 1)


def targets() -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(STEPS, 8, 5, 4, 4, generator=random, dtype=torch.float64)


def run(norm: nn.BatchNorm2d, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Normalise every step; return the outputs, the slopes of a loss, and the statistics."""
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 5))
        norm.bias.copy_(torch.linspace(-1, 1, 5))
    outputs, slopes = [], []
    for inputs, wanted in zip(x, y, strict=True):
        leaf = inputs.clone().requires_grad_()
        output = norm(leaf)
        # A loss that is no function of the mean alone, which the norm would hide.
        (output - wanted).pow(3).sum().backward()
        assert leaf.grad is not None
        outputs.append(output.detach())
        slopes.append(leaf.grad)
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.eval()
    return {
        "outputs": torch.stack(outputs),
        "slopes": torch.stack(slopes),
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
        "evaluated": norm(x[0]).detach(),
    }


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", world_size=RANKS, rank=rank)
    share = slice(rank * 4, rank * 4 + 4)
    found = run(BatchNorm2d(5).double(), batches()[:, share], targets()[:, share])
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_with_half_a_batch_each_equal_one_with_the_whole(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        for worker in workers:
            _, errors = worker.communicate(timeout=600)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS))

    whole = run(nn.BatchNorm2d(5).double(), batches(), targets())

    def same(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)

    for name in ("outputs", "slopes"):
        same(torch.cat([one[name], other[name]], dim=1), whole[name])
    for name in ("weight", "bias"):
        same(one[name] + other[name], whole[name])
    for name in ("running_mean", "running_var"):
        same(one[name], whole[name])
        assert torch.equal(one[name], other[name])
    same(one["evaluated"], whole["evaluated"][:4])


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
