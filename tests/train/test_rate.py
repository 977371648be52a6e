"""The fall of the learning rate against torch's own schedulers."""

import pytest
import torch
from torch.optim import lr_scheduler

from raygen.training.rate import rate

STEPS = 40


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
def test_the_rate_after_every_step_is_that_of_torch(decay: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = {
        "none": lambda: lr_scheduler.ConstantLR(optimizer, 1.0),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, STEPS),
    }[decay]()

    for step in range(STEPS + 1):
        assert rate(decay, step / STEPS) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_beyond_the_end_the_rate_stays_at_nothing(decay: str) -> None:
    assert rate(decay, 1.3) == pytest.approx(0.0, abs=1e-12)
