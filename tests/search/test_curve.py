import itertools
import math
import pickle
import sys
import time
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
from raygen.search.curve.coding import inferred_conditions
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
    assert ours.fit == pytest.approx(reference.predict(x) + ours.mean, abs=1e-8)


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
    assert 0.3 < design / sum(steps) < 0.55
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
        y = trial.suggest_float("y", 0.0, 1.0)
        value = (x - 0.3) ** 2 + (y - 0.5) ** 2
        trial.report(math.nan if x > 0.5 else value, 1)
        if x > 0.5:
            raise optuna.TrialPruned
        return value

    study = optuna.create_study(sampler=CurveSampler(seed=0, levels=[1]))
    study.optimize(breaks, 40)
    late = [t.params["x"] for t in study.trials[20:] if t.system_attrs.get(BY) == "curve"]

    assert np.mean([x > 0.5 for x in late]) < 0.2


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


# What went wrong once, in plain Optuna


def bowl(x: float, y: float) -> float:
    return (x - 0.3) ** 2 + (y - 0.6) ** 2


def distinct(study: optuna.Study) -> int:
    return len({str(sorted(trial.params.items())) for trial in study.trials})


def authors(study: optuna.Study) -> list[str]:
    return [trial.system_attrs.get(BY, "") for trial in study.trials]


@pytest.mark.parametrize("way", ["raises", "returns nan", "returns inf"])
def test_a_point_that_fails_is_not_suggested_again_and_its_region_left(way: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        if x > 0.5:
            if way == "raises":
                raise ValueError
            return math.nan if way == "returns nan" else math.inf
        return bowl(x, y)

    study = optuna.create_study(sampler=CurveSampler(seed=0))
    study.optimize(objective, 40, catch=(ValueError,))

    assert distinct(study) == 40
    late = [trial.params["x"] for trial in study.trials[20:]]
    assert np.mean([x > 0.5 for x in late]) < 0.3


@pytest.mark.parametrize(
    "second",
    [
        lambda x, y: 1.0,
        lambda x, y: float(x > 0.5),
        lambda x, y: y if (x, y) != (0.5, 0.5) else math.inf,
    ],
)
def test_an_objective_of_few_values_does_not_keep_the_model_from_starting(second: Any) -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return bowl(x, y), second(x, y)

    study = optuna.create_study(sampler=CurveSampler(seed=0), directions=["minimize"] * 2)
    study.enqueue_trial({"x": 0.5, "y": 0.5})
    study.optimize(objective, 40)

    assert authors(study).count("curve") >= 15


def test_many_threads_share_a_sampler() -> None:
    """Of a space that is defined by running it, so that its coding changes under way."""

    def objective(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kind", list("abcdef"))
        x = trial.suggest_float(f"x_{kind}", 0, 1)
        time.sleep(0.003)
        return (x - 0.3) ** 2 + ord(kind) - 97

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        study = optuna.create_study(sampler=CurveSampler(seed=0))
        study.optimize(objective, 60, n_jobs=8)
    finally:
        sys.setswitchinterval(before)

    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    assert distinct(study) == 60


def test_a_trial_that_has_asked_for_half_of_its_parameters_is_not_suggested_again() -> None:
    def x_and_y(trial: optuna.Trial) -> float:
        x, y = trial.suggest_categorical("x", list("abc")), trial.suggest_int("y", 1, 3)
        return y + ord(x)

    for seed in range(8):
        study = optuna.create_study(sampler=CurveSampler(seed=seed, startup_trials=4))
        study.optimize(x_and_y, 7)
        first = study.ask()
        first.suggest_categorical("x", list("abc"))
        x_and_y(second := study.ask())
        x_and_y(first)

        assert first.params != second.params


def branches(trial: optuna.Trial) -> float:
    kind = trial.suggest_categorical("kind", ["adam", "sgd", "lion"])
    if kind == "adam":
        rate = trial.suggest_float("adam_lr", 1e-4, 1.0, log=True)
        return (math.log10(rate) + 2) ** 2 + 0.1
    if kind == "sgd":
        rate = trial.suggest_float("sgd_lr", 1e-4, 1.0, log=True)
        momentum = trial.suggest_float("momentum", 0, 1)
        return (math.log10(rate) + 1) ** 2 + (momentum - 0.9) ** 2
    return 1 + trial.suggest_float("lion_lr", 0, 1)


def test_the_conditions_of_a_space_defined_by_running_it_are_inferred() -> None:
    bests, random_bests = [], []
    for seed in range(5):
        study = optuna.create_study(sampler=CurveSampler(seed=seed))
        study.optimize(branches, 50)
        bests.append(study.best_value)
        assert distinct(study) == 50
        other = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        other.optimize(branches, 50)
        random_bests.append(other.best_value)
        space = study.sampler.infer_relative_search_space(study, study.trials[-1])
        assert inferred_conditions(study.trials, space) == {
            "adam_lr": {"kind": frozenset({"adam"})},
            "sgd_lr": {"kind": frozenset({"sgd"})},
            "momentum": {"kind": frozenset({"sgd"})},
            "lion_lr": {"kind": frozenset({"lion"})},
        }

    assert np.median(bests) < 0.1 * np.median(random_bests)


def test_a_parameter_of_a_single_value_does_not_hide_that_a_point_is_known() -> None:
    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_float("y", 0, 1) * trial.suggest_float("fixed", 0.5, 0.5)

    study = optuna.create_study(sampler=CurveSampler(seed=0))
    study.optimize(objective, 40)

    assert distinct(study) == 40


def test_a_range_that_is_widened_is_searched() -> None:
    def objective(trial: optuna.Trial) -> float:
        return (trial.suggest_float("x", 0, 1 if trial.number < 15 else 100) - 50) ** 2

    study = optuna.create_study(sampler=CurveSampler(seed=0))
    study.optimize(objective, 45)

    assert study.best_value < 1


def test_a_pruner_that_shows_a_part_of_the_study_changes_nothing() -> None:
    """Hyperband hands the sampler the trials of a bracket only."""

    def run(fresh: bool) -> list[dict[str, Any]]:
        storage = optuna.storages.InMemoryStorage()
        study = optuna.create_study(
            storage=storage, study_name="x", sampler=CurveSampler(seed=0, levels=[1, 3, 9]),
            pruner=optuna.pruners.HyperbandPruner(1, 9),
        )  # fmt: skip
        for _ in range(40):
            if fresh:
                study.sampler = CurveSampler(seed=0, levels=[1, 3, 9])
            study.optimize(stepped, 1)
        return [trial.params for trial in study.trials]

    def stepped(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        for step in (1, 3, 9):
            trial.report(bowl(x, y) + 1 / step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return bowl(x, y) + 1 / 9

    params = run(fresh=False)

    assert params == run(fresh=True)
    assert len({str(each) for each in params}) == 40


def test_a_sampler_forgets_one_study_when_it_is_given_another() -> None:
    def run(sampler: CurveSampler, target: float) -> list[float]:
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: (trial.suggest_float("x", 0, 1) - target) ** 2, 25)
        return [trial.params["x"] for trial in study.trials]

    shared = CurveSampler(seed=0)
    run(shared, 0.2)

    assert run(shared, 0.8) == run(CurveSampler(seed=0), 0.8)


def test_trials_of_another_sampler_are_learnt_from_and_not_made_up_for() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: bowl(t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), 60)
    study.sampler = CurveSampler(seed=0)
    study.optimize(lambda t: bowl(t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), 20)

    assert authors(study)[60:].count("curve") >= 10


def test_a_space_that_is_exhausted_is_searched_for_its_best_again() -> None:
    random = np.random.default_rng(0)
    means = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0}
    study = optuna.create_study(sampler=CurveSampler(seed=0))
    study.optimize(
        lambda t: means[t.suggest_categorical("arm", list(means))] + random.normal(0, 0.5), 60
    )

    late = [trial.params["arm"] for trial in study.trials[20:]]
    assert late.count("a") > 20


def test_what_a_trial_returns_counts_and_not_what_it_reported_last() -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in (1, 3, 9):
            trial.report((x - 0.9) ** 2, step)
        return (x - 0.1) ** 2

    study = optuna.create_study(sampler=CurveSampler(seed=0))
    study.optimize(objective, 35)

    assert abs(np.median([trial.params["x"] for trial in study.trials[20:]]) - 0.1) < 0.1


def test_trials_that_are_stopped_at_the_first_report_are_learnt_from() -> None:
    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        for step in range(5, 101, 5):
            trial.report(bowl(x, y), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return bowl(x, y)

    pruner = optuna.pruners.SuccessiveHalvingPruner(5, 3)
    sampler = CurveSampler(seed=0)
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.optimize(objective, 40)

    assert sampler._cached_levels[0] == 5
    rows = sampler._ended
    assert rows is not None
    assert rows.valued.all()


def test_tiny_objectives_are_modelled_like_others() -> None:
    def run(scale: float) -> list[str]:
        study = optuna.create_study(sampler=CurveSampler(seed=0))
        study.optimize(lambda t: scale * (1 + (t.suggest_float("x", 0, 1) - 0.3) ** 2), 25)
        return authors(study)

    assert run(1e-200) == run(1.0)


def test_a_prior_that_says_nothing_of_the_space_changes_nothing() -> None:
    def run(priors: list[dict[str, Any]]) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=CurveSampler(seed=0, priors=priors))
        study.optimize(lambda t: bowl(t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), 30)
        return [trial.params for trial in study.trials]

    assert run([{}]) == run([{"unknown": 3}]) == run([])


def test_first_values_of_parameters_with_the_same_letters_differ() -> None:
    study = optuna.create_study(sampler=CurveSampler(seed=0))
    trial = study.ask()

    assert trial.suggest_float("ab", 0, 1) != trial.suggest_float("ba", 0, 1)


def test_a_pickled_sampler_goes_on() -> None:
    sampler = pickle.loads(pickle.dumps(CurveSampler(seed=0)))
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), 15)

    assert distinct(study) == 15


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": -1}, "seed: -1, must be 0"),
        ({"levels": [9, 3]}, "levels: .* ascending"),
        ({"levels": [3, 3]}, "levels: .* ascending"),
        ({"levels": [2.5, 9]}, "levels: .* whole numbers"),
        ({"confidence": math.nan}, "confidence: nan"),
        ({"startup_trials": -5}, "startup_trials: -5"),
        ({"design_share": 2}, "design_share: 2"),
        ({"space": {"c": CategoricalDistribution(["a"])}, "priors": [{"c": "z"}]}, "priors: c='z'"),
        ({"space": {"c": CategoricalDistribution(["a"])}, "priors": [{"d": 1}]}, "priors: d=1"),
    ],
)
def test_an_argument_out_of_its_range_is_refused_at_once(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CurveSampler(**settings)
