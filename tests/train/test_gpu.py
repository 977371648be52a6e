"""Every fast path on a CUDA device against plain float32 arithmetic; no Ray and no network."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from raygen.compute import Compute
from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.losses.adversarial import PENALTIES
from raygen.training.loop import Learner, make_learner
from raygen.training.step_graph import WARM_UP
from raygen.trial import Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")
EXACT: dict[str, Any] = {"precision": "float32", "tf32": False, "channels_last": False}


@pytest.fixture(autouse=True)
def same_kernels() -> Iterator[None]:
    """Sums in one order: two runs of a step are then the same to the last digit or nearly so."""
    torch.backends.cudnn.deterministic, before = True, torch.backends.cudnn.deterministic
    yield
    torch.backends.cudnn.deterministic = before


def train(trial: Trial, data: ImageData, steps: int, compute: Compute) -> Learner:
    learner = make_learner(trial, len(data.classes), CUDA, 3, compute, budget=2000)
    advance(learner, data, 0, steps)
    return learner


def advance(learner: Learner, data: ImageData, position: int, steps: int) -> dict[str, float]:
    trial = learner.trial
    batches = Batches(data.train, trial.batch_size, 3, CUDA, trial.flip)
    losses: dict[str, torch.Tensor] = {}
    for _ in range(steps):
        losses = learner.step(batches, position)
        position += learner.images_per_step
    return {name: float(value) for name, value in losses.items()}


def distance(learner: Learner, other: Learner) -> float:
    """Of the averaged weights, as a share of how far they have moved from nothing."""
    pairs = zip(
        learner.average.network.parameters(), other.average.network.parameters(), strict=True
    )
    apart = [((a - b).square().sum(), b.square().sum()) for a, b in pairs]
    return float((sum(a for a, _ in apart) / sum(b for _, b in apart)) ** 0.5)


def test_graphed_and_eager_steps_agree_to_rounding_over_50_steps(
    any_trial: Trial, data: ImageData
) -> None:
    eager = train(any_trial, data, 50, Compute(**EXACT, graph="off"))
    graphed = train(any_trial, data, 50, Compute(**EXACT))

    assert (eager.run.path, graphed.run.path) == ("eager", "graph")
    assert distance(graphed, eager) < 1e-4


def test_a_graphed_trial_goes_on_as_if_it_had_not_stopped(
    any_trial: Trial, data: ImageData
) -> None:
    whole = train(any_trial, data, 2 * WARM_UP + 20, Compute(**EXACT))
    half = train(any_trial, data, WARM_UP + 10, Compute(**EXACT))
    resumed = make_learner(any_trial, len(data.classes), CUDA, 3, Compute(**EXACT), budget=2000)
    resumed.load_state_dict(half.state_dict())
    advance(resumed, data, (WARM_UP + 10) * half.images_per_step, WARM_UP + 10)

    assert resumed.run.path == "graph"
    assert distance(resumed, whole) < 1e-5


@pytest.mark.parametrize("name", PENALTIES)
def test_the_gradient_of_a_penalty_is_that_of_double_precision_on_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.LeakyReLU(0.2), torch.nn.Flatten(),
        torch.nn.Linear(8 * 15 * 15, 1),
    )  # fmt: skip
    real, fake, mix = torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32), torch.rand(4)
    gradients = []
    for device, kind in ((CUDA, torch.float32), (torch.device("cpu"), torch.float64)):
        net = network.to(device, kind)
        inputs = (x.to(device, kind) for x in (real, fake, mix))
        penalty = PENALTIES[name](lambda x, net=net: net(x).flatten(), *inputs).value
        parts = torch.autograd.grad(penalty, list(net.parameters()), allow_unused=True)
        gradients.append([g.double().cpu() for g in parts if g is not None])

    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_twenty_trials_in_one_process_leave_no_memory_behind(gan: Trial, data: ImageData) -> None:
    used = []
    for _ in range(20):
        train(gan, data, WARM_UP + 2, Compute())
        torch.cuda.synchronize()
        used.append(torch.cuda.memory_allocated())

    assert max(used[10:]) <= used[1]


def test_a_step_that_cannot_be_captured_is_run_all_the_same(gan: Trial, data: ImageData) -> None:
    learner = make_learner(gan, len(data.classes), CUDA, 3, Compute(**EXACT), budget=2000)
    compute = learner.run.compute

    def waits(inputs: Any, variant: Any) -> Any:
        losses = compute(inputs, variant)
        assert float(losses["generator_loss"]) == float(losses["generator_loss"])
        return losses

    learner.run.compute = waits
    losses = advance(learner, data, 0, 50)
    eager = train(gan, data, 50, Compute(**EXACT, graph="off"))

    assert learner.run.path.startswith("eager: ")
    assert distance(learner, eager) < 1e-5
    assert all(value == value for value in losses.values())
