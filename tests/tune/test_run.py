"""Whole searches on a real cluster of two CPUs: VAEs, whose ELBO needs no classifier."""

from pathlib import Path
from typing import Any

import pytest
import torch

from raygen.cluster.files import most_trials
from raygen.cluster.room import trials_that_fit
from raygen.config import Study
from raygen.config_file import load_space, load_train_job
from raygen.document import dump
from raygen.errors import InputError
from raygen.journal.records import Record, Suggest
from raygen.notices import Notice
from raygen.resources import Resources
from raygen.results import Results, train_config
from raygen.results import load_results as load_results
from raygen.study_folder import StudyFolder, TrialFolder
from raygen.training.single import train
from raygen.tuning.run import Outcome, run_study
from search.studies import written

SPACE = """
family: vae
data: {{source: shapes, limit: 256}}
objective: elbo
evaluation: {{metrics: [bits_per_dim], samples: 64}}
budget: {{trials: {trials}, kimg: 0.9}}
scheduler: {{name: asha, grace_kimg: 0.3, reduction_factor: {factor}}}
resources: {{workers: {workers}, cpus: 1}}
sampler: {{name: random}}
finalists: {{count: 0}}
seed: 1
space:
  model: {{latent_dim: {{choice: [4, 2147483648]}}, width: 4, depth: 0, norm: batch}}
  optimizer: {{lr: {{choice: [2.0e-3, 1.0e-6, 1.0e+30]}}, clip: 0.0}}
  batch_size: 32
start:
"""
GOOD, SLOW = {"lr": 2e-3}, {"lr": 1e-6}
EXPLODES, TOO_LARGE = {"lr": 1e30}, {"lr": 2e-3, "latent": 2147483648}


def make(
    path: Path,
    starts: list[dict[str, Any]],
    workers: int = 1,
    factor: int = 3,
    settings: tuple[str, ...] = (),
) -> Study:
    lines = [
        f"  - {{model: {{latent_dim: {s.get('latent', 4)}}}, optimizer: {{lr: {s['lr']}}}}}"
        for s in starts
    ]
    text = SPACE.format(trials=len(starts), workers=workers, factor=factor) + "\n".join(lines)
    path.write_text(text.replace("1e+30", "1.0e+30"))
    return load_space(path, settings)


def search(
    study: Study, folder: StudyFolder, events: list[Record | Notice] | None = None
) -> tuple[Outcome, Results]:
    heard: list[Record | Notice] = [] if events is None else events
    outcome = run_study(study, folder, {"command": "test", "space_file": "x"}, None, heard.append)
    return outcome, load_results(folder.root)


@pytest.mark.ray
def test_every_trial_ends_in_its_state_with_its_reason_and_the_search_finishes(
    cluster: None, tmp_path: Path
) -> None:
    study = make(tmp_path / "s.yaml", [GOOD, EXPLODES, TOO_LARGE, GOOD, GOOD])
    folder = StudyFolder(tmp_path / "study")

    class Sabotage(list[Record | Notice]):
        def append(self, record: Record | Notice) -> None:
            if isinstance(record, Suggest) and record.trial == 3:
                folder.trial(3).root.parent.mkdir(exist_ok=True)
                folder.trial(3).root.write_text("a file where the trial's folder should be")
            super().append(record)

    outcome, results = search(study, folder, Sabotage())

    trials = results.trials.set_index("trial")
    assert outcome.state == "finished"
    states = ["completed", "diverged", "out_of_memory", "failed", "completed"]
    assert list(trials["state"]) == states
    assert "log prob" in trials.loc[1, "reason"]
    assert "memory" in trials.loc[2, "reason"]
    assert str(folder.trial(3).root) in trials.loc[3, "reason"]
    assert (trials.loc[[0, 4], "kimg"] == 0.9).all()
    assert folder.trial(0).best.exists()
    assert folder.trial(0).last.exists()
    assert not folder.trial(1).best.exists()  # nothing was saved of the diverged one
    assert len(folder.trial(0).all_samples()) == 2
    assert results.history["bits_per_dim"].between(0, 20).all()
    assert not (folder.root / ".tune").exists()


@pytest.mark.ray
def test_what_happens_is_in_the_journal_before_what_follows_from_it(
    cluster: None, tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "study")

    search(make(tmp_path / "s.yaml", [GOOD, GOOD]), folder)

    records = written(folder.journal)
    kinds = [r["kind"] for r in records if r.get("trial") == 0]
    assert records[0]["kind"] == "open"
    assert records[-1]["kind"] == "close"
    assert kinds == [
        *("suggest", "start"),
        *("report", "checkpoint", "checkpoint", "decide"),
        *("report", "checkpoint", "checkpoint", "end"),
    ]
    assert [r["time"] for r in records] == sorted(r["time"] for r in records)


@pytest.mark.ray
@pytest.mark.slow
def test_one_seed_gives_the_same_search_twice_with_one_trial_at_a_time(
    cluster: None, tmp_path: Path
) -> None:
    results = []
    for name in ("a", "b"):
        study = make(tmp_path / "s.yaml", [GOOD, SLOW])
        alone = study.spec.resources.model_copy(update={"concurrent": 1, "gpus": "auto"})
        study = study._replace(spec=study.spec.model_copy(update={"resources": alone}))
        results.append(search(study, StudyFolder(tmp_path / name))[1])
    exact = ["trial", "kimg", "elbo", "bits_per_dim"]

    assert results[0].history[exact].equals(results[1].history[exact])
    assert results[0].info["resources"]["gpus"] == 0  # by itself: there is none


@pytest.mark.ray
def test_the_winner_trained_again_without_ray_gives_the_very_same_numbers(
    cluster: None, tmp_path: Path
) -> None:
    _, results = search(make(tmp_path / "s.yaml", [GOOD]), StudyFolder(tmp_path / "study"))
    (tmp_path / "best.yaml").write_text(dump(train_config(results, 0)))
    job = load_train_job(tmp_path / "best.yaml")

    progress = train(job, TrialFolder(tmp_path / "again"), torch.device("cpu"), resume=False)
    again = [{name: score.value for name, score in p.scores.items()} for p in progress]

    assert again == results.history[["elbo", "bits_per_dim"]].to_dict("records")


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_that_was_promoted_goes_on_as_if_it_had_never_waited(
    cluster: None, tmp_path: Path
) -> None:
    starts = [SLOW, GOOD, SLOW, SLOW]
    alone = "resources.concurrent=1"  # or who comes first to a rung is chance
    promoting = make(tmp_path / "s.yaml", starts, 1, 2, ("scheduler.promote=true", alone))
    whole = make(tmp_path / "w.yaml", starts, 1, 2, ("scheduler.name=none",))
    folder = StudyFolder(tmp_path / "study")
    outcome, results = search(promoting, folder)
    _, reference = search(whole, StudyFolder(tmp_path / "whole"))

    records = written(folder.journal)
    decisions = {(r["trial"], r["decision"]) for r in records if r["kind"] == "decide"}
    begins = [r["kimg"] for r in records if r["kind"] == "start" and r["trial"] == 1]
    trials = results.trials.set_index("trial")
    assert outcome.exit_code == 0
    assert {(0, "pause"), (1, "continue"), (1, "pause"), (1, "promote")} <= decisions
    assert begins == [0.0, 0.6]
    assert set(trials["state"]) == {"completed", "stopped"}
    assert trials.loc[1, "state"] == "completed"
    for trial in trials.index[trials["state"] == "completed"]:
        curves = [
            r.history[r.history["trial"] == trial][["kimg", "elbo"]].to_numpy().tolist()
            for r in (results, reference)
        ]
        assert curves[0] == curves[1]


@pytest.mark.ray
def test_more_gpus_than_exist_are_refused_before_anything_is_written(
    cluster: None, tmp_path: Path
) -> None:
    study = make(tmp_path / "s.yaml", [GOOD])
    greedy = study.spec.resources.model_copy(update={"gpus": 4.0})
    study = study._replace(spec=study.spec.model_copy(update={"resources": greedy}))

    with pytest.raises(InputError, match=r"resources\.gpus: a trial needs 4 GPU.* has 0"):
        search(study, StudyFolder(tmp_path / "study"))

    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("resources", "cluster_has", "expected"),
    [
        ({"cpus": 1}, {"CPU": 8}, 8),
        ({"cpus": 3}, {"CPU": 8}, 2),
        ({"cpus": 1, "gpus": 1}, {"CPU": 64, "GPU": 4}, 4),
        ({"cpus": 1, "gpus": 0.25}, {"CPU": 64, "GPU": 2}, 8),
        ({"cpus": 1, "gpus": 0.4}, {"CPU": 64, "GPU": 2}, 4),  # two on each, none across both
        ({"cpus": 2, "workers": 2}, {"CPU": 9}, 2),
        ({"cpus": 1, "gpus": 1, "workers": 4}, {"CPU": 64, "GPU": 7}, 1),
        ({"cpus": 1, "gpus": 1, "concurrent": 5}, {"CPU": 2}, 5),  # a cluster that will grow
        ({"cpus": 1, "gpus": 1, "workers": {"max": 4}}, {"CPU": 64, "GPU": 9}, 2),
        ({"cpus": 1, "gpus": 1, "workers": {"max": 4}}, {"CPU": 64, "GPU": 3}, 1),
    ],
)
def test_concurrency_is_what_fits(
    resources: dict[str, Any], cluster_has: dict[str, float], expected: int
) -> None:
    assert trials_that_fit(Resources.model_validate(resources), cluster_has).trials == expected


def test_a_cluster_that_grows_holds_as_many_trials_as_one_that_has_grown() -> None:
    """Also elastic ones, which begin with fewer workers."""
    nodes = {"gpu": {"resources": {"CPU": 1}, "max_workers": 3}}
    for workers in (1, 2, 3, 4, {"min": 1, "max": 4}, {"min": 1, "max": 2}):
        resources = Resources.model_validate({"workers": workers})
        grown = trials_that_fit(resources, {"CPU": 3}).trials
        assert most_trials({"available_node_types": nodes}, resources) == grown


def test_a_group_of_workers_that_does_not_fit_is_refused() -> None:
    fit = trials_that_fit(Resources(workers=2, cpus=2), {"CPU": 3})

    assert fit.trials == 0
    assert "for each of 2 workers" in fit.shortage
