"""A step that is skipped has not been, and what is skipped is what is too large or not finite."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from raygen.compute import Compute
from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.losses.elbo import ElboLoss
from raygen.metrics.evaluator import Evaluator
from raygen.models.conv_vae import ConvVae
from raygen.models.ladder_vae import LadderVae
from raygen.training.loop import fit
from raygen.training.vae import VaeLearner, VaeStepInputs
from raygen.trial import Trial, VaeOptimizer, VaeTrial
from train.conftest import TRIALS

CPU = torch.device("cpu")
NEVER = 1e30  # a threshold that only what is not finite does not stay below
MODELS = {
    "conv_vae": VaeTrial(model=ConvVae(latent_dim=8, width=4, norm="batch"), batch_size=16),
    "ladder_vae": VaeTrial(
        model=LadderVae(latent_channels=1, width=8, layers=1, norm="batch", block="bottleneck"),
        loss=ElboLoss(likelihood="discretised_logistic_mixture"),
        batch_size=16,
        accumulate=2,
    ),
}
each_model = pytest.mark.parametrize("name", MODELS)


def learner_of(trial: Trial, skip: float, clip: float = 100.0, **compute: Any) -> VaeLearner:
    assert isinstance(trial, VaeTrial)
    optimizer = VaeOptimizer(skip=skip, clip=clip)
    changed = trial.model_copy(update={"optimizer": optimizer})
    return VaeLearner(changed, 10, CPU, 0, Compute(**compute))


@pytest.fixture
def batches(data: ImageData) -> Batches:
    return Batches(data.train, 16, 0, CPU)


def too_large(learner: VaeLearner, step: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """A step whose gradient is above the threshold, as every one is above nothing."""
    assert learner.skip is not None
    threshold, learner.skip.threshold = learner.skip.threshold, 0.0
    losses = step()
    learner.skip.threshold = threshold
    return losses


def not_finite(learner: VaeLearner, step: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """A step in which one latent of one image is NaN: so are losses, gradients and statistics."""
    draw = learner._inputs

    def poisoned(batches: Batches, position: int) -> VaeStepInputs:
        inputs = draw(batches, position)
        inputs.noise[0, 0] = math.nan
        return inputs

    learner._inputs = poisoned  # pyright: ignore[reportAttributeAccessIssue]
    losses = step()
    learner._inputs = draw  # pyright: ignore[reportAttributeAccessIssue]
    return losses


def state_of(learner: VaeLearner) -> dict[str, Tensor]:
    """Weights, running statistics, moments and step counts, copied."""
    tensors = {**learner.vae.state_dict()}
    for number, moments in learner.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{key}": value for key, value in moments.items()}
    return {key: value.clone() for key, value in tensors.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@each_model
@pytest.mark.parametrize("bad", [too_large, not_finite])
@pytest.mark.parametrize("graph", ["off", "on"])
def test_a_skipped_step_changes_nothing_and_the_next_is_that_of_a_run_without_it(
    name: str, bad: Callable[..., dict[str, Tensor]], graph: str, batches: Batches
) -> None:
    learner, without = (learner_of(MODELS[name], NEVER, graph=graph) for _ in range(2))
    for each in (learner, without):
        assert float(each.step(batches, 0)["skipped"]) == 0
    before = state_of(learner)
    assert before["adam.0.step"] == 1

    losses = bad(learner, lambda: learner.step(batches, 16))

    assert float(losses["skipped"]) == 1
    assert_same(state_of(learner), before)
    after, expected = (each.step(batches, 32) for each in (learner, without))
    assert {k: float(v) for k, v in after.items()} == {k: float(v) for k, v in expected.items()}
    assert_same(state_of(learner), state_of(without))
    assert not torch.equal(
        state_of(learner)["net.to_parameters.weight"], before["net.to_parameters.weight"]
    )


@each_model
def test_a_first_step_that_is_skipped_leaves_the_untrained_network(
    name: str, batches: Batches
) -> None:
    learner, without = (learner_of(MODELS[name], NEVER) for _ in range(2))
    too_large(learner, lambda: learner.step(batches, 0))

    for each in (learner, without):
        each.step(batches, 16)

    assert_same(state_of(learner), state_of(without))


@each_model
def test_a_threshold_that_no_norm_reaches_changes_no_bit(name: str, batches: Batches) -> None:
    plain, never = (learner_of(MODELS[name], skip) for skip in (0.0, NEVER))

    for position in range(0, 80, 16):
        expected, losses = (each.step(batches, position) for each in (plain, never))
        assert float(losses.pop("skipped")) == 0
        assert list(losses) == list(expected)
        assert all(torch.equal(losses[key], expected[key]) for key in losses)

    assert_same(state_of(never), state_of(plain))
    averages = (each.average.network.state_dict() for each in (never, plain))
    assert_same(*averages)


@each_model
@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_the_threshold_is_of_the_norm_in_nats_per_image_before_it_is_clipped(
    name: str, clip: float, batches: Batches
) -> None:
    plain = learner_of(MODELS[name], 0.0, clip=0.0)
    plain.step(batches, 0)
    squares = [float(p.grad.double().square().sum()) for p in plain.vae.parameters()]
    norm = math.sqrt(sum(squares))

    below, above = (learner_of(MODELS[name], norm * f, clip) for f in (1.001, 0.999))

    assert float(below.step(batches, 0)["skipped"]) == 0
    assert float(above.step(batches, 0)["skipped"]) == 1


@each_model
def test_losses_of_a_skipped_step_are_its_own_if_finite_else_those_of_the_step_before(
    name: str, batches: Batches
) -> None:
    learner, plain = (learner_of(MODELS[name], skip) for skip in (NEVER, 0.0))
    first = {key: float(value) for key, value in learner.step(batches, 0).items()}
    plain.step(batches, 0)
    expected = plain.step(batches, 16)

    finite = too_large(learner, lambda: learner.step(batches, 16))
    assert float(finite["log_prob"]) == float(expected["log_prob"])
    again = not_finite(learner, lambda: learner.step(batches, 32))

    assert float(again["log_prob"]) == float(finite["log_prob"]) != first["log_prob"]
    assert all(value.isfinite() for value in again.values())


def test_the_average_goes_on_over_the_images_of_a_skipped_step(batches: Batches) -> None:
    learner = learner_of(MODELS["conv_vae"], NEVER)
    learner.step(batches, 0)
    name = "net.to_parameters.weight"
    average, weight = (
        each.state_dict()[name].clone() for each in (learner.average.network, learner.vae)
    )

    too_large(learner, lambda: learner.step(batches, 16))

    share = learner.average.weight(32, 16)
    expected = average + share * (weight - average)
    torch.testing.assert_close(learner.average.network.state_dict()[name], expected)


@pytest.mark.usefixtures("patience")
def test_one_bad_batch_ends_a_trial_unless_it_may_be_skipped(
    data: ImageData, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = VaeLearner._inputs

    def poisoned(self: VaeLearner, batches: Batches, position: int) -> VaeStepInputs:
        inputs = draw(self, batches, position)
        if position == 160:
            inputs.noise[0, 0] = math.nan
        return inputs

    monkeypatch.setattr(VaeLearner, "_inputs", poisoned)
    milestones = (0.16, 0.32, 0.48)
    ended, went_on = (
        list(fit(learner_of(MODELS["conv_vae"], skip).trial, data, evaluator, milestones, 0))
        for skip in (0.0, NEVER)
    )

    assert [p.diverged for p in ended] == [None, "log prob is nan"]
    assert [p.diverged for p in went_on] == [None] * 3
    assert [p.losses["skipped"] for p in went_on] == pytest.approx([0, 0.1, 0])  # one of ten steps
    assert all(math.isfinite(p.losses["log_prob"]) for p in went_on)


@pytest.mark.parametrize("learnt", [0, 1])
def test_a_trial_that_skips_every_step_ends_with_that_reason(
    learnt: int, data: ImageData, evaluator: Evaluator
) -> None:
    trial = learner_of(MODELS["conv_vae"], (1e-6, NEVER)[learnt]).trial

    milestones = [round(0.064 * k, 3) for k in range(1, 5)]
    found = list(fit(trial, data, evaluator, milestones, 0))

    if learnt:
        assert [p.diverged for p in found] == [None] * 4
    else:
        assert found[-1].diverged is not None
        assert found[-1].diverged.startswith("every step was skipped")
        assert len(found) == 2


def test_the_trial_that_others_share_skips_some_of_its_steps(data: ImageData) -> None:
    """Else what they prove of it, such as exact resumption, would be proved of no skip."""
    trial = TRIALS["vae that skips"]
    assert isinstance(trial, VaeTrial)
    learner = VaeLearner(trial, 10, CPU, 3)
    batches = Batches(data.train, trial.batch_size, 3, CPU, trial.flip)

    skipped = [int(learner.step(batches, 16 * step)["skipped"]) for step in range(20)]

    assert skipped[:2] == [0, 1]
    assert 3 <= sum(skipped) <= 12
