"""What an earlier study teaches: values where they mean the same, points to try where not."""

import json
from pathlib import Path
from typing import Any

import pytest

from raygen.config import Study
from raygen.data import ImageData, load_data
from raygen.errors import InputError
from raygen.journal.records import Warm
from raygen.search.study_record import describe
from raygen.search.warm_start import POINTS, lessons, project
from search.studies import Memory, make_controller, make_study, run

HASH = "ab12cd34"
ASSETS = {"classifier": {"hash": HASH}}


def curve(config: dict[str, Any], seed: int, kimg: float) -> float:
    return config["optimizer"]["generator_lr"] * 1e4 + 100 / kimg


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    return load_data(make_study(tmp_path_factory.mktemp("data"), "data.limit=64").spec.data)


@pytest.fixture
def old(tmp_path: Path, data: ImageData) -> Path:
    """A finished study of twelve trials, on disk."""
    study = make_study(tmp_path, "budget.trials=12")
    journal = Memory()
    run(make_controller(study, journal), curve)
    record = {"metric": "fd_classifier", "encoder_hash": HASH}
    digest = next(r["hash"] for r in journal.lines if r["kind"] == "protocol")
    opened = {"kind": "open", "time": 0.0, "study": describe(study, data, "old")}
    known = {"kind": "protocol", "time": 0.0, "hash": digest, "record": record}
    rest = [r for r in journal.lines if r["kind"] != "protocol"]
    (tmp_path / "old").mkdir()
    text = "".join(json.dumps(one) + "\n" for one in (opened, known, *rest))
    (tmp_path / "old" / "journal.jsonl").write_text(text)
    return tmp_path / "old"


def told(study: Study, data: ImageData, old: Path, assets: Any = ASSETS) -> list[Warm]:
    return list(lessons(study, data, assets, [old]))


def test_completed_trials_of_the_same_study_are_told_with_their_values(
    tmp_path: Path, data: ImageData, old: Path
) -> None:
    found = told(make_study(tmp_path), data, old)
    records = [json.loads(line) for line in (old / "journal.jsonl").read_text().splitlines()]
    completed = {r["trial"] for r in records if r.get("state") == "completed"}
    params = {r["trial"]: r["params"] for r in records if r["kind"] == "suggest"}

    assert {one.source for one in found} == completed
    for one in found:
        assert one.params == params[one.source]
        assert one.values == [curve_of(records, one.source)]


def curve_of(records: list[dict[str, Any]], trial: int) -> float:
    values = [r["metrics"]["fd_classifier"] for r in records if r["kind"] == "report"
              and r["trial"] == trial]  # fmt: skip
    return min(values)


@pytest.mark.parametrize(
    "settings",
    [
        ("budget.kimg=27", "scheduler.grace_kimg=3"),
        ("evaluation.samples=600",),
        ("objective=million_parameters",),
    ],
)
def test_values_that_do_not_compare_become_points_to_try_the_best_first(
    tmp_path: Path, data: ImageData, old: Path, settings: tuple[str, ...]
) -> None:
    found = told(make_study(tmp_path, *settings), data, old)
    best = told(make_study(tmp_path), data, old)

    assert len(found) == POINTS
    assert all(one.values is None for one in found)
    assert found[0].params == min(best, key=lambda one: one.values or []).params


def test_another_encoder_measures_something_else(
    tmp_path: Path, data: ImageData, old: Path
) -> None:
    found = told(make_study(tmp_path), data, old, {"classifier": {"hash": "other"}})

    assert all(one.values is None for one in found)


def test_of_an_overlapping_space_only_what_is_inside_is_taken(
    tmp_path: Path, data: ImageData, old: Path
) -> None:
    study = make_study(tmp_path, "space.optimizer.generator_lr={float: [1e-4, 1e-3], log: true}")
    found = told(study, data, old)

    assert any(one.values is not None for one in found)
    for one in found:
        rate = one.params.get("optimizer.generator_lr")
        assert (one.values is not None) == (rate is not None)
        assert rate is None or rate <= 1e-3


def test_a_setting_that_a_configuration_leaves_out_has_its_default(tmp_path: Path) -> None:
    text = """
family: gan
data: {source: shapes}
objective: fd_classifier
budget: {kimg: 9}
space:
  batch_size: {choice: [32, 64]}
  flip: true
  loss: {one_of: {hinge: {}, wasserstein: {}}}
"""
    study = make_study(tmp_path, text=text)

    # 64, nonsaturating and true are the defaults of a GAN.
    assert project(study, {}) == ({"batch_size": 64}, False)
    assert project(study, {"loss": {"name": "hinge"}}) == (
        {"batch_size": 64, "loss.name": "hinge"}, True,
    )  # fmt: skip
    assert project(study, {"flip": False, "loss": {"name": "hinge"}})[1] is False


def test_a_vae_study_cannot_teach_a_gan_study(tmp_path: Path, data: ImageData, old: Path) -> None:
    path = old / "journal.jsonl"
    path.write_text(path.read_text().replace('"family": "gan"', '"family": "vae"'))

    with pytest.raises(InputError, match="a vae study cannot inform a gan study"):
        told(make_study(tmp_path), data, old)


def test_points_come_after_the_starting_points_of_the_file_and_survive_a_crash(
    tmp_path: Path,
) -> None:
    study = make_study(tmp_path, "start=[{batch_size: 64}]", "budget.trials=4")
    journal = Memory()
    controller = make_controller(study, journal)
    point = {"optimizer.generator_lr": 3e-3}
    controller.warm(Warm(study="old", source=1, params=point, values=None))
    again = make_controller(study, Memory(journal))
    for one in (controller, again):
        run(one, curve)
    drawn = [r for r in journal.lines if r["kind"] == "suggest"]

    assert [r["by"] for r in drawn] == ["start", "warm", "design", "design"]
    assert drawn[1]["params"]["optimizer.generator_lr"] == 3e-3
    assert [t.config for t in again.trials] == [r["config"] for r in drawn]


def test_an_earlier_study_whose_trials_are_none_is_one_line(
    tmp_path: Path, data: ImageData, old: Path
) -> None:
    journal = old / "journal.jsonl"
    lines = journal.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if json.loads(line)["kind"] == "suggest")
    record = json.loads(lines[at])
    lines[at] = json.dumps({**record, "config": {**record["config"], "batch_size": "many"}})
    journal.write_text("\n".join(lines) + "\n")

    with pytest.raises(InputError, match=rf"--warm-start {old}: trial {record['trial']}: "):
        told(make_study(tmp_path), data, old)
