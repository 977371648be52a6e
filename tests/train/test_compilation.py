"""Networks are compiled in the middle of a trial where that repays itself, and only there."""

from collections.abc import Hashable, Iterator

import pytest
import torch

from raygen.compute import Compute
from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.training import compilation
from raygen.training.compilation import EXPECTED, LOOKS, SETTLING, AutoCompile, Payoff
from raygen.training.gan import GanLearner
from raygen.training.loop import make_learner
from raygen.trial import GanTrial, Trial

ROUNDS = LOOKS + SETTLING + 1  # looks until a decision
STEPS = 25  # between two looks
COMPILING = 30.0  # seconds


class Machine:
    """A learner and a clock: steps take as long as they are said to, and so does compiling."""

    images_per_step = 64

    def __init__(self, pace: float, gain: float, shape: Hashable = "a network") -> None:
        self.pace, self.gain, self.shape = pace, gain, shape
        self.now, self.images = 0.0, 0
        self.calls: list[bool] = []

    def use_compiled(self, compiled: bool) -> None:
        self.calls.append(compiled)
        self.now += COMPILING if compiled else 0.0  # spent at the next step

    def run(self, budget: int, looks: int, evaluate_every: int = 10**9) -> None:
        compiling = AutoCompile(self, budget, lambda: self.now)
        compiling.pause()
        for number in range(1, looks + 1):
            compiled = bool(self.calls) and self.calls[-1]
            self.now += STEPS * self.pace / (self.gain if compiled else 1)
            self.images += STEPS * self.images_per_step
            if number % evaluate_every == 0:
                self.now += 100.0
                compiling.pause()
            else:
                compiling.look(self.images)


@pytest.fixture(autouse=True)
def nothing_measured() -> Iterator[None]:
    compilation.measured.clear()
    yield
    compilation.measured.clear()


def test_what_is_saved_is_the_time_of_the_steps_left_less_that_of_compiling() -> None:
    assert Payoff(gain=2.0, seconds=30.0).saves(steps=1000, pace=0.1) == pytest.approx(20.0)
    assert Payoff(gain=0.5, seconds=0.0).saves(steps=1000, pace=0.1) < 0


def test_a_long_trial_is_compiled_once_and_what_it_brought_is_measured() -> None:
    machine = Machine(pace=0.1, gain=2.0)
    machine.run(budget=10**9, looks=3 * ROUNDS)

    assert machine.calls == [True]
    payoff = compilation.measured["a network"]
    assert payoff.gain == pytest.approx(2.0)
    assert payoff.seconds == pytest.approx(COMPILING, rel=0.01)


def test_a_short_trial_is_not_compiled() -> None:
    steps = EXPECTED.seconds / (0.1 * (1 - 1 / EXPECTED.gain)) + STEPS * ROUNDS
    for share, calls in ((0.9, []), (1.1, [True])):
        machine = Machine(pace=0.1, gain=2.0)
        machine.run(budget=int(share * steps * 64), looks=ROUNDS)
        assert machine.calls == calls


def test_what_is_no_faster_compiled_is_run_as_it_was_and_not_tried_again() -> None:
    first = Machine(pace=0.1, gain=0.8)
    first.run(budget=10**9, looks=3 * ROUNDS)
    second = Machine(pace=0.1, gain=0.8)
    second.run(budget=10**9, looks=3 * ROUNDS)

    assert first.calls == [True, False]
    assert second.calls == []


def test_the_next_trial_of_a_shape_decides_by_what_was_measured() -> None:
    compilation.measured["a network"] = Payoff(gain=2.0, seconds=0.5)
    machine = Machine(pace=0.1, gain=2.0)
    machine.run(budget=64 * STEPS * (ROUNDS + 2), looks=ROUNDS)

    assert machine.calls == [True]


def test_evaluations_between_looks_are_no_part_of_a_pace() -> None:
    machine = Machine(pace=0.1, gain=2.0)
    machine.run(budget=10**9, looks=6 * ROUNDS, evaluate_every=3)

    assert compilation.measured["a network"].gain == pytest.approx(2.0)


@pytest.mark.slow
def test_a_trial_goes_on_compiled_with_the_numbers_it_has_without(
    gan: GanTrial, data: ImageData
) -> None:
    """On a CPU, where it is not chosen by itself."""
    learners = [
        make_learner(gan, len(data.classes), torch.device("cpu"), 3, Compute()) for _ in range(2)
    ]
    batches = Batches(data.train, gan.batch_size, 3, torch.device("cpu"), gan.flip)
    for step in range(4):
        for learner in learners:
            learner.step(batches, step * learner.images_per_step)
        learners[1].use_compiled(step in (0, 1))

    plain, compiled = (learner.average.network.state_dict() for learner in learners)
    for name, weight in plain.items():
        torch.testing.assert_close(compiled[name], weight, rtol=1e-4, atol=1e-5)
    assert isinstance(learners[1], GanLearner)
    assert learners[1].fast_generator is learners[1].generator


def test_what_trials_share_code_by_is_their_shape(any_trial: Trial) -> None:
    one, other = (make_learner(any_trial, 10, torch.device("cpu"), seed) for seed in (0, 1))
    bigger = any_trial.model_copy(update={"batch_size": 2 * any_trial.batch_size})
    # Weights of a loss are outside of the compiled code.
    weight = "penalty_weight" if isinstance(any_trial, GanTrial) else "beta"
    loss = any_trial.loss.model_copy(update={weight: 3.25})
    weighed = any_trial.model_copy(update={"loss": loss})

    assert one.shape == other.shape
    assert hash(one.shape) == hash(other.shape)
    assert make_learner(weighed, 10, torch.device("cpu"), 0).shape == one.shape
    assert make_learner(bigger, 10, torch.device("cpu"), 0).shape != one.shape
