"""The exponential moving average against its closed form."""

import math

import pytest
import torch
from torch import nn

from raygen.training.average import Average
from raygen.trial import Ema


def _network(value: float) -> nn.Sequential:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


@pytest.fixture(params=[False, True], ids=["by a number", "by a tensor"], autouse=True)
def follows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fact holds for both ways in which the weight is read."""
    monkeypatch.setattr(f"{__name__}.FOLLOWS", request.param)


FOLLOWS = False


def _average(half_life_kimg: float, rampup: float = 1e9) -> Average:
    """An average that stands at 1; its source will stand at 0."""
    ema = Ema(half_life_kimg=half_life_kimg, rampup=rampup)
    return Average(_network(1.0), ema, FOLLOWS)


def _update(average: Average, source: nn.Module, seen: int, added: int) -> None:
    weight = average.weight(images_seen=seen, images_added=added)
    average.update(source, torch.tensor(weight, dtype=torch.float64))


def _values(average: Average) -> list[float]:
    return [float(v) for p in average.network.parameters() for v in p.flatten()]


def test_one_half_life_of_images_halves_the_distance() -> None:
    average = _average(2.0)

    _update(average, _network(0.0), 2000, 2000)

    assert _values(average) == pytest.approx([0.5] * 24)


@pytest.mark.parametrize("step", [16, 50, 400])
def test_the_distance_to_constant_weights_follows_the_closed_form(step: int) -> None:
    average, source = _average(0.5), _network(0.0)

    for seen in range(step, 4001, step):
        _update(average, source, seen, step)
        assert _values(average) == pytest.approx([0.5 ** (seen / 500)] * 24)


def test_the_half_life_is_at_most_the_rampup_times_the_images_seen() -> None:
    average, source = _average(1.0, rampup=0.05), _network(0.0)

    expected = 1.0
    for seen in range(64, 64 * 1000, 64):
        _update(average, source, seen, 64)
        expected *= 0.5 ** (64 / min(1000, 0.05 * seen))
        if seen < 640:  # later it is zero but for rounding
            assert _values(average) == pytest.approx([expected] * 24)


def test_once_the_rampup_is_over_the_half_life_is_the_one_that_was_asked_for() -> None:
    average = _average(1.0, rampup=0.05)

    _update(average, _network(0.0), 20_000, 1000)

    assert _values(average) == pytest.approx([0.5] * 24)


def test_a_half_life_of_zero_copies_the_weights() -> None:
    average = _average(0.0)

    _update(average, _network(math.pi), 16, 16)

    assert _values(average) == [math.pi] * 24


def test_running_statistics_are_copied_and_not_averaged() -> None:
    average, source = _average(100.0), _network(0.0)
    source.train()(torch.randn(8, 3, dtype=torch.float64))

    _update(average, source, 16, 16)

    ours, theirs = average.network.state_dict(), source.state_dict()
    for name, _ in source.named_buffers():
        assert torch.equal(ours[name], theirs[name])
    assert int(ours["1.num_batches_tracked"]) == 1


def test_the_average_shares_no_memory_with_its_source_and_is_not_trained() -> None:
    source = _network(1.0)
    average = Average(source, Ema())

    for parameter in source.parameters():
        nn.init.constant_(parameter, 7.0)

    assert _values(average) == [1.0] * 24
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert not any(module.training for module in average.network.modules())
