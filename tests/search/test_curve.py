import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from scipy.integrate import quad
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from raygen.config_file import load_space
from raygen.search.curve import Coding, CurveSampler
from raygen.search.curve.extrapolation import at_full_budget, chain
from raygen.search.curve.gaussian_process import (
    JITTER,
    GaussianProcess,
    Kernel,
    _objective,
    _squares,
    log_expected_improvement,
)
from raygen.search.curve.sampler import BY, KERNEL
from raygen.search.sampler import make_curve_sampler
from raygen.space import sample

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))

# The coding


@pytest.mark.parametrize("path", SPACES, ids=[path.stem for path in SPACES])
def test_every_draw_of_a_shipped_space_survives_the_way_to_the_cube_and_back(path: Path) -> None:
    study = load_space(path)
    coding = make_curve_sampler(study).coding
    assert coding is not None
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    points = []
    for _ in range(60):
        drawn = sample(study.space, draws.ask()).parameters
        points.append(coding.point(drawn))
        back = coding.params(points[-1])

        assert set(back) == set(drawn)  # the same branches are taken
        assert all(
            back[name] == pytest.approx(value, rel=1e-9) if isinstance(value, float) else
            back[name] == value
            for name, value in drawn.items()
        )  # fmt: skip
    snapped = coding.snapped(np.array(points))
    assert coding.features(snapped) == pytest.approx(coding.features(np.array(points)), abs=1e-9)
    assert [coding.params(p) for p in snapped] == [
        pytest.approx(coding.params(p)) for p in np.array(points)
    ]


def test_snapping_moves_no_coordinate_out_of_its_cell_and_is_done_once() -> None:
    coding = Coding(
        {
            "choice": CategoricalDistribution(["a", "b", "c"]),
            "steps": FloatDistribution(0.0, 0.9, step=0.3),
            "int": IntDistribution(1, 5),
            "log": IntDistribution(1, 100, log=True),
            "free": FloatDistribution(1e-4, 1.0, log=True),
        }
    )
    points = np.random.default_rng(0).random((200, 5))
    snapped = coding.snapped(points)

    assert [coding.params(p) for p in snapped] == [
        {**coding.params(p), "free": pytest.approx(coding.params(p)["free"])} for p in points
    ]
    assert np.allclose(coding.snapped(snapped), snapped)


def test_parameters_of_a_branch_that_is_not_taken_make_no_difference() -> None:
    coding = Coding(
        {
            "kind": CategoricalDistribution(["adam", "sgd"]),
            "momentum": FloatDistribution(0.0, 1.0),
            "width": CategoricalDistribution([128, 32, 64]),
        },
        {"momentum": {"kind": "sgd"}},
    )
    adam = [coding.point({"kind": "adam", "width": 64}, fill) for fill in (0.1, 0.9)]
    sgd = coding.point({"kind": "sgd", "momentum": 0.3, "width": 128})
    features = coding.features(np.array([*adam, sgd]))

    assert np.array_equal(features[0], features[1])
    assert coding.params(adam[0]) == {"kind": "adam", "width": 64}
    assert features[2].tolist() == [1.0, pytest.approx(0.3), 1.0]  # 128 is the widest
    assert coding.nominal.tolist() == [True, False, False]


# The model


def a_model(seed: int = 0, size: int = 25, nominal: bool = False) -> tuple[Any, ...]:
    random = np.random.default_rng(seed)
    x = random.random((size, 3))
    if nominal:
        x[:, 2] = random.integers(3, size=size)
    y = np.sin(5 * x[:, 0]) + x[:, 1] ** 2 + 0.1 * random.standard_normal(size)
    variances = random.random(size) * 0.1
    kernel = Kernel(np.log([0.3, 0.8, 1.5]), math.log(1.7), math.log(0.02))
    return kernel, x, y, variances, np.array([False, False, nominal])


def test_the_posterior_is_that_of_scikit_learn() -> None:
    kernel, x, y, variances, nominal = a_model()
    ours = GaussianProcess(kernel, x, y, variances, nominal)
    reference = GaussianProcessRegressor(
        ConstantKernel(1.7, "fixed") * Matern([0.3, 0.8, 1.5], "fixed", nu=2.5),
        alpha=variances + 0.02 + JITTER,
        optimizer=None,
    ).fit(x, y - ours.mean)
    points = np.random.default_rng(1).random((40, 3))
    mean, sd = ours.predict(points)
    expected, expected_sd = reference.predict(points, return_std=True)

    assert mean == pytest.approx(expected + ours.mean, abs=1e-8)
    assert sd == pytest.approx(expected_sd, abs=1e-8)


@pytest.mark.parametrize("nominal", [False, True])
def test_the_gradient_of_the_hyperparameters_is_that_of_differences(nominal: bool) -> None:
    kernel, x, y, variances, choices = a_model(nominal=nominal)
    squares = _squares(x, x, choices)
    error = check_grad(
        lambda v: _objective(v, squares, y, variances)[0],
        lambda v: _objective(v, squares, y, variances)[1],
        kernel.vector(),
    )
    assert error < 1e-4 * np.linalg.norm(_objective(kernel.vector(), squares, y, variances)[1])


@pytest.mark.parametrize("mean", [-1.0, 0.0, 0.3, 2.0, 6.0])
@pytest.mark.parametrize("sd", [0.05, 1.0, 3.0])
def test_expected_improvement_is_its_integral(mean: float, sd: float) -> None:
    best = 0.2

    def improvement(f: float) -> float:
        density = math.exp(-0.5 * ((f - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
        return max(best - f, 0.0) * density

    area, _ = quad(improvement, mean - 12 * sd, best, epsabs=0, epsrel=1e-10, limit=500)
    (log_value,) = log_expected_improvement(np.array([mean]), np.array([sd]), best)
    if area > 1e-200:
        assert log_value == pytest.approx(math.log(area), rel=1e-6)


@pytest.mark.parametrize("z", [-0.5, -1.5, -5.0, -9.9, -10.1, -30.0, -200.0])
def test_expected_improvement_keeps_its_digits_far_below(z: float) -> None:
    with mpmath.workdps(60):
        exact = mpmath.log(mpmath.npdf(z) + mpmath.mpf(z) * mpmath.ncdf(z))
    (ours,) = log_expected_improvement(np.array([0.0]), np.array([1.0]), z)

    assert ours == pytest.approx(float(exact), rel=2e-2 if z < -10 else 1e-9, abs=2e-2)


# The extrapolation


def test_a_curve_that_was_cut_short_is_carried_on_as_the_others_went() -> None:
    random = np.random.default_rng(0)
    first = random.normal(3.0, 1.0, 4000)
    second = 0.5 + 0.8 * first + random.normal(0, 0.3, 4000)
    third = -0.2 + 0.9 * second + random.normal(0, 0.2, 4000)
    levels = np.stack([first, second, third], axis=1)
    truth = third.copy()
    levels[first > np.quantile(first, 0.4), 1:] = np.nan  # only the good go on
    levels[second > np.quantile(second, 0.2), 2] = np.nan
    stopped = np.isnan(levels[:, 1])

    steps = chain(levels)
    values, variances = at_full_budget(levels, np.zeros_like(levels))

    assert steps[0] == pytest.approx((0.5, 0.8, 0.09), abs=0.05)
    assert steps[1] == pytest.approx((-0.2, 0.9, 0.04), abs=0.1)
    assert np.mean(values[stopped] - truth[stopped]) == pytest.approx(0.0, abs=0.05)
    spread = 0.9**2 * 0.3**2 + 0.2**2
    assert variances[stopped] == pytest.approx(np.full(stopped.sum(), spread), rel=0.15)
    assert variances[np.isfinite(levels[:, 2])].max() == 0.0


def test_what_nobody_has_reached_is_foretold_unchanged_and_uncertain() -> None:
    levels = np.array([[1.0, np.nan], [2.0, np.nan]])
    values, variances = at_full_budget(levels, np.zeros_like(levels))

    assert values.tolist() == [1.0, 2.0]
    assert variances.tolist() == [0.25, 0.25]


# The sampler in plain Optuna

LEVELS = [1, 3, 9]


def hill(trial: optuna.Trial) -> float:
    """A curve that falls to a bowl around x = 0.7, kind b; kind c cannot be trained."""
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    x = trial.suggest_float("x", 0.0, 1.0)
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    if kind == "c":
        trial.set_constraint("trainable", 1.0)
        return 100.0
    floor = 1 + 20 * (x - 0.7) ** 2 + (math.log10(rate) + 3) ** 2 + (kind == "a")
    for step in range(1, 10):
        trial.report(floor + 5 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return floor + 5 / 9


def search(sampler: optuna.samplers.BaseSampler, trials: int, storage: Any = None) -> optuna.Study:
    study = optuna.create_study(
        study_name="s", storage=storage, load_if_exists=True, sampler=sampler,
        pruner=optuna.pruners.SuccessiveHalvingPruner(1, 3),
    )  # fmt: skip
    study.optimize(hill, trials)
    return study


def params(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


def test_in_plain_optuna_it_finds_the_bowl_that_random_search_misses() -> None:
    ours = [search(CurveSampler(seed=s, levels=LEVELS), 40).best_value for s in range(4)]
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    random = [search(optuna.samplers.RandomSampler(seed=s), 40).best_value for s in range(4)]

    least = 1 + 5 / 9
    assert np.mean(ours) - least < 0.3 * (np.mean(random) - least)


def test_what_it_suggests_follows_from_the_trials_and_the_seed() -> None:
    first, again = (search(CurveSampler(seed=1, levels=LEVELS), 30) for _ in range(2))
    other = search(CurveSampler(seed=2, levels=LEVELS), 30)

    assert params(first) == params(again) != params(other)


def test_a_new_process_goes_on_as_the_old_one_would_have(tmp_path: Path) -> None:
    whole = search(CurveSampler(seed=1, levels=LEVELS), 30)
    for _ in range(5):
        file = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
        storage = optuna.storages.JournalStorage(file)
        resumed = search(CurveSampler(seed=1, levels=LEVELS), 6, storage)

    assert params(resumed) == params(whole)


def test_it_says_who_suggested_a_trial_and_keeps_a_share_for_the_design() -> None:
    study = search(CurveSampler(seed=0, levels=LEVELS, design_share=0.4), 60)
    authors = [
        trial.system_attrs[BY] for trial in study.trials[1:]
    ]  # of the first nothing is known
    steps = [max(trial.intermediate_values, default=0) for trial in study.trials[1:]]
    design = sum(s for s, by in zip(steps, authors, strict=True) if by == "design")

    assert authors[:11] == ["design"] * 11
    assert set(authors) == {"design", "curve"}
    assert 0.33 < design / sum(steps) < 0.55
    fits = [
        trial.system_attrs[KERNEL][-1] for trial in study.trials if KERNEL in trial.system_attrs
    ]
    assert fits == sorted(fits)
    assert all(b >= a + max(1, a / 12) for a, b in itertools.pairwise(fits))


def test_a_region_that_cannot_be_trained_is_left_alone() -> None:
    study = search(CurveSampler(seed=0, levels=LEVELS), 60)
    modelled = [t for t in study.trials if t.system_attrs.get(BY) == "curve"]

    assert len(modelled) > 10
    assert sum(t.params["kind"] == "c" for t in modelled) <= 0.1 * len(modelled)


def test_a_value_that_is_not_finite_is_as_bad_as_a_violated_constraint() -> None:
    def breaks(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.report(math.nan if x > 0.5 else 1 + x, 1)
        if x > 0.5:
            raise optuna.TrialPruned
        return 1 + x

    study = optuna.create_study(sampler=CurveSampler(seed=0, levels=[1]))
    study.optimize(breaks, 40)
    late = [t.params["x"] for t in study.trials[20:] if t.system_attrs.get(BY) == "curve"]

    assert np.mean([x > 0.5 for x in late]) < 0.1


def test_of_several_objectives_it_spreads_along_the_front() -> None:
    def both(trial: optuna.Trial) -> tuple[float, float]:
        x = [trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(3)]
        off = 1 + 3 * (x[1] - 0.3) ** 2 + 3 * (x[2] - 0.6) ** 2
        return x[0] * off, (1 - x[0]) * off

    volumes = {}
    for name, make in (("curve", CurveSampler), ("random", optuna.samplers.RandomSampler)):
        volumes[name] = []
        for seed in range(3):
            study = optuna.create_study(directions=["minimize"] * 2, sampler=make(seed=seed))
            study.optimize(both, 40)
            front = np.array([t.values for t in study.best_trials])
            volumes[name].append(
                optuna._hypervolume.compute_hypervolume(front, np.array([2.0, 2.0]))
            )

    assert min(volumes["curve"]) > max(volumes["random"])


def test_the_neighbourhood_of_a_good_starting_point_is_preferred_and_of_a_bad_one_is_not() -> None:
    def apart(point: dict[str, Any], confidence: float) -> float:
        """How many decades the modelled suggestions are from a starting point's rate."""
        decades = []
        for seed in range(4):
            sampler = CurveSampler(
                seed=seed, levels=LEVELS, priors=[point], confidence=confidence, startup_trials=6
            )
            study = optuna.create_study(
                sampler=sampler, pruner=optuna.pruners.SuccessiveHalvingPruner(1, 3)
            )
            study.enqueue_trial(point)
            study.optimize(hill, 24)
            modelled = [t for t in study.trials if t.system_attrs.get(BY) == "curve"]
            decades += [abs(math.log10(t.params["rate"] / point["rate"])) for t in modelled]
        return float(np.mean(decades))

    good = {"kind": "b", "x": 0.6, "rate": 1e-3}
    bad = {"kind": "a", "x": 0.05, "rate": 1e-5}

    assert apart(good, 10.0) < 0.6 * apart(good, 0.0)
    assert apart(bad, 10.0) == pytest.approx(apart(bad, 0.0), rel=0.1)


def test_finished_trials_without_a_curve_count_at_the_full_budget() -> None:
    study = optuna.create_study(sampler=CurveSampler(seed=0))
    study.optimize(lambda t: (t.suggest_float("x", 0, 1) - 0.3) ** 2, 30)

    assert abs(study.best_params["x"] - 0.3) < 0.02
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
