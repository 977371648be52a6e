"""What goes wrong on machines: each search below is disturbed, and finishes with nothing lost."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from raygen.apply.evaluate import evaluate
from raygen.cluster.connect import kill
from raygen.config import Study
from raygen.config_file import load_space
from raygen.data import load_data
from raygen.errors import InputError, RaygenError
from raygen.journal import read_study
from raygen.journal.local import Journal
from raygen.journal.records import Record as JournalRecord
from raygen.journal.records import Report, Start
from raygen.metrics.bounds import test_elbo as bound_of
from raygen.metrics.evaluator import SAMPLE_SEED
from raygen.notices import Notice, Notify
from raygen.results import Results, best_model, full_measurements, load_results
from raygen.search.verify import verify
from raygen.study_folder import StudyFolder
from raygen.training.checkpoint import load_sampler
from raygen.training.vae import VaeLearner
from raygen.tuning import tuner
from raygen.tuning.run import Outcome, run_study
from search.studies import written

SPACE = """
family: vae
data: {source: shapes, limit: 256}
objective: elbo
evaluation: {metrics: [bits_per_dim], samples: 64}
budget: {trials: 2, kimg: 1.5}
scheduler: {name: none}
sampler: {name: random}
finalists: {count: 0}
seed: 1
space:
  model: {latent_dim: 4, width: 4, depth: 0}
  optimizer: {lr: {float: [1.0e-3, 1.0e-2], log: true}}
  batch_size: 32
"""
Record = dict[str, Any]


def make(folder: Path, *settings: str) -> Study:
    (folder / "space.yaml").write_text(SPACE)
    return load_space(folder / "space.yaml", ["evaluation.every_kimg=0.5", *settings])


def search(
    study: Study, folder: StudyFolder, disturb: Notify = lambda record: None
) -> tuple[Outcome, Results, list[Record]]:
    facts = {"command": "test", "space_file": "x"}
    outcome = run_study(study, folder, facts, None, disturb)
    return outcome, load_results(folder.root), written(folder.journal)


def ended(results: Results) -> list[tuple[str, str]]:
    """How every trial ended, and why."""
    return list(zip(results.trials["state"], results.trials["reason"], strict=True))


def free_cpus(seconds: float = 300) -> float:
    """CPUs that no trial holds: a node says so a moment after its last process has gone."""
    import time

    import ray

    total, deadline = ray.cluster_resources()["CPU"], time.monotonic() + seconds
    while (free := ray.available_resources().get("CPU", 0)) < total and time.monotonic() < deadline:
        time.sleep(0.1)
    return free


class Once:
    """Does something to the process of a trial at its first report, once."""

    def __init__(self, act: Callable[[int], None], trial: int = 1) -> None:
        self.act, self.trial, self.pid, self.done = act, trial, 0, False

    def __call__(self, record: JournalRecord | Notice) -> None:
        match record:
            case Start(trial=self.trial):
                self.pid = record.pid or 0
            case Report(trial=self.trial) if not self.done:
                self.done = True
                self.act(self.pid)
            case _:
                pass


def measured(records: list[Record]) -> dict[tuple[int, float], float]:
    """Every value by trial and kimg; fails if one was reported twice."""
    found: dict[tuple[int, float], float] = {}
    for record in records:
        if record["kind"] == "report":
            key = (record["trial"], record["kimg"])
            assert key not in found
            found[key] = record["metrics"]["elbo"]
    return found


@pytest.fixture(scope="module")
def undisturbed(
    cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, float], float]:
    """What the same search measures when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    _, _, records = search(make(folder), StudyFolder(folder / "study"))
    return measured(records)


@pytest.mark.ray
def test_a_killed_trial_goes_on_from_its_checkpoint_with_the_same_numbers(
    cluster: None, tmp_path: Path, undisturbed: dict[tuple[int, float], float]
) -> None:
    kill = Once(lambda pid: os.kill(pid, signal.SIGKILL))

    outcome, results, records = search(make(tmp_path), StudyFolder(tmp_path / "study"), kill)

    starts = [r for r in records if r["kind"] == "start" and r["trial"] == 1]
    assert outcome.state == "finished"
    assert ended(results) == [("completed", "")] * 2
    assert [r["attempt"] for r in starts] == [1, 2]
    assert starts[1]["kimg"] > 0  # not from the beginning
    assert starts[0]["pid"] != starts[1]["pid"]
    assert measured(records) == undisturbed


@pytest.mark.slow
@pytest.mark.ray
def test_a_trial_that_hangs_is_ended_and_tried_again(
    cluster: None,
    tmp_path: Path,
    undisturbed: dict[tuple[int, float], float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = Once(lambda pid: os.kill(pid, signal.SIGSTOP))
    study = make(tmp_path, "recovery.hang_minutes=0.75")

    def wake_and_kill(node_id: str, pid: int) -> None:
        os.kill(pid, signal.SIGCONT)  # it goes on just as it is given up
        time.sleep(1)
        kill(node_id, pid)

    monkeypatch.setattr(tuner, "kill", wake_and_kill)

    outcome, results, records = search(study, StudyFolder(tmp_path / "study"), stop)

    retries = [r["reason"] for r in records if r["kind"] == "retry"]
    starts = [r["pid"] for r in records if r["kind"] == "start" and r["trial"] == 1]
    assert outcome.state == "finished"
    assert ended(results) == [("completed", "")] * 2
    assert retries == ["it made no progress for 45 s"]
    assert len(set(starts)) == 2
    assert measured(records) == undisturbed


@pytest.mark.slow
@pytest.mark.ray
def test_a_stalled_loop_loses_nothing(
    cluster: None, tmp_path: Path, undisturbed: dict[tuple[int, float], float]
) -> None:
    stall = Once(lambda pid: time.sleep(8), trial=0)

    outcome, results, records = search(make(tmp_path), StudyFolder(tmp_path / "study"), stall)

    assert outcome.state == "finished"
    assert ended(results) == [("completed", "")] * 2
    assert measured(records) == undisturbed


def other_worker(pid: int) -> int:
    """The process of the second worker of a group whose first is `pid`: of the same raylet."""

    def kin(process: Path) -> tuple[str, str]:
        name, _, after = (process / "stat").read_text().partition("(")[2].rpartition(")")
        return name, after.split()[1]

    mine = kin(Path(f"/proc/{pid}"))
    others = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if kin(process) == mine and int(process.name) != pid:
                others.append(int(process.name))
    (other,) = others
    return other


@pytest.mark.slow
@pytest.mark.ray
def test_a_ddp_worker_that_is_killed_or_hangs_costs_a_retry_and_the_group_is_made_anew(
    cluster: None, tmp_path: Path, undisturbed: dict[tuple[int, float], float]
) -> None:
    study = make(tmp_path, "resources.workers=2", "recovery.hang_minutes=0.75")
    kill = Once(lambda pid: os.kill(pid, signal.SIGKILL), trial=0)
    # Its peer then waits for it in a collective, as NCCL does for a card that hangs.
    stop = Once(lambda pid: os.kill(other_worker(pid), signal.SIGSTOP), trial=1)

    def disturb(record: Notice) -> None:
        kill(record)
        stop(record)

    outcome, results, records = search(study, StudyFolder(tmp_path / "study"), disturb)

    starts = [(r["trial"], r["attempt"]) for r in records if r["kind"] == "start"]
    retries = {r["trial"]: r["reason"] for r in records if r["kind"] == "retry"}
    assert outcome.state == "finished"
    assert ended(results) == [("completed", "")] * 2
    assert sorted(starts) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert "no progress for 45 s" in retries[1] or "imed out" in retries[1]
    # Of one worker's sums in another order, while the bound falls most steeply.
    assert measured(records) == pytest.approx(undisturbed, rel=2e-2)
    assert free_cpus() == 2


@pytest.mark.slow
@pytest.mark.ray
def test_a_spent_budget_ends_running_trials_and_a_larger_one_goes_on_with_them(
    cluster: None, tmp_path: Path, undisturbed: dict[tuple[int, float], float]
) -> None:
    folder = StudyFolder(tmp_path / "study")
    first, half, _ = search(make(tmp_path, "budget.total_kimg=1"), folder)
    second, whole, records = search(make(tmp_path), folder)
    third, _, same = search(make(tmp_path), folder)

    assert (first.state, first.reason) == ("finished", "the budget of 1 total kimg is spent")
    assert "interrupted" in set(half.trials["state"])
    assert (second.state, third.state) == ("finished", "finished")
    assert list(whole.trials["state"]) == ["completed"] * 2
    assert measured(records) == undisturbed
    assert [r["kind"] for r in same[len(records) :]] == ["reopen", "close"]
    assert verify(make(tmp_path), read_study(folder.root)).suggestions == 2


@pytest.mark.ray
def test_a_changed_space_is_refused_key_by_key_and_nothing_is_written(
    cluster: None, tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "study")
    search(make(tmp_path, "budget.trials=1"), folder)
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}

    with pytest.raises(InputError) as error:
        search(make(tmp_path, "space.optimizer.lr={float: [1.0e-3, 0.5]}", "seed=2"), folder)

    text = str(error.value)
    assert f"{folder.root}: seed: was 1, is 2\n" in text
    assert "space.optimizer.lr.float: was [0.001, 0.01], is [0.001, 0.5]\n" in text
    assert "space.optimizer.lr.log: was true, is not set\n" in text
    assert "choose another --name" in text
    assert {p: p.read_bytes() for p in folder.root.rglob("*") if p.is_file()} == before


@pytest.mark.ray
def test_a_second_driver_of_one_study_is_refused_and_leaves_it_alone(
    cluster: None, tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "study")
    search(make(tmp_path, "budget.trials=1"), folder)
    before = folder.journal.read_bytes()

    with Journal(folder.journal), pytest.raises(RaygenError, match="another raygen is running"):
        search(make(tmp_path), folder)

    assert folder.journal.read_bytes() == before


@pytest.mark.slow
@pytest.mark.ray
def test_finalists_are_trained_again_with_other_seeds(cluster: None, tmp_path: Path) -> None:
    study = make(
        tmp_path,
        "finalists={count: 2, seeds: 2, samples: 64, sample_seeds: 2, metrics: [mind_classifier]}",
        "finalists.samples=100",
    )
    folder = StudyFolder(tmp_path / "study")

    outcome, results, records = search(study, folder)

    finals = next(r["trials"] for r in records if r["kind"] == "finals")
    repeats = [r for r in records if r["kind"] == "suggest" and r.get("of") is not None]
    configs = {r["trial"]: r["config"] for r in records if r["kind"] == "suggest"}
    seeds = {r["trial"]: r["seed"] for r in records if r["kind"] == "suggest"}
    race = next(r for r in records if r["kind"] == "race")
    assert outcome.state == "finished"
    assert sorted(r["of"] for r in repeats) == sorted(finals * 2)
    assert all(r["config"] == configs[r["of"]] for r in repeats)
    assert len({r["seed"] for r in repeats}) == 2  # the same two for both finalists
    assert not {r["seed"] for r in repeats} & {seeds[number] for number in finals}
    assert set(race["means"]) == {str(number) for number in finals}

    # In full: the numbers that `raygen evaluate` finds with the same seeds.
    table = full_measurements(results)
    model = best_model(results)
    assert model is not None
    assert set(table["trial"]) == {*finals, model.run}
    images = load_data(study.spec.data).test.images
    unseen = images[study.spec.evaluation.samples :][:100]  # that chose none of them
    seeds_of_samples = (SAMPLE_SEED + 1, SAMPLE_SEED + 2)
    for number, mine in table.groupby("trial"):
        place = folder.trial(int(number)).root
        (found,) = evaluate(
            [place], ["mind_classifier"], 100, seeds_of_samples, None, torch.device("cpu")
        )
        learner, _ = load_sampler(folder.trial(int(number)).best, torch.device("cpu"))
        assert isinstance(learner, VaeLearner)
        bound = bound_of(learner, unseen, SAMPLE_SEED)
        assert dict(zip(mine["metric"], mine["value"], strict=True)) == pytest.approx(
            {**{value.metric: value.value for value in found.values}, "elbo": bound}, rel=1e-5
        )
        assert dict(zip(mine["metric"], mine["seeds"], strict=True)) == {
            "elbo": 1, "mind_classifier": 2,
        }  # fmt: skip
