import itertools
import math
import warnings
from collections import Counter
from pathlib import Path

import optuna
import pytest
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from raygen.config import Study
from raygen.config_file import load_space
from raygen.search.curve import from_unit
from raygen.search.sampler import Sampler
from raygen.seeds import derive
from raygen.space import Draw, sample

SPACE = """
family: gan
data: {source: shapes}
objective: fd_classifier
budget: {trials: 30, kimg: 9}
sampler: {name: tpe, startup_trials: 5}
seed: 3
space:
  loss:
    one_of:
      hinge: {}
      wasserstein: {penalty: gradient_penalty, penalty_weight: {float: [1, 30], log: true}}
  optimizer: {generator_lr: {float: [1e-4, 1e-2], log: true}}
start:
  - loss: {name: wasserstein, penalty_weight: 10.0}
    optimizer: {generator_lr: 1e-3}
  - optimizer: {generator_lr: 2e-3}
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "space.yaml").write_text(SPACE)
    return load_space(tmp_path / "space.yaml")


@pytest.fixture
def sampler(study: Study, tmp_path: Path) -> Sampler:
    return Sampler(study, "test", tmp_path / "optuna.log")


def value(parameters: dict[str, float]) -> float:
    return abs(math.log10(parameters["optimizer.generator_lr"]) + 3) + len(parameters)


def suggest(sampler: Sampler, number: int) -> Draw:
    draw, by, kernel = sampler.draw(number)
    sampler.add(number, draw.parameters, by, kernel)
    return draw


def test_suggestions_equal_a_plain_optuna_study_fed_the_same_history(
    study: Study, sampler: Sampler
) -> None:
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    plain = optuna.create_study()
    for number in range(25):
        plain.sampler = optuna.samplers.TPESampler(
            seed=derive(3, "sampler", number, 0), n_startup_trials=5, multivariate=True, group=True
        )
        if number < len(study.start):
            plain.enqueue_trial(study.start[number])
        trial = plain.ask()
        expected = sample(study.space, trial)
        draw = suggest(sampler, number)
        frozen = plain.trials[-1]
        if number % 4 != 3:
            plain.tell(trial, value(expected.parameters))
            sampler.finish(number, "completed", [value(draw.parameters)])
        else:  # goes on running, which TPE counts, too
            plain.tell(trial, state=TrialState.FAIL)
            own = {"params": frozen.params, "distributions": frozen.distributions}
            plain.add_trial(create_trial(state=TrialState.RUNNING, **own))

        assert draw == expected


def test_what_drew_a_trial_is_told(sampler: Sampler) -> None:
    authors = []
    for number in range(9):
        draw, by, _ = sampler.draw(number)
        sampler.add(number, draw.parameters)
        sampler.finish(number, "completed", [1.0 * number])
        authors.append(by)

    assert authors == ["start"] * 2 + ["startup"] * 3 + ["tpe"] * 4


def test_drawing_changes_nothing_and_a_copy_built_from_the_records_draws_the_same(
    study: Study, sampler: Sampler
) -> None:
    copy = Sampler(study, "copy", None)
    for number in range(12):
        first, again = sampler.draw(number), sampler.draw(number)
        assert first == again == copy.draw(number)
        for one in (sampler, copy):
            one.add(number, first.draw.parameters)
            if number % 3:
                one.finish(number, "completed", [value(first.draw.parameters)])


def test_starting_points_come_first_and_what_they_leave_out_is_sampled(sampler: Sampler) -> None:
    first, second = suggest(sampler, 0), suggest(sampler, 1)

    assert first.config["loss"] == {
        "name": "wasserstein",
        "penalty": "gradient_penalty",
        "penalty_weight": 10.0,
    }
    assert first.config["optimizer"] == {"generator_lr": 1e-3}
    assert second.config["optimizer"] == {"generator_lr": 2e-3}
    assert second.config["loss"]["name"] in ("hinge", "wasserstein")


def test_a_small_space_is_covered_before_anything_is_drawn_twice(tmp_path: Path) -> None:
    text = SPACE[: SPACE.index("space:")] + (
        "space:\n  batch_size: {choice: [16, 32, 64]}\n"
        "  optimizer: {discriminator_steps: {int: [1, 4]}}\n"
    )
    (tmp_path / "small.yaml").write_text(text)
    sampler = Sampler(load_space(tmp_path / "small.yaml"), "small", None)

    drawn = [tuple(sorted(suggest(sampler, n).parameters.items())) for n in range(12)]  # all run

    assert len(set(drawn)) == 12


@pytest.mark.parametrize("name", ["curve", "tpe", "random", "quasi_random", "nsga2", "nsga3", "gp"])
def test_every_sampler_draws_inside_the_space_and_by_its_seed(tmp_path: Path, name: str) -> None:
    text = SPACE.replace("{name: tpe, startup_trials: 5}", f"{{name: {name}, startup_trials: 3}}")
    if name == "gp":
        text = (
            text[: text.index("  loss:")] + text[text.index("  optimizer:") : text.index("start:")]
        )
    runs = []
    for seed in (3, 3, 4):
        (tmp_path / "space.yaml").write_text(text.replace("seed: 3", f"seed: {seed}"))
        study = load_space(tmp_path / "space.yaml")
        sampler = Sampler(study, "test", None)
        configs = []
        for number in range(8):
            draw = suggest(sampler, number)
            broken = number in (1, 4)  # each must go on behind trials that could not be trained
            state, values = ("diverged", None) if broken else ("completed", value(draw.parameters))
            sampler.finish(number, state, None if values is None else [values])
            study.trial(draw.config)
            configs.append(draw.config)
        runs.append(configs)

    assert runs[0] == runs[1] != runs[2]
    rates = [config["optimizer"]["generator_lr"] for config in runs[0]]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)


@pytest.mark.parametrize(
    ("distribution", "count"),
    [
        (CategoricalDistribution(["a", "b", "c"]), 3),
        (IntDistribution(1, 4), 4),
        (IntDistribution(32, 128, step=32), 4),
        (FloatDistribution(0.0, 1.0, step=0.25), 5),
    ],
)
def test_quasi_random_points_give_every_discrete_value_the_same_share(
    distribution: BaseDistribution, count: int
) -> None:
    engine = torch.quasirandom.SobolEngine(1, scramble=True, seed=1)
    points = engine.draw(4096)[:, 0].tolist()
    shares = Counter(from_unit(distribution, u) for u in points)

    assert len(shares) == count
    assert all(abs(share / 4096 - 1 / count) < 0.01 for share in shares.values())
    assert all(distribution._contains(distribution.to_internal_repr(one)) for one in shares)


def test_quasi_random_trials_name_each_step_of_a_range_as_the_file_would(tmp_path: Path) -> None:
    text = SPACE.replace("{name: tpe, startup_trials: 5}", "{name: quasi_random}")
    text = text.replace("1e-4, 1e-2], log: true", "0.1, 0.75], step: 0.1")
    (tmp_path / "space.yaml").write_text(text[: text.index("start:")])
    sampler = Sampler(load_space(tmp_path / "space.yaml"), "test", None)

    rates = {suggest(sampler, n).parameters["optimizer.generator_lr"] for n in range(64)}

    assert rates == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}


def test_quasi_random_points_on_a_log_scale_are_even_in_the_logarithm() -> None:
    for distribution in (
        FloatDistribution(1e-4, 1e-2, log=True),
        IntDistribution(1, 999, log=True),
    ):
        points = [from_unit(distribution, (i + 0.5) / 1000) for i in range(1000)]
        middle = math.sqrt(distribution.low * distribution.high)

        assert abs(sum(point < middle for point in points) - 500) < 60
        assert min(points) >= distribution.low
        assert max(points) <= distribution.high


def test_quasi_random_trials_cover_the_space_better_than_random_ones(tmp_path: Path) -> None:
    gaps = {}
    for name in ("random", "quasi_random"):
        text = SPACE.replace("{name: tpe, startup_trials: 5}", f"{{name: {name}}}")
        (tmp_path / "space.yaml").write_text(text[: text.index("start:")])
        sampler = Sampler(load_space(tmp_path / "space.yaml"), "test", None)
        rates = sorted(
            math.log10(suggest(sampler, n).parameters["optimizer.generator_lr"]) for n in range(64)
        )
        gaps[name] = max(b - a for a, b in itertools.pairwise(rates))

    assert gaps["quasi_random"] < gaps["random"]


def test_a_finished_trial_of_an_earlier_study_moves_the_model(study: Study) -> None:
    taught, naive = Sampler(study, "a", None), Sampler(study, "b", None)
    for index in range(20):
        rate = 10 ** (-4 + index / 10)
        params = {"loss": "hinge", "optimizer.generator_lr": rate}
        params = {p.name: params.get(p.name, "hinge") for p in study.parameters if not p.condition}
        params["optimizer.generator_lr"] = rate
        taught.learn(params, [abs(math.log10(rate) + 2.3)])

    near = [taught.draw(n).draw.parameters["optimizer.generator_lr"] for n in range(10, 40)]
    far = [naive.draw(n).draw.parameters["optimizer.generator_lr"] for n in range(10, 40)]

    def off(rates: list[float]) -> float:
        return sum(abs(math.log10(rate) + 2.3) for rate in rates) / len(rates)

    assert off(near) < 0.6 * off(far)


@pytest.mark.parametrize("state", ["diverged", "out_of_memory", "failed"])
def test_a_region_that_cannot_be_trained_is_told_as_a_violated_constraint(
    sampler: Sampler, state: str
) -> None:
    suggest(sampler, 0)
    sampler.report(0, 1.0, [50.0])
    sampler.finish(0, "completed", [50.0])
    suggest(sampler, 1)
    sampler.finish(1, state, None)

    told = [t for t in sampler.study.trials if t.state != TrialState.FAIL]
    good, bad = told

    assert good.constraints == {}
    assert (bad.state, bad.constraints) == (TrialState.COMPLETE, {"trainable": 1.0})
    assert sampler.study.best_trial == good


def test_a_lost_trial_teaches_nothing(sampler: Sampler) -> None:
    suggest(sampler, 0)
    sampler.report(0, 1.0, [50.0])
    sampler.finish(0, "lost", [50.0])

    assert all(trial.state == TrialState.FAIL for trial in sampler.study.trials)


def test_no_trial_stays_running_when_its_value_is_not_finite(sampler: Sampler) -> None:
    suggest(sampler, 0)
    sampler.report(0, 1.0, [math.nan])
    sampler.finish(0, "diverged", None)

    assert all(trial.state.is_finished() for trial in sampler.study.trials)


def test_optuna_itself_reads_the_copy_on_disk(sampler: Sampler, tmp_path: Path) -> None:
    for number, state in enumerate(["completed", "stopped", "diverged"]):
        suggest(sampler, number)
        sampler.report(number, 3.0, [10.0 + number])
        sampler.finish(number, state, [10.0 + number])
    suggest(sampler, 3)

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    copy = optuna.load_study(study_name="test", storage=storage)

    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.state for trial in copy.trials] == states
    assert copy.best_value == 10.0
    ours = [t.params for t in sampler.study.trials if t.state != TrialState.FAIL]
    assert [t.params for t in copy.trials if t.params in ours] == ours
    assert copy.trials[1].intermediate_values == {3000: 11.0}


@pytest.mark.parametrize("name", ["curve", "random", "quasi_random", "tpe", "nsga2"])
def test_a_space_without_parameters_is_one_configuration_again_and_again(
    tmp_path: Path, name: str
) -> None:
    text = SPACE[: SPACE.index("space:")] + "space: {batch_size: 32}\n"
    path = tmp_path / "space.yaml"
    path.write_text(text)
    study = load_space(path, [f"sampler={{name: {name}, startup_trials: 1}}"])
    sampler = Sampler(study, "test", None)

    for number in range(3):
        draw = sampler.draw(number).draw
        assert draw.config == {"batch_size": 32}
        sampler.add(number, draw.parameters)
        sampler.finish(number, "completed", [1.0])
