"""Searches on clusters far away: what is refused before anything is sent, or does not answer."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from ray._private.runtime_env.packaging import get_uri_for_directory
from ray.job_submission import JobSubmissionClient

from cluster.files import FOLDER, filled
from raygen.cli import main
from raygen.cluster import jobs

SPACE = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"


def tune(*words: str) -> Result:
    return CliRunner().invoke(main, ["tune", "--space", str(SPACE), *words])


def one_line(result: Result) -> str:
    """The only line on stderr; no traceback is on either stream."""
    assert "Traceback" not in result.output
    (line,) = result.stderr.strip().splitlines()
    return line


def test_a_folder_of_the_laptop_is_no_storage_for_a_cluster() -> None:
    result = tune("--cluster", "gpu.yaml", "--storage", "runs")

    assert result.exit_code == 2
    assert "--storage runs: with --cluster it must be s3://BUCKET/…" in one_line(result)


def test_a_cluster_file_with_a_mistake_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text("provider: {type: aws, regoin: x}\n")

    result = tune("--cluster", str(path), "--storage", "s3://bucket/runs")

    assert result.exit_code == 2
    assert (
        f"{path}:1:23: provider.regoin: 'x': unknown name; did you mean 'region'?" in result.stderr
    )


def test_kubernetes_runs_its_own_manifest(tmp_path: Path) -> None:
    path = tmp_path / "kuberay.yaml"
    path.write_text(filled("kuberay.yaml"))

    result = tune("--cluster", str(path), "--storage", "s3://bucket/runs")

    assert result.exit_code == 2
    assert "kubectl create -f" in one_line(result)


def test_a_cluster_that_does_not_answer_is_one_line_and_exit_code_4() -> None:
    result = tune("--cluster", "http://127.0.0.1:9", "--storage", "s3://bucket/runs")

    assert result.exit_code == 4
    assert one_line(result).startswith("error: http://127.0.0.1:9: ")


def test_two_places_for_one_journal_are_refused() -> None:
    result = tune("--storage", "s3://bucket/runs", "--journal", "s3://bucket/journal")

    assert result.exit_code == 2
    assert "already keeps the journal" in one_line(result)


def test_status_wants_a_study_or_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no study is, whatever this project has been used for
    result = CliRunner().invoke(main, ["status"])

    assert result.exit_code == 2
    assert "name a STUDY" in result.stderr


def test_the_shipped_file_is_not_sent_anywhere_before_it_is_filled_in() -> None:
    result = tune("--cluster", str(FOLDER / "local.yaml"), "--storage", "s3://bucket/runs")

    assert result.exit_code == 2
    assert all("must still be filled in" in line for line in result.stderr.splitlines())


def test_two_jobs_of_equal_content_get_a_folder_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray keeps one folder for equal content, and the first job deletes the keys there."""
    packages: list[str] = []

    class Client:
        def submit_job(self, *, submission_id: str, runtime_env: dict[str, Any], **_: Any) -> str:
            packages.append(get_uri_for_directory(runtime_env["working_dir"], False))
            return submission_id

    remote = jobs.Remote("gpu.yaml", cast(JobSubmissionClient, Client()), None)
    keys = {"AWS_ACCESS_KEY_ID": "a"}
    for second in (1, 2):
        monkeypatch.setattr(jobs.time, "time", lambda second=second: second)
        jobs.run(remote, "doctor", ["raygen", "doctor"], keys)

    assert len(set(packages)) == 2


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 0), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_to_who_follows_a_search_leaves_it_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    remote = jobs.Remote("c.yaml", cast(JobSubmissionClient, None), None, ("--cluster", "c.yaml"))

    @contextmanager
    def reach(*_: Any) -> Iterator[jobs.Remote]:
        yield remote

    def follow(*_: Any) -> int:
        os.kill(os.getpid(), signal.Signals[name])
        raise AssertionError("the signal did not end it")

    monkeypatch.setattr(jobs, "reach", reach)
    monkeypatch.setattr(jobs, "submit", lambda *_: "job")
    monkeypatch.setattr(jobs, "follow", follow)

    result = tune("--cluster", "c.yaml", "--storage", "s3://bucket/runs", "--name", "gan")

    assert result.exit_code == code
    again = "raygen status gan --cluster c.yaml"
    assert f"follow it with: {again} --follow\nstop it with: {again} --stop" in result.stderr
    assert "before the search started" not in result.stderr


def test_what_a_node_is_asked_does_not_wait_for_ray_tune() -> None:
    """Its process imports raygen.cluster.nodes, first of all, and Ray Tune is 850 modules more."""
    code = "import sys, raygen.cluster.nodes; sys.exit('ray.tune' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
