"""Samplers of others: any class of Optuna's, a file's, a package's or the hub's."""

import sys
import types
from pathlib import Path

import optuna
import pytest

from raygen import plugins
from raygen.config import Study
from raygen.errors import InputError, RaygenError
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler, check_sampler
from raygen.search.verify import verify
from raygen.try_out import try_out
from search.studies import Memory, make_study, run

MINE = """
import random
from optuna.samplers import BaseSampler

class Seeded(BaseSampler):
    def __init__(self, seed=None, low=False):
        self.random, self.low = random.Random(seed), low

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        if hasattr(distribution, "choices"):
            return self.random.choice(distribution.choices)
        if self.low:
            return distribution.low
        return self.random.uniform(distribution.low, distribution.high)

class Unseeded(Seeded):
    def __init__(self):
        super().__init__()

class Nothing:
    pass
"""
BROKEN = """
from optuna.samplers import RandomSampler

class Broken(RandomSampler):
    def sample_independent(self, study, trial, name, distribution):
        return {}["odd"]
"""
SPACE = """
family: gan
data: {source: shapes}
objective: fd_classifier
evaluation: {samples: 500}
budget: {trials: 12, kimg: 9}
scheduler: {grace_kimg: 1, reduction_factor: 3}
finalists: {count: 0}
space:
  optimizer:
    generator_lr: {float: [1e-4, 1e-2], log: true}
    beta1: {float: [0, 0.9]}
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    plugins._plugins.pop("mine.py", None)  # that of another test
    plugins.look_in(tmp_path)


def searched(study: Study) -> Memory:
    """The journal of a search of a space by a bowl."""
    from raygen.journal.records import Open

    journal = Memory()
    journal.append(Open(study={"objective": {"metric": "fd_classifier", "direction": "minimize"}}))
    controller = Controller(study, journal, Sampler(study, "own", None), lambda record: None)
    run(controller, lambda config, *_: 100 * config["optimizer"]["beta1"] + 1)
    return journal


@pytest.mark.parametrize(
    ("sampler", "seeds"),
    [
        ("{name: 'optuna.samplers:NSGAIISampler', arguments: {population_size: 4}}", True),
        ("{name: 'optuna.samplers:TPESampler', arguments: {n_startup_trials: 3}}", True),
        ("{name: 'mine.py:Seeded'}", True),
        ("{name: 'mine.py:Unseeded'}", False),
    ],
)
def test_a_sampler_of_others_is_replayed_exactly_if_it_takes_a_seed(
    tmp_path: Path, sampler: str, seeds: bool
) -> None:
    study = make_study(tmp_path, f"sampler={sampler}", text=SPACE)

    journal = searched(study)

    assert sum(line["kind"] == "suggest" for line in journal.lines) == 12
    assert {line["by"] for line in journal.lines if line["kind"] == "suggest"} == {
        study.spec.sampler.name
    }
    verified = verify(study, journal)
    assert verified.suggestions == (12 if seeds else None)
    assert verified.decisions > 0
    if seeds:
        assert searched(study).lines == journal.lines


def test_a_genetic_sampler_of_others_keeps_its_generations_as_ours_does(tmp_path: Path) -> None:
    """Both are the same class, whose notes are kept with its trials."""
    given = (
        "{name: 'optuna.samplers:NSGAIISampler', arguments: {population_size: 4}}",
        "{name: nsga2, population: 4}",
    )
    others, ours = (
        [line["params"] for line in searched(study).lines if line["kind"] == "suggest"]
        for study in (make_study(tmp_path, f"sampler={one}", text=SPACE) for one in given)
    )

    assert len(others) == 12
    assert others == ours


def test_arguments_reach_it_and_its_code_belongs_to_the_study(tmp_path: Path) -> None:
    study = make_study(
        tmp_path, "sampler={name: 'mine.py:Seeded', arguments: {low: true}}", text=SPACE
    )

    drawn = Sampler(study, "own", None).draw(0).draw.parameters

    assert drawn == {"optimizer.generator_lr": 1e-4, "optimizer.beta1": 0.0}
    assert "plugins.mine.py" in study.settings()
    said: list[str] = []
    Sampler(
        make_study(tmp_path, "sampler.name=mine.py:Unseeded", text=SPACE), "", None, said.append
    )
    assert said == ["sampler mine.py:Unseeded takes no seed: its suggestions cannot be repeated"]


def test_a_sampler_that_would_end_a_study_does_not_end_the_search(tmp_path: Path) -> None:
    """Optuna's grid stops the study that it has tried in full."""
    space = SPACE.partition("space:")[0] + "space: {batch_size: {choice: [16, 32]}}\n"
    arguments = "{search_space: {batch_size: [16, 32]}}"
    study = make_study(
        tmp_path, f"sampler={{name: 'optuna.samplers:GridSampler', arguments: {arguments}}}",
        text=space,
    )  # fmt: skip

    lines = [line for line in constant(study).lines if line["kind"] == "suggest"]

    assert len(lines) == 12
    assert {line["params"]["batch_size"] for line in lines[:2]} == {16, 32}


def constant(study: Study) -> Memory:
    """The journal of a search where every trial is as good."""
    journal = Memory()
    run(
        Controller(study, journal, Sampler(study, "own", None), lambda record: None), lambda *_: 1.0
    )
    return journal


def test_what_it_raises_ends_the_search_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    plugins._plugins.pop("mine.py", None)
    study = make_study(tmp_path, "sampler.name=mine.py:Broken", text=SPACE)

    with pytest.raises(RaygenError) as error:
        Sampler(study, "own", None).draw(0)

    assert str(error.value) == f"sampler mine.py:Broken: {tmp_path}/mine.py:6: KeyError: 'odd'"


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ("{name: 'mine.py:Nothing'}", "must be a class of optuna.samplers.BaseSampler"),
        ("{name: 'optuna.samplers:BaseSampler'}", "must be a class of"),
        (
            "{name: 'mine.py:Seeded', arguments: {hihg: 1}}",
            "sampler.arguments.hihg: 1: takes no argument 'hihg'",
        ),
        ("{name: 'mine.py:Sedeed'}", "did you mean 'Seeded'?"),
        ("{name: tpa}", "did you mean 'tpe'?"),
        (
            "{name: tpe, arguments: {seed: 1}}",
            "arguments: are for a sampler named as module:Class, not tpe",
        ),
        (
            "{name: 'mine.py:Seeded', prior: 2.0}",
            "prior: 2.0: is a setting of curve, not mine.py:Seeded",
        ),
        ("{name: 'optuna.samplers:CmaEsSampler'}", "No module named 'cmaes'"),
        (
            "{name: 'optuna.samplers:BruteForceSampler'}",
            "sampler optuna.samplers:BruteForceSampler: ",
        ),
        ("{name: 'mine.py:Broken'}", "mine.py has no Broken"),
        ("{hub: samplers/nothing}", "optunahub is not installed"),
    ],
)
def test_a_sampler_that_cannot_be_made_is_refused(
    tmp_path: Path, sampler: str, message: str
) -> None:
    with pytest.raises(InputError) as error:
        try_out(make_study(tmp_path, f"sampler={sampler}", text=SPACE))

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sampler_of_the_hub_is_found_by_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub itself is a download from GitHub: its loader is replaced."""
    asked: list[tuple[str, dict[str, str]]] = []
    package = types.ModuleType("package")
    package.RandomSampler = optuna.samplers.RandomSampler

    def load_module(name: str, **more: str) -> types.ModuleType:
        asked.append((name, more))
        return package

    hub = types.ModuleType("optunahub")
    hub.load_module = load_module
    monkeypatch.setitem(sys.modules, "optunahub", hub)
    monkeypatch.setattr("raygen.search.own_sampler.find_spec", lambda name: hub)
    study = make_study(tmp_path, "sampler={hub: samplers/plain@v1}", text=SPACE)

    check_sampler(study)

    assert asked == [("samplers/plain", {"ref": "v1"})]
    assert Sampler(study, "own", None).draw(0).by == "samplers/plain@v1"
