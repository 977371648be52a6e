"""The surrogate and the ablation path, on functions whose answer is known."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raygen.report.charts.ablation import ablation_table
from raygen.report.charts.contours import contours_table, surfaces
from raygen.report.response_surface import NEEDED, encode, fit_surface
from raygen.results import Results, load_results
from report.journals import end, report, suggest, write_demo

Make = Callable[..., Results]
NUMERIC = {"kind": "float", "low": 0.0, "high": 1.0, "log": False, "choices": None}


def sampled(make_study: Make, value: Callable[[dict], float], n: int, seed: int = 0) -> Results:
    """A default in the corner, then random trials of three numbers and a choice."""
    rng = np.random.default_rng(seed)
    records = []
    for trial in range(n):
        config: dict = {name: float(rng.random()) for name in "abc"}
        config["kind"] = str(rng.choice(["x", "y"]))
        if trial == 0:
            config = {"a": 0.0, "b": 0.0, "c": 0.0, "kind": "y"}
        records += [*suggest(trial, config), report(trial, 16, value(config)), end(trial)]
    parameters = [{"name": name, **NUMERIC} for name in "abc"]
    parameters.append({"name": "kind", "kind": "choice", "low": None, "high": None, "log": False,
                       "choices": ["x", "y"]})  # fmt: skip
    return make_study(records, folder=f"s{seed}-{n}", parameters=parameters)


def bowl(config: dict) -> float:
    """a matters most, the choice a little, b and c not at all."""
    return 1 + 8 * (config["a"] - 0.8) ** 2 + 0.5 * (config["kind"] == "y")


def test_trials_that_it_never_saw_are_predicted(make_study: Make) -> None:
    model, others = (
        fit_surface(sampled(make_study, bowl, 40)),
        sampled(make_study, bowl, 30, seed=1),
    )
    assert model is not None

    predicted = model.predict(encode(model.parameters, others.trials))
    truth = others.trials["value"].to_numpy(dtype=float)

    assert 1 - np.var(predicted - truth) / np.var(truth) > 0.9
    assert model.trusted


def test_pure_noise_is_not_trusted(make_study: Make) -> None:
    rng = np.random.default_rng(3)
    study = sampled(make_study, lambda _: float(1 + rng.random()), 40)
    model = fit_surface(study)

    assert model is not None
    assert not model.trusted
    assert ablation_table(study).empty
    assert all(surface["values"] is None for surface in surfaces(study))


def test_too_few_trials_have_no_surrogate(make_study: Make) -> None:
    assert fit_surface(sampled(make_study, bowl, NEEDED - 1)) is None
    assert fit_surface(sampled(make_study, bowl, NEEDED)) is not None


def test_the_first_step_of_the_path_is_the_setting_that_matters_most(make_study: Make) -> None:
    study = sampled(make_study, bowl, 40)
    table = ablation_table(study)
    steps = table.set_index("name")["change"]

    assert table["name"].iloc[:2].tolist() == ["start", "a"]
    assert steps["a"] == pytest.approx(8 * 0.8**2, rel=0.15)
    assert abs(steps.get("b", 0)) < 0.1 * steps["a"]
    assert table["value"].iloc[0] - table["value"].iloc[-1] == pytest.approx(steps.sum())


def test_a_branch_changes_together_with_its_choice(tmp_path: Path) -> None:
    study = load_results(write_demo(tmp_path / "branches", trials=60, pictures=False))
    names = ablation_table(study)["name"].tolist()

    assert not any(name == "loss.penalty_weight" for name in names)


def test_the_default_being_the_best_leaves_nothing_to_take_apart(make_study: Make) -> None:
    study = sampled(make_study, lambda c: 1 + c["a"] + c["b"] + c["c"], 30)

    assert ablation_table(study).empty


def test_a_surface_is_lowest_where_the_function_is(make_study: Make) -> None:
    study = sampled(make_study, lambda c: 1 + (c["a"] - 0.8) ** 2 + (c["b"] - 0.2) ** 2, 60)
    found = surfaces(study)[0]
    at, up = np.unravel_index(found["values"].T.argmin(), found["values"].T.shape)
    lowest = {found["x"]: found["at"][at], found["y"]: found["up"][up]}

    assert lowest["a"] == pytest.approx(0.8, abs=0.15)
    assert lowest["b"] == pytest.approx(0.2, abs=0.15)
    assert len(contours_table(study)) == 2 * len(study.trials)


def test_values_that_may_be_negative_are_learnt_as_they_are(make_study: Make) -> None:
    model = fit_surface(sampled(make_study, lambda c: 4 * c["a"] - 2, 30))

    assert model is not None
    assert not model.log
    assert math.isclose(model.predict(np.array([[0.5, 0.5, 0.5, 0.0]]))[0], 0, abs_tol=0.15)
