"""raygen init: a folder whose files work, and that overwrites nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from raygen import plugins
from raygen.cli import main
from raygen.config_file import load_space


def test_a_project_begins_with_every_shipped_space_and_each_is_valid(
    tmp_path: Path, repository: Path
) -> None:
    done = CliRunner().invoke(main, ["init", str(tmp_path / "mine"), "--json"])

    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["folder"] == str(tmp_path / "mine")
    assert all(Path(file).is_file() for file in told["files"])
    spaces = sorted((tmp_path / "mine" / "search_spaces").glob("*.yaml"))
    shipped = sorted((repository / "search_spaces").glob("*.yaml"))
    assert [file.name for file in spaces] == [file.name for file in shipped]
    for file in spaces:
        load_space(file)


def test_what_to_type_next_is_the_one_line_of_output(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["init", str(tmp_path / "mine")])

    assert done.stdout.startswith(f"cd {tmp_path / 'mine'} && raygen tune --space search_spaces/")
    assert done.stdout.count("\n") == 1


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    done = CliRunner().invoke(main, ["init", str(tmp_path)])

    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_every_shell_gets_a_script_that_asks_raygen_itself() -> None:
    for shell in ("bash", "zsh", "fish"):
        script = CliRunner().invoke(main, ["completion", shell]).stdout
        assert f"_RAYGEN_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(
    ("example", "file"),
    [("own-model", "mine.py"), ("own-trainer", "train.py"), ("own-data", "pictures.py")],
)
def test_an_example_is_valid_and_its_code_is_what_the_docs_show(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, example: str, file: str
) -> None:
    done = CliRunner().invoke(main, ["init", str(tmp_path / "mine"), "--example", example])
    assert done.stdout == f"cd {tmp_path / 'mine'} && raygen tune --space own.yaml\n"
    monkeypatch.chdir(tmp_path / "mine")
    plugins._plugins.pop(file, None)

    checked = CliRunner().invoke(main, ["validate", "own.yaml"])

    assert checked.output.startswith("own.yaml: ok")
    assert ("4,000 training images" in checked.output) == (example == "own-data")
    code = (tmp_path / "mine" / file).read_text(encoding="utf-8")
    assert code in (repository / "docs" / "extend.md").read_text(encoding="utf-8")


def test_an_example_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["init", str(tmp_path / "mine"), "--example", "own-modle"])

    assert done.exit_code == 2
    assert "did you mean 'own-model'?" in done.stderr
    assert not (tmp_path / "mine").exists()
