"""Lost trials are ended, healthy ones never are."""

import io
import math

import pytest
import torch

from raygen.data import ImageData
from raygen.metrics.evaluator import Evaluator
from raygen.training.health import DIVERSITY, YOUNG, Health, spread
from raygen.training.loop import fit
from raygen.trial import Trial

STEPS = 1000
REAL = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator())
SAME = REAL[:1].expand(64, -1, -1, -1)


@pytest.fixture
def health() -> Health:
    return Health(minimise=True, real=REAL)


def test_finite_losses_are_no_reason_to_stop(health: Health) -> None:
    assert health.losses({"generator_loss": -1e30, "penalty": 0.0}) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_named(health: Health, value: float) -> None:
    reason = health.losses({"discriminator_loss": 1.0, "generator_loss": value})

    assert reason == f"generator loss is {value}"


@pytest.mark.parametrize("minimise", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_objective_that_is_not_finite_ends_the_trial(minimise: bool, value: float) -> None:
    assert Health(minimise, REAL).evaluation(value, REAL, STEPS, {}) == f"the objective is {value}"


def test_a_falling_sequence_is_never_flagged(health: Health) -> None:
    assert _watch(health, [300 * 0.9**k for k in range(60)]) == [None] * 60


def test_swings_of_a_young_gan_are_never_flagged(health: Health) -> None:
    """Of a real one, which came back to half of its best value."""
    swings = [408, 873, 855, 786, 475, 410, 344, 364, 323, 911, 545, 679, 733, 602, 596, 477, 210]

    assert _watch(health, swings) == [None] * len(swings)


def test_two_values_above_twice_the_best_are_forgiven(health: Health) -> None:
    assert _watch(health, [10, 20.1, 20.1, 19.9, 20.1, 40, 11, 40, 10]) == [None] * 9


def test_three_values_in_a_row_above_twice_the_best_end_the_trial(health: Health) -> None:
    reasons = _watch(health, [20, 10, 20.1, 20.1, 20.1])

    assert reasons[:4] == [None] * 4
    assert reasons[4] == "collapse: the objective rose from 10 to 20.1"


@pytest.mark.parametrize("values", [[-2000, -3500, -9000, -90_000], [10, 5, 1, 0.1], [2, 50, 80]])
def test_a_maximised_objective_is_never_judged_by_a_ratio(values: list[float]) -> None:
    assert _watch(Health(minimise=False, real=REAL), values) == [None] * len(values)


def test_the_best_of_a_maximised_objective_is_its_largest_value() -> None:
    health = Health(minimise=False, real=REAL)

    _watch(health, [-2000, -1500, -1800])

    assert health.best == -1500


def test_values_that_were_measured_differently_do_not_compete(health: Health) -> None:
    """Few samples are biased upwards for distances, and downwards for others: 60 is no record."""
    health.measured_by("of 500 samples")
    health.evaluation(50.0, REAL, STEPS, {})
    health.measured_by("of 5000 samples")

    assert health.evaluation(60.0, REAL, STEPS, {}) is None
    assert health.best == 60

    health.measured_by("of 5000 samples")
    health.evaluation(70.0, REAL, STEPS, {})
    assert health.best == 60


def test_identical_samples_twice_in_a_row_end_the_trial(health: Health) -> None:
    assert health.evaluation(10.0, SAME, STEPS, {}) is None
    assert (
        health.evaluation(9.0, SAME, STEPS, {})
        == "collapse: samples vary 0.0% as much as real images"
    )


def test_the_very_state_of_before_is_no_second_sign(health: Health) -> None:
    """One step may pass several milestones: each is evaluated, and nothing has been learnt."""
    health.evaluation(1.0, REAL, STEPS, {})
    first = health.evaluation(2.0, SAME, STEPS + 1, {})
    health.evaluated_again(2.0, SAME)

    assert first is None
    assert health.evaluation(2.0, SAME, STEPS + 2, {}) is not None  # the second state in a row
    assert health.best == 1.0


def test_a_diversity_of_zero_forgives_identical_samples_for_ever() -> None:
    health = Health(minimise=True, real=REAL, diversity=0.0)

    assert [health.evaluation(9.0, SAME, STEPS, {}) for _ in range(5)] == [None] * 5


def test_identical_samples_once_are_forgiven(health: Health) -> None:
    reasons = [health.evaluation(9.0, samples, STEPS, {}) for samples in (SAME, REAL, SAME, REAL)]

    assert reasons == [None] * 4


@pytest.mark.parametrize(("factor", "lost"), [(1.5, False), (0.5, True)])
def test_the_limit_of_diversity_lies_where_it_is_said_to(
    health: Health, factor: float, lost: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(64, 3, 8, 8, generator=generator) * DIVERSITY * factor * spread(REAL)
    samples = (wide + 128).clamp(0, 255).round().byte()

    reasons = [health.evaluation(9.0, samples, STEPS, {}) for _ in range(2)]

    assert (reasons[1] is not None) == lost


def test_spread_is_the_standard_deviation_of_a_pixel() -> None:
    images = torch.tensor([10, 20], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)

    assert spread(images) == pytest.approx(math.sqrt(50))


@pytest.mark.parametrize("split", range(1, 5))
def test_a_watch_that_was_saved_and_restored_ends_at_the_same_point(split: int) -> None:
    values = [20.0, 10.0, 21.0, 21.0, 21.0]
    whole = _watch(Health(True, REAL), values)
    first, second = Health(True, REAL), Health(True, REAL)

    before = _watch(first, values[:split])
    second.load_state_dict(_through_a_file(first.state_dict()))

    assert before + _watch(second, values[split:]) == whole
    assert whole[-1] is not None


def test_collapsed_samples_are_remembered_across_a_restart(health: Health) -> None:
    resumed = Health(True, REAL)
    health.evaluation(9.0, SAME, STEPS, {})

    resumed.load_state_dict(_through_a_file(health.state_dict()))

    assert resumed.evaluation(8.0, SAME, STEPS, {}) is not None


def test_a_trial_that_has_trained_to_its_end_is_judged_by_its_best_and_not_called_diverged(
    gan: Trial, data: ImageData, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raygen.training.health.YOUNG", 0)

    reasons = [p.diverged for p in fit(gan, data, evaluator, (0.02, 0.04), seed=0)]

    assert reasons == [None, None]


def test_a_gan_whose_samples_are_all_alike_is_ended_at_its_second_milestone(
    gan: Trial, data: ImageData, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raygen.training.health.YOUNG", 0)
    reasons = [p.diverged for p in fit(gan, data, evaluator, (0.02, 0.04, 0.06), seed=0)]

    assert reasons[0] is None
    assert reasons[1].startswith("collapse: samples vary")
    assert len(reasons) == 2


def test_a_young_vae_whose_samples_are_all_alike_goes_on(
    vae: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    progress = list(fit(vae, data, evaluator, (0.02, 0.04, 0.06), seed=0))

    assert [p.diverged for p in progress] == [None] * 3
    assert all(spread(p.samples) < DIVERSITY * spread(data.train.images) for p in progress)


def _watch(health: Health, values: list[float]) -> list[str | None]:
    return [health.evaluation(value, REAL, STEPS, {}) for value in values]


def _through_a_file(state: dict[str, float]) -> dict[str, float]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_a_generator_that_has_barely_trained_may_draw_one_picture() -> None:
    health = Health(True, REAL)

    assert [health.evaluation(9.0, SAME, YOUNG - 1, {}) for _ in range(5)] == [None] * 5
    assert [health.evaluation(9.0, SAME, YOUNG, {}) for _ in range(2)][1] is not None


def _reasons(health: Health, losses: dict[str, float], values: list[float]) -> list[str | None]:
    return [health.evaluation(value, REAL, STEPS, losses) for value in values]


def test_a_discriminator_that_loses_nothing_while_nothing_improves_has_won() -> None:
    chance = 2 * math.log(2)
    health = Health(True, REAL, chance=chance)

    reasons = _reasons(health, {"discriminator_loss": 0.005 * chance}, [9.0, 9.5, 9.2])

    assert reasons[:2] == [None, None]
    assert reasons[2] == "discriminator wins: its loss is 0.50% of the loss of guessing"


@pytest.mark.parametrize(
    ("share", "chance", "values"),
    [
        (0.02, 2.0, [9, 9.5, 9.2, 9.9]),  # it still loses something
        (0.001, 2.0, [9, 8, 7, 6]),  # the images still improve
        (0.001, 2.0, [9, 9.5, 8, 9.5]),  # once is forgiven
        (0.001, None, [9, 9.5, 9.2, 9.9]),  # a loss without a scale
    ],
)
def test_a_discriminator_has_not_won_where(
    share: float, chance: float | None, values: list[float]
) -> None:
    losses = {"discriminator_loss": share * (chance or 1.0)}

    assert _reasons(Health(True, REAL, chance=chance), losses, values) == [None] * 4


@pytest.mark.parametrize(("nats", "lost"), [(0.02, True), (30.0, False)])
def test_latents_that_say_nothing_are_a_collapse_of_the_posterior(nats: float, lost: bool) -> None:
    reasons = _reasons(Health(False, REAL, diversity=0.0), {"kl": nats}, [-9000, -8000])

    expected = "posterior collapse: the latents carry 0.02 nats per image"
    assert reasons == [None, expected if lost else None]


def test_a_vae_that_has_barely_trained_may_say_nothing() -> None:
    health = Health(False, REAL, diversity=0.0)

    reasons = [health.evaluation(-9000, SAME, YOUNG - 1, {"kl": 0.0}) for _ in range(4)]

    assert reasons == [None] * 4


@pytest.mark.parametrize(
    ("losses", "chance"), [({"discriminator_loss": 0.0}, 2.0), ({"kl": 0.0}, None)]
)
def test_the_signs_of_each_family_are_remembered_across_a_restart(
    losses: dict[str, float], chance: float | None
) -> None:
    first, second = (Health(True, REAL, 0.0, chance) for _ in range(2))
    values = [5.0, 6.0] if chance else [5.0]
    assert _reasons(first, losses, values) == [None] * len(values)

    second.load_state_dict(_through_a_file(first.state_dict()))

    assert _reasons(second, losses, [6.0])[0] is not None


@pytest.mark.parametrize(("minimise", "guess", "worse", "better"), [
    (True, 8.0, [9.0, 97.0, 60.0], [9.0, 9.5, 8.8, 9.2]),
    (False, -17035.0, [-18e3, -2e5, -1e5], [-19e3, -2e5, -18e3, -2e5]),
])  # fmt: skip
def test_a_model_that_stays_worse_than_one_that_knows_nothing_is_ended(
    minimise: bool, guess: float, worse: list[float], better: list[float]
) -> None:
    def ends(values: list[float], steps: int) -> list[str | None]:
        health = Health(minimise, REAL, 0.0, guess=guess)
        return [health.evaluation(value, REAL, steps, {}) for value in values]

    assert ends(worse, STEPS)[2] == (
        f"the objective is {worse[2]:.4g}, worse than a model that knows nothing ({guess:g})"
    )
    assert ends(better, STEPS) == [None] * 4  # it still learns
    if not minimise:
        assert ends(worse, YOUNG - 1) == [None] * 3
