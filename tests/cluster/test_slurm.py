"""What raygen knows of Slurm's scripts and queue, without a Slurm."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raygen.cli import main
from raygen.cluster import slurm
from raygen.cluster.files import check_script
from raygen.errors import ClusterError, InputError

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sh"


def tune(*words: str) -> Result:
    return CliRunner().invoke(main, ["tune", "quickstart", "--cluster", "slurm", *words])


def test_the_script_has_no_mistake_as_it_comes() -> None:
    check_script(SCRIPT)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("##SBATCH --account=", "#SBATCH --account=", ":11: #SBATCH --account=REPLACE-ME: must"),
        ("B:USR1@180", "USR1@180", "no --signal=B:USR1@: the search would not hear of its end"),
        ("#SBATCH --requeue", "", "no --requeue: "),
        ("#SBATCH --open-mode=append", "", "no --open-mode=append: "),
        ("RAY_AUTH_MODE=token", "", "no RAY_AUTH_MODE=token: everybody on the cluster could"),
    ],
)
def test_a_mistake_in_the_script_is_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = SCRIPT.read_text()
    assert old in text
    (tmp_path / "slurm.sh").write_text(text.replace(old, new))

    result = CliRunner().invoke(main, ["validate", str(tmp_path / "slurm.sh")])

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_ones_own_script_comes_before_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert slurm.script("slurm") == SCRIPT
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "slurm.sh").touch()

    assert slurm.script("slurm") == Path("cluster", "slurm.sh")
    assert slurm.script("mine.sh") == Path("mine.sh")
    assert slurm.script("cluster/gpu.yaml") is None


def test_where_there_is_no_slurm_it_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    result = tune()

    assert result.exit_code == 4
    assert "squeue: not found; run this where Slurm's commands are" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "slurm").exists()


def test_keys_are_not_sent_to_where_they_are() -> None:
    result = tune("--send-keys")

    assert result.exit_code == 2
    assert "a job of Slurm has your environment" in result.stderr


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("COMPLETED", 0, 0),
        ("FAILED", 3 << 8, 3),
        ("FAILED", 143 << 8, 143),
        ("TIMEOUT", 9, 137),
        ("CANCELLED", 0, 143),  # in the queue
        ("NODE_FAIL", 0, 1),
    ],
)
def test_the_exit_code_of_a_job_is_its_search_s(state: str, status: int, code: int) -> None:
    job = slurm.Job("7", state, "raygen-gan", str(status), "", "")

    assert job.ended
    assert job.exit_code == code


def fake(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_search_is_submitted_with_its_options_and_a_copy_of_its_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    fake(tmp_path, "squeue", "")
    fake(tmp_path, "sbatch", 'printf "%s\\n" "$@" > given; echo "7;cluster"')
    (tmp_path / "mine.yaml").write_text("family: gan\n")

    job = slurm.submit(SCRIPT, "gan", ["--storage=/shared/runs"], tmp_path / "mine.yaml")

    given = (tmp_path / "given").read_text().splitlines()
    folder = Path(job.output).parent
    assert job.number == "7"
    assert (folder / "space.yaml").read_text() == "family: gan\n"
    assert f"--output={folder}/output" in given
    script = given.index(str(SCRIPT))
    assert given[script + 1 :] == [
        f"--space={folder}/space.yaml", "--name=gan", "--storage=/shared/runs",
    ]  # fmt: skip


def test_a_job_that_slurm_has_forgotten_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    fake(tmp_path, "squeue", "")

    with pytest.raises(InputError, match="slurm: no search named gan found"):
        slurm.find("gan")
    with pytest.raises(ClusterError, match="job 7 is no longer known; its output: out"):
        slurm.follow(slurm.Job("7", "RUNNING", "raygen-gan", "0", "", "out"), print)
