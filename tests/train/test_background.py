"""A state is written as it was when it was handed over, whatever training does meanwhile."""

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch

from raygen.compute import Compute
from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.training.background import BackgroundWriter
from raygen.training.loop import make_learner
from raygen.trial import Trial

CPU = torch.device("cpu")


@pytest.fixture
def writer() -> Iterator[BackgroundWriter]:
    writer = BackgroundWriter()
    yield writer
    writer.wait()


def test_training_goes_on_while_the_state_of_before_is_written(
    writer: BackgroundWriter, trial: Trial, data: ImageData
) -> None:
    learner = make_learner(trial, 10, CPU, 3, Compute(graph="on"))
    batches = Batches(data.train, trial.batch_size, 3, CPU, trial.flip)
    learner.step(batches, 0)
    expected = {name: tensor.clone() for name, tensor in learner.state_dict()["average"].items()}
    may_write, written = threading.Event(), dict[str, Any]()

    def write(content: dict[str, Any]) -> None:
        assert may_write.wait(60)
        written.update(content)

    writer.write(learner.state_dict(), write)
    learner.step(batches, learner.images_per_step)  # while the writer waits
    moved = learner.state_dict()["average"]
    may_write.set()
    writer.wait()

    assert any(not torch.equal(moved[name], expected[name]) for name in expected)
    assert all(torch.equal(written["average"][name], expected[name]) for name in expected)
    assert all(
        written["average"][name].stride() == tensor.stride() for name, tensor in moved.items()
    )


class _Pair(NamedTuple):
    name: str
    parts: tuple[torch.Tensor, list[int]]


def test_a_state_of_any_shape_is_copied(writer: BackgroundWriter) -> None:
    tensor, written = torch.ones(2), list[Any]()
    content = {"pair": _Pair("a", (tensor, [1, 2]))}
    writer.write(content, lambda copy: written.append(copy["pair"]))
    writer.wait()
    tensor.zero_()

    assert type(written[0]) is _Pair
    assert written[0].parts[0].tolist() == [1.0, 1.0]
    assert written[0].parts[1] == [1, 2]


def test_states_are_written_one_after_another(writer: BackgroundWriter) -> None:
    order: list[int] = []
    for number in range(5):
        writer.write({"number": number}, lambda content: order.append(content["number"]))
    writer.wait()

    assert order == list(range(5))


def test_what_went_wrong_is_raised_once_and_ends_nothing_else(writer: BackgroundWriter) -> None:
    def fail(content: dict[str, Any]) -> None:
        raise OSError("disk full")

    writer.write({}, fail)
    with pytest.raises(OSError, match="disk full"):
        writer.write({}, lambda content: None)
    written: list[int] = []
    writer.write({}, lambda content: written.append(1))
    writer.wait()

    assert written == [1]
