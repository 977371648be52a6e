"""Importance on functions whose answer is known."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from raygen.report.charts.importance import NEEDED, divergence, importance_table, settled
from raygen.results import Results
from report.journals import end, report, suggest

Make = Callable[..., Results]
NUMERIC = {"kind": "float", "low": 0.0, "high": 1.0, "log": False, "choices": None}
CHOICE = {"kind": "choice", "low": None, "high": None, "log": False}


def sampled(make_study: Make, value: Callable[[dict], float], n: int, seed: int) -> Results:
    """Random configurations of four numbers and one choice, scored by `value`."""
    rng = np.random.default_rng(seed)
    records = []
    for trial in range(n):
        config: dict = {name: float(rng.random()) for name in "abcd"}
        config["kind"] = str(rng.choice(["x", "y", "z"]))
        records += [*suggest(trial, config), report(trial, 16, value(config)), end(trial)]
    parameters = [{"name": name, **NUMERIC} for name in "abcd"]
    parameters.append({"name": "kind", **CHOICE, "choices": ["x", "y", "z"]})
    return make_study(records, folder=f"s{seed}-{n}", parameters=parameters)


@pytest.mark.parametrize("seed", range(5))
def test_the_only_number_that_matters_gets_the_largest_share(make_study: Make, seed: int) -> None:
    table = importance_table(sampled(make_study, lambda c: 1 + (c["c"] - 0.3) ** 2, 40, seed))

    assert table["name"][0] == "c"
    assert table["share"][0] > 0.5


@pytest.mark.parametrize("seed", range(5))
def test_the_only_choice_that_matters_gets_the_largest_share(make_study: Make, seed: int) -> None:
    study = sampled(make_study, lambda c: {"x": 1.0, "y": 5.0, "z": 9.0}[c["kind"]], 40, seed)

    assert importance_table(study)["name"][0] == "kind"


def test_shares_sum_to_one_inside_their_intervals(make_study: Make) -> None:
    table = importance_table(sampled(make_study, lambda c: 1 + c["a"] + c["b"], 40, 0))

    assert table["share"].sum() == pytest.approx(1)
    assert (table["low"] <= table["share"]).all()
    assert (table["share"] <= table["high"]).all()
    assert table["share"].between(0, 1).all()


def test_the_same_study_gives_the_same_shares(make_study: Make) -> None:
    study = sampled(make_study, lambda c: 1 + c["a"], 20, 3)

    assert importance_table(study).equals(importance_table(study))


def test_a_setting_of_one_branch_counts_when_it_matters_there(make_study: Make) -> None:
    rng = np.random.default_rng(0)
    records = []
    for trial in range(60):
        loss: dict = {"name": str(rng.choice(["hinge", "wasserstein"]))}
        value = 2.0 + 0.01 * rng.random()
        if loss["name"] == "wasserstein":
            loss["penalty_weight"] = float(10 ** rng.uniform(-1, 2))
            value = 1 + abs(math.log10(loss["penalty_weight"]) - 1)
        config = {"loss": loss, "width": float(rng.random())}
        records += [*suggest(trial, config), report(trial, 16, value), end(trial)]
    parameters = [
        {"name": "loss.name", **CHOICE, "choices": ["hinge", "wasserstein"]},
        {"name": "loss.penalty_weight", **NUMERIC, "low": 0.1, "high": 100.0, "log": True},
        {"name": "width", **NUMERIC},
    ]
    table = importance_table(make_study(records, parameters=parameters)).set_index("name")

    # Only half of the trials have it, yet it decides among the best; width decides nothing.
    assert table["share"]["loss.penalty_weight"] > table["share"]["width"]
    assert table["share"]["loss.name"] > table["share"]["width"]
    assert table["trials"]["loss.penalty_weight"] < 60


def test_divergence_splits_exactly_into_branch_and_inside() -> None:
    # Two branches: 4 trials without the setting, 4 with it; both top trials have it, at one level.
    kernel = np.array([[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1]], dtype=float)
    everyone = np.ones((8, 1))
    top = np.zeros((8, 1))
    top[4:6] = 1
    branch = 1.0**2 / 0.5 - 1
    # On the joint space (absent, level 1, level 2): all = 1/2, 1/4, 1/4 and top = 0, 1, 0.
    whole = 1.0**2 / 0.25 - 1

    assert divergence(kernel, everyone, top)[0] == pytest.approx(whole - branch)


def test_seven_trials_are_too_few(make_study: Make) -> None:
    assert importance_table(sampled(make_study, lambda c: 1 + c["a"], NEEDED - 1, 0)).empty
    assert not importance_table(sampled(make_study, lambda c: 1 + c["a"], NEEDED, 0)).empty


def test_diverged_trials_are_the_worst_and_lost_ones_do_not_count(make_study: Make) -> None:
    records = []
    for trial, state in enumerate(
        ["diverged", "completed", "lost", "failed", "running", "stopped"]
    ):
        records += [*suggest(trial, {"a": trial}), report(trial, 16, 1.0 + trial)]
        records += [end(trial, state)] if state != "running" else []

    assert settled(make_study(records))["trial"].tolist() == [1, 5, 0]
