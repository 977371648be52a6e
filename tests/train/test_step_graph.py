"""A step is work on tensors alone: recorded once, it is played again for every later step."""

import gc
import weakref
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from raygen.compute import Compute
from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.training.loop import Learner, make_learner
from raygen.training.step_graph import WARM_UP, StepGraph
from raygen.trial import Trial
from train.tape import TapedStep

CPU = torch.device("cpu")
STEPS = 8


def train(trial: Trial, data: ImageData, taped: bool) -> tuple[Learner, list[dict[str, float]]]:
    """A learner after some steps, run one operation after another or played from a tape."""
    learner = make_learner(trial, len(data.classes), CPU, 3, Compute(graph="on"), budget=400)
    if taped:
        learner.run = TapedStep(learner._compute)  # pyright: ignore[reportAttributeAccessIssue]
    batches = Batches(data.train, trial.batch_size, 3, CPU, trial.flip)
    position, losses = 0, []
    for _ in range(STEPS):
        step = learner.step(batches, position)
        losses.append({name: float(value) for name, value in step.items()})
        position += learner.images_per_step
    return learner, losses


def test_a_step_that_is_played_from_a_recording_is_the_step_itself(
    any_trial: Trial, data: ImageData
) -> None:
    eager, losses = train(any_trial, data, taped=False)
    played, same = train(any_trial, data, taped=True)

    assert played.run.played >= STEPS - 4  # pyright: ignore[reportAttributeAccessIssue]
    assert same == losses
    state, other = eager.state_dict(), played.state_dict()
    for name in (name for name in state if "optimizer" not in name):
        for key, tensor in state[name].items():
            torch.testing.assert_close(other[name][key], tensor, rtol=0, atol=0)


def test_rates_and_weights_in_tensors_give_the_steps_that_numbers_give(
    any_trial: Trial, data: ImageData
) -> None:
    """Of the very same precision: both are read as float32."""
    batches = Batches(data.train, any_trial.batch_size, 3, CPU, any_trial.flip)
    losses = []
    for graph in ("off", "on"):
        learner = make_learner(any_trial, 10, CPU, 3, Compute(graph=graph), budget=400)  # pyright: ignore[reportArgumentType]
        for position in (0, learner.images_per_step, 2 * learner.images_per_step):
            step = learner.step(batches, position)
        losses.append({name: float(value) for name, value in step.items()})

    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_checkpoint_holds_the_rate_as_a_number_for_any_device(
    trial: Trial, data: ImageData
) -> None:
    tensors, numbers = (
        make_learner(trial, 10, CPU, 3, Compute(graph=graph))  # pyright: ignore[reportArgumentType]
        for graph in ("on", "off")
    )
    state = tensors.state_dict()
    name = next(name for name in state if name.endswith("optimizer"))
    numbers.load_state_dict(state)
    again = numbers.state_dict()[name]["param_groups"][0]
    tensors.load_state_dict(numbers.state_dict())

    assert type(state[name]["param_groups"][0]["lr"]) is float
    assert again == state[name]["param_groups"][0]
    assert tensors.state_dict()[name]["param_groups"] == state[name]["param_groups"]


def test_a_learner_that_nobody_needs_is_gone_at_once_with_all_that_it_holds_of_a_device(
    any_trial: Trial, data: ImageData
) -> None:
    learner = make_learner(any_trial, 10, CPU, 3, Compute(graph="on"))
    learner.step(Batches(data.train, any_trial.batch_size, 3, CPU, any_trial.flip), 0)
    left = weakref.ref(learner), weakref.ref(next(learner.average.network.parameters()))
    gc.collect()
    gc.disable()
    try:
        del learner
        assert [kept() for kept in left] == [None, None]
    finally:
        gc.enable()


class Stream:
    """In the place of a stream of a GPU."""

    made = 0

    def __init__(self) -> None:
        Stream.made += 1

    def wait_stream(self, other: Any) -> None:
        """Nothing runs."""


class Broken:
    """A capture that ends with an error of its own, as after an operation that it refused."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None:
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a StepGraph believe that there is a GPU, on which no capture succeeds."""
    Stream.made = 0
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda current=Stream(): current)  # noqa: B008
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", Broken)
    for name in ("graph_pool_handle", "synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    Stream.made = 0


def test_all_warm_ups_share_one_stream_and_so_its_memory(pretended: None) -> None:
    graph = StepGraph(lambda inputs, _: {"loss": inputs[0]}, True)
    for _ in range(WARM_UP):
        graph((torch.zeros(()),), "one")
        graph((torch.zeros(()),), "other")

    assert Stream.made == 1


def test_of_a_refused_capture_the_first_error_is_told_not_that_of_its_end(pretended: None) -> None:
    steps = []

    def compute(inputs: tuple[torch.Tensor, ...], _: Any) -> dict[str, torch.Tensor]:
        steps.append(1)
        if len(steps) == WARM_UP + 1:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\n…")
        return {"loss": inputs[0]}

    graph = StepGraph(compute, True)
    for _ in range(WARM_UP + 2):
        losses = graph((torch.ones(()),))

    assert graph.path == "eager: CUDA error: operation not permitted when stream is capturing"
    assert float(losses["loss"]) == 1
