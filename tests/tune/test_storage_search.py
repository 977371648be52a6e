"""A search whose study is on object storage: what is left after a head with all of its disk."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from object_store import Outage
from raygen.cli import main
from raygen.journal.records import Record, Report
from raygen.notices import Notice, Phase
from raygen.storage import Storage, fetch
from raygen.study_folder import StudyFolder
from raygen.tuning.run import Outcome, run_study
from search.studies import written
from tune.test_faults import make, measured

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_the_same_command_goes_on_after_a_head_is_gone_with_all_of_its_disk(
    cluster: None, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """On Google Cloud Storage it also answers nobody for a while, in the middle."""
    storage = Storage(f"{request.getfixturevalue(kind)}/head")
    said: list[str] = []

    def follow(record: Record | Notice) -> None:
        if isinstance(record, Phase):
            said.append(record.text)
        if isinstance(record, Report) and kind == "gcs" and not Outage.until:
            Outage.begin(6)

    def search(disk: str, *settings: str) -> Outcome:
        folder, study = StudyFolder(tmp_path / disk / "head"), make(tmp_path, *settings)
        return run_study(study, folder, {"command": "x"}, None, follow, storage=storage)

    search("first", "budget.total_kimg=1")
    shutil.rmtree(tmp_path / "first")
    outcome = search("second")
    waits = [text for text in said if "trying again for 10 min" in text]
    assert len(waits) == sum("the storage answers again" in text for text in said)
    if kind == "gcs":
        assert Outage.refused > 1
        assert waits

    records = written(fetch(storage.place) / "journal.jsonl")
    assert outcome.ended == {"completed": 2}
    assert max(r["kimg"] for r in records if r["kind"] == "start") > 0  # not from the beginning
    assert len(measured(records)) == 2 * len(make(tmp_path).spec.milestones)
    kept = set(storage.sizes())
    assert {"space.yaml", "study.json", "trials.csv", "real.png", "journal.jsonl"} <= kept
    assert {f"trials/{n:04d}/{role}.pt" for n in range(2) for role in ("best", "last")} <= kept


def test_the_commands_that_read_a_study_take_its_uri(
    cluster: None, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)

    def raygen(*words: str) -> Any:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    tune = ("tune", "--space", "space.yaml", "--storage", s3, "--name", "uri", "-q", "--json")
    told = json.loads(raygen(*tune, "--set", "evaluation.every_kimg=0.5"))
    uri = told["study"]
    assert Storage(uri).read("report.html") == Path(told["report"]).read_bytes()
    raygen("generate", uri, "--out", "grid.png")

    assert uri == f"{s3}/uri"
    assert "finished" in raygen("status", uri)
    assert "lr:" in raygen("best", uri)
    assert Path(raygen("report", uri).strip()).exists()
    assert (tmp_path / "grid.png").exists()
