"""fit: milestones, the count of images, determinism, means of losses, lost trials."""

import math
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.metrics import Score
from raygen.metrics.evaluator import Evaluator
from raygen.training.loop import CHECK_EVERY, GRID, Progress, fit, make_learner
from raygen.trial import Trial
from train.conftest import TRIALS, make_data

pytestmark = pytest.mark.usefixtures("patience")
CPU = torch.device("cpu")
MILESTONES, SEED = (0.05, 0.1, 0.23), 2


class Trained(NamedTuple):
    """One training to the last milestone, and what was said at each: for all who only look."""

    images: list[int]
    losses: list[dict[str, float]]
    last: Progress


@cache
def _trained(name: str, evaluator: Evaluator) -> Trained:
    images, losses = [], []
    for last in fit(TRIALS[name], make_data(), evaluator, MILESTONES, SEED):
        images.append(last.state["images"])
        losses.append(last.losses)
    return Trained(images, losses, last)


@pytest.fixture
def trained(any_trial: Trial, evaluator: Evaluator) -> Trained:
    return _trained(next(name for name in TRIALS if TRIALS[name] == any_trial), evaluator)


def test_one_progress_comes_per_milestone_in_order(
    trial: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    found = [progress.kimg for progress in fit(trial, data, evaluator, MILESTONES, seed=0)]

    assert found == list(MILESTONES)


def test_images_seen_reach_each_milestone_and_overshoot_by_less_than_one_step(
    any_trial: Trial, trained: Trained
) -> None:
    for kimg, images in zip(MILESTONES, trained.images, strict=True):
        assert 0 <= images - kimg * 1000 < trained.last.learner.images_per_step


def test_only_the_last_milestone_is_called_last(
    gan: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    found = [progress.last for progress in fit(gan, data, evaluator, MILESTONES, seed=0)]

    assert found == [False, False, True]


def test_the_same_seed_gives_bit_equal_metrics_and_weights(
    any_trial: Trial, trained: Trained, data: ImageData, evaluator: Evaluator
) -> None:
    first = trained.last
    torch.rand(3)  # whatever else draws from the global generator must not matter
    second = _run(any_trial, data, evaluator, SEED)

    assert first.scores == second.scores
    assert first.losses == second.losses
    assert torch.equal(first.samples, second.samples)
    assert _equal(first.learner.state_dict(), second.learner.state_dict())


def test_another_seed_gives_other_weights(
    trial: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    first, second = (_run(trial, data, evaluator, seed) for seed in (5, 6))

    assert not _equal(first.learner.weights(), second.learner.weights())


def test_training_leaves_the_global_generator_as_it_was(
    trial: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    before = torch.get_rng_state()

    _run(trial, data, evaluator, seed=5)

    assert torch.equal(before, torch.get_rng_state())


def test_milestones_in_between_do_not_change_the_result(
    any_trial: Trial, trained: Trained, data: ImageData, evaluator: Evaluator
) -> None:
    often, once = trained.last, _run(any_trial, data, evaluator, SEED, MILESTONES[-1:])

    assert often.scores == once.scores
    assert _equal(often.learner.state_dict(), once.learner.state_dict())


def test_three_discriminator_steps_show_three_different_batches_and_count_them(
    gan: Trial, data: ImageData
) -> None:
    optimizer = gan.optimizer.model_copy(update={"discriminator_steps": 3})
    learner = make_learner(gan.model_copy(update={"optimizer": optimizer}), 10, CPU, seed=0)
    batches = _Watched(data, 16)

    learner.step(batches, 480)

    assert batches.positions == [480, 496, 512]
    assert learner.images_per_step == 48


def test_losses_are_means_over_the_steps_since_the_last_milestone(
    any_trial: Trial, trained: Trained, data: ImageData
) -> None:
    learner = make_learner(any_trial, 10, CPU, seed=SEED, budget=MILESTONES[-1] * 1000)
    batches = Batches(data.train, 16, seed=SEED, device=CPU)
    position, expected = 0, []
    for kimg in MILESTONES:
        steps = []
        while position < kimg * 1000:
            steps.append(learner.step(batches, position))
            position += learner.images_per_step
        expected.append({k: sum(float(s[k]) for s in steps) / len(steps) for k in steps[0]})

    for ours, theirs in zip(trained.losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_an_absurd_learning_rate_ends_a_gan_within_one_check_interval(
    gan: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    rates = {"generator_lr": 1e30, "discriminator_lr": 1e30}
    optimizer = gan.optimizer.model_copy(update=rates)
    lost = gan.model_copy(update={"optimizer": optimizer})

    (progress,) = fit(lost, data, evaluator, (100.0, 200.0), seed=0)

    _assert_broken(progress)


def test_one_infinite_weight_ends_a_vae_within_one_check_interval(
    vae: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    stopped = next(fit(vae, data, evaluator, (0.016,), seed=0))
    with torch.no_grad():
        stopped.learner.vae.net.to_parameters.bias[0] = math.inf
    loop = {**stopped.state, "images": 0}
    resume = {"learner": stopped.learner.state_dict(), "kimg": 0.0, "loop": loop}

    (progress,) = fit(vae, data, evaluator, (100.0, 200.0), seed=0, resume=resume)

    _assert_broken(progress)


def test_the_sample_grid_is_64_images_from_latents_that_never_change(
    trial: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    frozen = trial.model_copy(update={"optimizer": _slow(trial)})

    grids = [p.samples.clone() for p in fit(frozen, data, evaluator, (0.016, 0.032), seed=0)]

    assert grids[0].shape == (GRID, 3, 32, 32)
    assert grids[0].dtype == torch.uint8
    # Only the running statistics of batch normalisation still move, by a little.
    assert (grids[0].float() - grids[1].float()).abs().mean() < 20


class _Told:
    """An evaluator that says what it is told to."""

    metrics = ("fd_classifier",)
    device = CPU

    def __init__(self, values: list[float]) -> None:
        self.values = iter(values)

    def __call__(self, model: object) -> dict[str, Score]:
        return {"fd_classifier": Score(next(self.values), {})}


def test_best_is_said_of_exactly_the_milestones_that_lower_the_objective(
    vae: Trial, data: ImageData
) -> None:
    told: Any = _Told([5.0, 6.0, 4.0, 4.0, 3.0])

    flags = [p.best for p in fit(vae, data, told, (0.1, 0.2, 0.3, 0.4, 0.5), seed=0)]

    assert flags == [True, False, True, False, True]


def test_seconds_never_run_backwards(gan: Trial, data: ImageData, evaluator: Evaluator) -> None:
    found = [p.seconds for p in fit(gan, data, evaluator, MILESTONES, seed=0)]

    assert all(earlier < later for earlier, later in pairwise([0.0, *found]))


class _Watched(Batches):
    """Batches that remember what was asked of them."""

    def __init__(self, data: ImageData, size: int) -> None:
        super().__init__(data.train, size, 0, CPU)
        self.positions: list[int] = []

    def pixels_at(self, position: int) -> tuple[Tensor, Tensor]:
        self.positions.append(position)
        return super().pixels_at(position)


def _run(
    trial: Trial,
    data: ImageData,
    evaluator: Evaluator,
    seed: int,
    milestones: tuple[float, ...] = MILESTONES,
) -> Progress:
    return list(fit(trial, data, evaluator, milestones, seed))[-1]


def _slow(trial: Trial) -> Any:
    rates = [name for name in type(trial.optimizer).model_fields if name.endswith("lr")]
    return trial.optimizer.model_copy(update=dict.fromkeys(rates, 1e-12))


def _assert_broken(progress: Progress) -> None:
    assert progress.diverged is not None
    assert any(name.replace("_", " ") in progress.diverged for name in progress.losses)
    assert "nan" in progress.diverged or "inf" in progress.diverged
    assert progress.scores == {}
    assert progress.state["images"] <= CHECK_EVERY * progress.learner.images_per_step


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b


def test_each_milestone_is_measured_with_its_samples_and_its_best_counts_anew(
    gan: Trial, data: ImageData
) -> None:
    """Distances that rise with the samples: else the first milestone would stay the best."""

    class Rising:
        metrics, device = ("fd_classifier",), CPU

        def __call__(self, model: Any, samples: int) -> dict[str, Score]:
            return {"fd_classifier": Score(float(samples), {"samples": samples})}

    samples = {0.05: 100, 0.1: 200, 0.23: 200}
    found = list(fit(gan, data, Rising(), MILESTONES, 0, samples_at=samples.__getitem__))  # pyright: ignore[reportArgumentType]

    assert [each.scores["fd_classifier"].value for each in found] == [100, 200, 200]
    assert [each.best for each in found] == [True, True, False]
