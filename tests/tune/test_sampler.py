import math
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from raygen.config import Study, load_study
from raygen.space import sample
from raygen.tune.sampler import Sampler

SPACE = """
family: gan
data: {source: shapes}
objective: fd_classifier
budget: {trials: 30, kimg: 9}
sampler: {startup_trials: 5}
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
    return load_study(tmp_path / "space.yaml")


@pytest.fixture
def sampler(study: Study, tmp_path: Path) -> Sampler:
    return Sampler(study, "test", tmp_path / "optuna.log")


def value(parameters: dict[str, float]) -> float:
    return abs(math.log10(parameters["optimizer.generator_lr"]) + 3) + len(parameters)


def test_suggestions_equal_a_plain_optuna_study_that_was_told_the_same(
    study: Study, sampler: Sampler
) -> None:
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    plain = optuna.create_study(
        sampler=optuna.samplers.TPESampler(
            seed=3, n_startup_trials=5, multivariate=True, group=True
        )
    )
    for point in study.start:
        plain.enqueue_trial(point)
    for number in range(20):
        trial = plain.ask()
        expected = sample(study.space, trial)
        plain.tell(trial, value(expected.parameters))

        draw = sampler.suggest(number)
        sampler.finish(number, "completed", value(draw.parameters))

        assert draw == expected


def test_starting_points_come_first_and_what_they_leave_out_is_sampled(sampler: Sampler) -> None:
    first, second = sampler.suggest(0), sampler.suggest(1)

    assert first.config["loss"] == {
        "name": "wasserstein",
        "penalty": "gradient_penalty",
        "penalty_weight": 10.0,
    }
    assert first.config["optimizer"] == {"generator_lr": 1e-3}
    assert second.config["optimizer"] == {"generator_lr": 2e-3}
    assert second.config["loss"]["name"] in ("hinge", "wasserstein")


@pytest.mark.parametrize("state", ["diverged", "out_of_memory"])
def test_a_region_that_cannot_be_trained_is_told_as_a_violated_constraint(
    sampler: Sampler, state: str
) -> None:
    sampler.suggest(0)
    sampler.report(0, 1.0, 50.0)
    sampler.finish(0, "completed", 50.0)
    sampler.suggest(1)
    sampler.finish(1, state, None)

    good, bad = sampler.study.trials

    assert good.constraints == {}
    assert (bad.state, bad.constraints) == (TrialState.COMPLETE, {"trainable": 1.0})
    assert sampler.study.best_trial.number == 0


@pytest.mark.parametrize("state", ["failed", "lost", "interrupted"])
def test_an_end_that_says_nothing_of_the_settings_teaches_nothing(
    sampler: Sampler, state: str
) -> None:
    sampler.suggest(0)
    sampler.report(0, 1.0, 50.0)
    sampler.finish(0, state, 50.0)

    assert sampler.study.trials[0].state == TrialState.FAIL


def test_no_trial_stays_running_when_its_value_is_not_finite(sampler: Sampler) -> None:
    sampler.suggest(0)
    sampler.report(0, 1.0, math.nan)
    sampler.finish(0, "diverged", None)

    assert sampler.study.trials[0].state.is_finished()


def test_optuna_itself_reads_the_copy_on_disk(sampler: Sampler, tmp_path: Path) -> None:
    for number, state in enumerate(["completed", "stopped", "diverged"]):
        sampler.suggest(number)
        sampler.report(number, 3.0, 10.0 + number)
        sampler.finish(number, state, 10.0 + number)
    sampler.suggest(3)

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    copy = optuna.load_study(study_name="test", storage=storage)

    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.state for trial in copy.trials] == states
    assert copy.best_value == 10.0
    assert [t.params for t in copy.trials] == [t.params for t in sampler.study.trials]
    assert copy.trials[1].intermediate_values == {3000: 11.0}
