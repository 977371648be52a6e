"""How many trials share a GPU: the measurement itself on a CPU, and what follows from it."""

import pytest
import torch

from raygen.compute import Compute
from raygen.trial import Trial, parse_trial
from raygen.tuning.gpu_sharing import memory_fraction, share_of
from raygen.tuning.packing import Packing, in_words, measure

CPU = torch.device("cpu")
GIB = 2**30


@pytest.mark.parametrize(
    ("speeds", "number"),
    [
        ({1: 100.0, 2: 190.0, 4: 380.0}, 4),
        ({1: 100.0, 2: 190.0, 4: 200.0}, 2),  # hardly faster: each would only be slower
        ({1: 100.0, 2: 105.0, 4: 380.0}, 1),
        ({1: 100.0}, 1),
        ({}, 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_make_it_faster(
    speeds: dict[int, float], number: int
) -> None:
    assert Packing(speeds, 0.1).best() == number


@pytest.mark.parametrize("number", [2, 3, 4, 8])
@pytest.mark.parametrize("total", [16 * GIB, 80 * GIB])
def test_the_shares_of_a_gpu_and_its_contexts_fit_its_memory(number: int, total: int) -> None:
    each = memory_fraction(1 / number, total) * total + GIB

    assert number * each <= total * (1 + 1e-9)
    # What a trial is measured to need is what it may take.
    may = memory_fraction(1 / number, total) * total
    assert share_of(may, total) == pytest.approx(1 / number)


@pytest.fixture
def trial() -> Trial:
    model = {"name": "conv_vae", "latent_dim": 4, "width": 4}
    return parse_trial({"family": "vae", "model": model, "batch_size": 16})


def test_trials_that_train_together_are_each_a_process_and_all_count(trial: Trial) -> None:
    packing = measure(trial, (64, 3, 32, 32), 10, Compute(), CPU, 2, threads=1, seconds=0.5)

    assert list(packing.speeds) == [1, 2]
    assert all(speed > 0 for speed in packing.speeds.values())
    assert "2 together train" in in_words(packing)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_cannot_train_is_not_shared_and_says_why(trial: Trial) -> None:
    device = torch.device("cuda")

    packing = measure(trial, (64, 3, 32, 32), 10, Compute(), device, 2, threads=1, seconds=0.1)

    assert packing.best() == 1
    assert "one trial could not be measured: " in in_words(packing)
    assert len(packing.refused) > 10
