"""The command line as a user meets it."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from raygen.cli import main
from raygen.config_file import a_draw, load_space
from raygen.data import load_data
from raygen.errors import StorageError
from raygen.launch import make_page
from raygen.search.study_record import describe
from raygen.terminal import GivenUp
from report.journals import end, make_info, report, suggest, write_study

REPOSITORY = Path(__file__).parents[1]
TRAIN = """
family: vae
data: {source: shapes, limit: 256}
objective: elbo
evaluation: {samples: 32}
kimg: 0.5
trial:
  model: {latent_dim: 4, width: 4, depth: 0}
  batch_size: 32
"""


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def raygen(*arguments: object) -> Done:
    """Run one command in this process: torch is imported once for all of them."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def refused(result: Done, *parts: str, code: int = 2) -> None:
    """One clear line on stderr, nothing on stdout, no traceback, the right exit code."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == code, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert result.stdout == ""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    text = (REPOSITORY / "search_spaces" / "quickstart.yaml").read_text()
    (tmp_path / "space.yaml").write_text(text)
    return tmp_path / "space.yaml"


def test_help_loads_neither_torch_nor_ray_nor_pandas() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom raygen.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'ray', 'optuna', 'pandas', 'plotly', 'numpy', 'pydantic'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help_with_an_example_and_stands_in_the_readme(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"]).output

    assert f"raygen {command}" in " ".join(shown.split()).replace(f"Usage: main {command}", "")
    assert f"raygen {command}" in (REPOSITORY / "README.md").read_text()


def test_a_misspelt_command_is_refused_with_the_nearest_one() -> None:
    result = CliRunner().invoke(main, ["tunee"])

    assert result.exit_code == 2
    assert "did you mean 'tune'?" in result.output


BAD_SPACES = {
    "broken YAML": ("family: gan", "family: {gan", "space.yaml:", "not valid YAML"),
    "misspelt key": ("budget:", "buget:", "space.yaml:8:1", "did you mean 'budget'?"),
    "low above high": ("[1e-4, 1e-2]", "[1e-1, 1e-2]", "low 0.1 is above high 0.01"),
    "negative log bound": ("[1e-4, 1e-2]", "[-1e-4, 1e-2]", "a log range must start above 0"),
    "grace beyond budget": ("grace_kimg: 2", "grace_kimg: 20", "beyond the budget"),
    "metric of another family": ("objective: fd_classifier", "objective: elbo", "has no elbo"),
    "unknown metric": ("objective: fd_classifier", "objective: fidd", "did you mean 'fid'?"),
}


@pytest.mark.parametrize("mistake", BAD_SPACES)
def test_a_bad_space_is_refused_with_its_place_and_nothing_is_started(
    mistake: str, space: Path
) -> None:
    right, wrong, *parts = BAD_SPACES[mistake]
    text = space.read_text()
    assert right in text
    space.write_text(text.replace(right, wrong, 1))

    result = raygen("tune", "--space", space, "--storage", space.parent / "runs")

    refused(result, *parts)
    assert re.search(r"space\.yaml:\d+:\d+: ", result.stderr)
    assert not (space.parent / "runs").exists()


def test_a_missing_space_is_refused(tmp_path: Path) -> None:
    refused(raygen("tune", "--space", tmp_path / "nope.yaml"), "nope.yaml: no such file")


def test_missing_data_is_refused_before_ray_is_started(space: Path) -> None:
    setting = f"data.path={space.parent / 'nowhere'}"

    result = raygen("tune", "--space", space, "--storage", space.parent / "runs", "--set", setting)

    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: data.path: ")
    assert "starting Ray" not in result.stderr
    assert not (space.parent / "runs").exists()


def test_missing_inception_weights_are_refused_before_ray_is_started(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setenv("RAYGEN_CACHE", str(tmp_path / "cache"))
    # A proxy that does not exist: the download fails here as it does without a network.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    enough = ("--set", "evaluation.samples=3000", "--set", "finalists.samples=3000")
    settings = ("--set", "objective=fid", *enough)

    result = raygen("tune", "--space", space, "--storage", tmp_path / "runs", *settings)

    assert result.returncode == 2
    *_, why, instead = result.stderr.splitlines()
    assert why.startswith("error: ")
    assert "could not be downloaded" in why
    assert instead == f"error: to search without: raygen tune {space} --set objective=fd_classifier"
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_prints_the_plan_and_starts_nothing(space: Path) -> None:
    result = raygen("tune", "--space", space, "--storage", space.parent / "runs", "--dry-run")

    assert result.returncode == 0
    assert "2, 6, 18 kimg" in result.stdout
    assert "optimizer.generator_lr" in result.stdout
    assert not (space.parent / "runs").exists()


def test_a_name_that_is_taken_is_refused_and_a_default_name_is_made_free(space: Path) -> None:
    storage = space.parent / "runs"
    (storage / "space").mkdir(parents=True)

    refused(
        raygen("tune", "--space", space, "--storage", storage, "--name", "space"), "already exists"
    )
    plan = raygen("tune", "--space", space, "--storage", storage, "--dry-run").stdout
    assert str(storage / "space-2") in plan


def test_resume_says_whether_an_existing_study_goes_on(space: Path) -> None:
    storage = space.parent / "runs"
    command = ("tune", "--space", space, "--storage", storage, "--dry-run", "--resume")
    refused(raygen(*command, "must"), "no study to resume")
    (storage / "space").mkdir(parents=True)
    (storage / "space" / "journal.jsonl").touch()

    folders = {
        how: raygen(*command, how).stdout.splitlines()[0].split()[-1]
        for how in ("auto", "must", "never")
    }

    assert folders["auto"] == folders["must"] == str(storage / "space")
    assert folders["never"] == str(storage / "space-2")


def test_a_dry_run_says_whether_a_study_goes_on_and_what_it_learns(
    space: Path, tmp_path: Path
) -> None:
    storage, command = tmp_path / "runs", ("tune", "--space", space, "--dry-run", "--storage")
    assert raygen(*command, storage).stdout.splitlines()[1].strip() == "new"
    study = load_space(space)
    info = json.loads(json.dumps(describe(study, load_data(study.spec.data), "space")))
    drawn = a_draw(study)
    trials = [*suggest(0, drawn), report(0, 18, 2.0), end(0), *suggest(1, drawn)]
    write_study(storage / "space", info, trials)

    assert "exists, and goes on: 1 completed" in raygen(*command, storage).stdout
    other = raygen(*command, storage, "--seed", 5)
    assert (other.returncode, other.stdout) == (2, "")
    assert "seed: was 0, is 5" in other.stderr
    warm = raygen(*command, tmp_path / "new", "--warm-start", storage / "space").stdout
    assert f"learns     from {storage / 'space'}: 1 trial, 0 points to try" in warm


def test_a_dry_run_on_a_cluster_says_what_its_job_would_be_or_why_it_is_refused(
    space: Path,
) -> None:
    command = ("tune", "--space", space, "--dry-run", "--cluster", "http://127.0.0.1:1")

    refused(raygen(*command), "--storage runs: with --cluster it must be")
    text = raygen(*command, "--storage", "/shared", "--warm-start", "runs/old", "--seed", 3).stdout
    assert "job        on http://127.0.0.1:1: raygen tune --space space.yaml --name space" in text
    assert "--seed=3 --warm-start=runs/old" in text


def test_a_limit_of_time_is_a_budget_in_hours_and_a_bad_one_is_refused(space: Path) -> None:
    shown = raygen("tune", "--space", space, "--dry-run", "--time", "90m")

    assert "1 h 30 min" in shown.stdout
    refused(raygen("tune", "--space", space, "--time", "soon"), "--time soon", "8h")


def test_a_study_tells_how_it_stands_and_why(tmp_path: Path) -> None:
    study = write_study(
        tmp_path / "s", make_info(), [*suggest(0, {"batch_size": 32}), report(0, 2.0, 41.5), end(0)]
    )

    facts = json.loads(raygen("status", study, "--json").stdout)
    assert (facts["state"], facts["best"]["value"]) == ("crashed", 41.5)
    assert "41.5" in raygen("status", study).stdout
    assert "2 kimg" in raygen("status", study, "--why", 0).stdout
    refused(raygen("status", study, "--why", 9), "--why 9", "no such trial")
    refused(raygen("status", study, "--at", "noon"), "noon")


def test_validate_accepts_what_is_shipped_and_lists_every_file_that_is_wrong(
    space: Path,
) -> None:
    good = sorted((REPOSITORY / "search_spaces").glob("*.yaml"))
    space.write_text("family: gna\nbudget: {kimg: 1}\nspace: {}\n")

    result = raygen("validate", *good, space)

    assert result.returncode == 2
    assert result.stdout.count(": ok") == len(good)
    assert "space.yaml:1:1: family: 'gna'" in result.stderr

    changed = raygen("validate", good[0], "--set", "budget.kimg=-1")
    assert changed.returncode == 2
    assert "budget.kimg: -1" in changed.stderr

    told = raygen("validate", good[0], space, "--json")
    assert told.returncode == 2
    first, second = json.loads(told.stdout)["files"]
    assert first == {"file": str(good[0]), "mistakes": []}
    assert any("family: 'gna'" in mistake for mistake in second["mistakes"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    (root / "config.yaml").write_text(TRAIN)
    result = raygen("train", "--config", root / "config.yaml", "--out", root / "out")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(root / "out" / "best.pt")
    return root


def test_train_prints_its_milestones_on_stderr_and_refuses_a_folder_in_use(trained: Path) -> None:
    again = raygen("train", "--config", trained / "config.yaml", "--out", trained / "out")

    refused(again, "use --resume to continue it")


def test_a_training_that_is_stopped_says_how_it_goes_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> str:
        raise KeyboardInterrupt  # as Ctrl-C right after the first milestone

    monkeypatch.setattr("raygen.progress.milestone_line", stop)
    more = ("--set", "milestones=[0.256]")
    stopped = raygen("train", trained / "config.yaml", "--out", tmp_path / "out", *more)
    monkeypatch.undo()
    words = shlex.split(stopped.stderr.strip().splitlines()[-1].partition("raygen ")[2])
    rest = raygen(*words)
    whole = raygen("train", trained / "config.yaml", "--out", tmp_path / "whole", *more)

    assert stopped.returncode == 130
    assert words[-3:] == ["--set", "milestones=[0.256]", "--resume"]
    assert rest.returncode == 0
    numbers = [[line.split("img/s")[0].rsplit(None, 1)[0] for line in r.stderr.splitlines()
                if line.strip().startswith("0.5 kimg")] for r in (rest, whole)]  # fmt: skip
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) == 1


def test_train_refuses_to_go_on_with_another_configuration(trained: Path) -> None:
    arguments = ("--config", trained / "config.yaml", "--out", trained / "out", "--resume")

    refused(raygen("train", *arguments, "--set", "trial.optimizer.lr=0.01"), "another trial")


def test_generate_draws_the_same_images_in_every_form(trained: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    grid, archive, folder = tmp_path / "a.png", tmp_path / "a.npz", tmp_path / "a"
    for out in (grid, archive, folder):
        result = raygen("generate", trained / "out", "--count", 9, "--seed", 3, "--out", out)
        assert result.stdout.strip() == str(out)

    images = np.load(archive)["images"]
    files = sorted(folder.iterdir())
    assert images.shape == (9, 32, 32, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), images)
    rows = images.reshape(3, 3, 32, 32, 3).swapaxes(1, 2).reshape(96, 96, 3)
    assert np.array_equal(np.asarray(Image.open(grid)), rows)


def test_another_seed_draws_other_images(trained: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        raygen("generate", trained / "out", "--seed", seed, "--out", tmp_path / f"{seed}.png")

    assert (tmp_path / "1.png").read_bytes() != (tmp_path / "2.png").read_bytes()


def test_generate_refuses_what_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"no checkpoint")
    (tmp_path / "empty").mkdir()

    refused(raygen("generate", tmp_path / "x.pt"), "x.pt: not a readable checkpoint")
    refused(raygen("generate", tmp_path / "empty"), "neither a checkpoint")


def study(root: Path, *records: dict[str, object], tail: str = "") -> Path:
    root.mkdir()
    info = {
        "schema": 1, "name": "s", "family": "gan",
        "objective": {"metric": "fd_classifier", "direction": "minimize"},
        "directions": {"fd_classifier": "minimize"}, "budget": {"trials": 2, "kimg": 2.0},
        "rungs": [1.0, 2.0], "parameters": [], "start_trials": 0, "started": 0.0,
    }  # fmt: skip
    opened = {"kind": "open", "time": 0.0, "study": info}
    lines = "".join(json.dumps(record) + "\n" for record in (opened, *records))
    (root / "journal.jsonl").write_text(lines + tail)
    return root


def test_a_report_of_a_study_without_trials_is_a_page_that_says_so(tmp_path: Path) -> None:
    root = study(tmp_path / "s", tail='{"kind":"sugg')

    result = raygen("report", root, "-o", tmp_path / "page.html", "--json")

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"schema": 1, "report": str(tmp_path / "page.html")}
    assert "No trial" in (tmp_path / "page.html").read_text()


def test_report_and_best_refuse_what_is_no_study_or_has_no_result(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "journal.jsonl").write_text('{"kind":"op')

    refused(raygen("report", tmp_path / "nowhere"), "no such study folder")
    refused(raygen("report", tmp_path / "empty"), "not a study")
    refused(raygen("report", tmp_path / "torn"), "the study is empty")
    refused(raygen("best", study(tmp_path / "s")), "no trial has a value yet")


@pytest.mark.parametrize(
    ("error", "code"),
    [(TypeError("None"), 0), (StorageError("reports/x.html: could not be written"), 4)],
)
def test_a_page_that_fails_costs_a_finished_search_nothing_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: Exception, code: int,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("raygen.report.page.write_report", fail)

    assert make_page(tmp_path / "gan", tmp_path / "x.html") == code
    printed = capsys.readouterr().err
    assert "no report: " in printed
    assert f"the study is complete; try again with: raygen report {tmp_path / 'gan'}" in printed


def test_a_stream_that_breaks_is_given_up_and_its_writer_goes_on() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        lasting = GivenUp(stream)
        lasting.write("heard")
        lasting.flush()
        assert os.read(read, 10) == b"heard"
        os.close(read)
        for _ in range(3):
            lasting.write("not heard")
            lasting.flush()
        assert lasting.lost
        assert not lasting.isatty()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status", "study", "--stop"), "need --cluster"),
        (("status", "study", "--follow"), "need --cluster"),
        (("status", "study", "--check", "--at", "#3"), "--check cannot be combined with --at"),
        (("status", "study", "--why", "0", "--json"), "cannot be combined with --json"),
        (("tune", "--space", "s.yaml", "--dry-run", "--json"), "cannot be combined with --json"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, words)

    assert result.exit_code == 2
    assert said in result.stderr
