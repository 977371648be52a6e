"""Spaces and studies by their names, the newest study, notes, and a page that follows its study."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from PIL import Image

from raygen.cli import main
from raygen.config_file import load_space
from raygen.data import DataSpec
from raygen.errors import InputError
from raygen.notices import Notice
from raygen.project_folder import shipped_spaces, space_path
from raygen.report import watch
from raygen.report.page import render_page
from raygen.results import load_results
from raygen.results.notes import add_note, read_notes
from raygen.study_folder import named_study, newest
from raygen.tuning import requirements
from report.journals import (
    Record,
    append_to_study,
    close,
    end,
    make_info,
    report,
    suggest,
    write_study,
    written_by_a_search,
)


def records(value: float) -> list[Record]:
    return [*suggest(0, {"a": 1}), report(0, 16, value), end(0), close()]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two studies, of which "vae" is the newest."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("gan", 5.0), ("vae", 3.0)):
        write_study(tmp_path / "runs" / name, make_info(name=name), records(value))
        time.sleep(0.02)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.parametrize("given", ["gan", "gan.yaml", "search_spaces/gan.yaml"])
def test_a_space_is_named_by_its_file_or_by_its_name(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    mine = tmp_path / "search_spaces" / "gan.yaml"
    mine.write_text("family: gan")

    assert space_path(Path(given)).resolve() == mine
    (tmp_path / "gan.yaml").write_text("family: gan")
    beside = space_path(Path(given)).resolve()
    assert beside == (mine if "/" in given else tmp_path / "gan.yaml")


def test_every_bundled_space_has_a_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in shipped_spaces().glob("*.yaml"):
        assert space_path(Path(file.stem)) == file


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("gann", "did you mean 'gan'?"),
        ("x", "bundled search spaces: biggan, gan,"),
        ("a/b.yaml", "no such file"),
    ],
)
def test_a_space_that_is_not_there_is_a_line_with_the_nearest_name(given: str, said: str) -> None:
    result = run("tune", given)

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_search_takes_one_space() -> None:
    assert "give one SPACE" in run("tune").stderr
    assert "not both gan and --space vae" in run("tune", "gan", "--space", "vae").stderr


@pytest.mark.usefixtures("project")
def test_commands_take_the_name_of_a_study_or_the_newest() -> None:
    by_name, by_path = run("status", "gan"), run("status", "runs/gan")

    assert by_name.stdout == by_path.stdout
    assert "study: runs/vae" in run("status").stderr
    assert run("status").stdout == run("status", "vae").stdout
    assert run("best", "gan").stderr == run("best", "runs/gan").stderr
    assert run("report", "gan").stdout == "reports/gan.html\n"
    assert run("report").stdout == "reports/vae.html\n"
    assert run("report", "gan", "-o", "a.html").stdout == "a.html\n"
    assert run("report", "runs").stdout == "reports/index.html\n"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("command", ["status", "report", "best", "generate", "replay"])
def test_a_misspelt_study_is_a_line_with_the_nearest_name(command: str) -> None:
    result = run(command, "gam")

    assert result.exit_code == 2
    assert "gam: no such study; did you mean 'gan'?" in result.stderr


def test_a_folder_comes_before_a_name_only_if_it_is_a_study(project: Path) -> None:
    (project / "gan").mkdir()
    assert named_study(Path("gan")) == Path("runs/gan")

    shutil.copytree(project / "runs" / "vae", project / "gan", dirs_exist_ok=True)
    assert named_study(Path("gan")) == Path("gan")
    assert newest(project / "nothing") is None


@pytest.mark.parametrize(
    ("word", "meant"), [("search", "tune"), ("stop", "status --stop"), ("reprot", "'report'")]
)
def test_a_word_for_a_command_is_understood(word: str, meant: str) -> None:
    assert f"did you mean {meant}?" in run(word).stderr


def test_help_has_a_section_for_every_command_and_whole_sentences() -> None:
    text = " ".join(run("--help").stdout.split())

    for command in main.commands.values():
        assert command.get_short_help_str(200) in text
        assert not command.get_short_help_str(200).endswith("...")
    assert run("help").stdout == run("--help").stdout
    assert run("help", "tune").stdout == run("tune", "--help").stdout


def test_notes_are_kept_in_order_and_shown_on_the_page(project: Path) -> None:
    study = project / "runs" / "gan"
    assert run("note", "gan", "first & <b>").exit_code == 0
    assert run("note", "gan", " second ").stdout == "first & <b>\nsecond\n"
    with (study / "notes.jsonl").open("a") as lines:
        lines.write('{"time": 1}\nnot json\n')

    assert [note.text for note in read_notes(study)] == ["first & <b>", "second"]
    html = render_page(load_results(study))
    assert "first &amp; &lt;b&gt;</li>" in html
    texts = [note["text"] for note in json.loads(run("note", "gan", "--json").stdout)["notes"]]
    assert texts == ["first & <b>", "second"]


@pytest.mark.parametrize("text", ["", "  ", "x" * 4001])
def test_a_note_is_neither_empty_nor_endless(project: Path, text: str) -> None:
    with pytest.raises(InputError, match="a note has 1 to 4000 characters"):
        add_note(project / "runs" / "gan", text)
    with pytest.raises(InputError, match="no such study"):
        add_note(project / "nothing", "text")
    assert not (project / "runs" / "gan" / "notes.jsonl").exists()


@pytest.mark.parametrize("ending", ["finished", "crashed"])
def test_a_page_follows_its_study_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.05)
    monkeypatch.setattr(watch, "SHARE", 0.0)
    info, page = make_info(), tmp_path / "live.html"
    first = [*suggest(0, {"a": 1}), report(0, 2, 9.0)]
    study = write_study(tmp_path / "study", info, first)
    watching = threading.Thread(target=watch.watch_page, args=(study, page))

    def until(text: str) -> None:
        for _ in range(600):
            if page.is_file() and text in page.read_text(encoding="utf-8"):
                return
            time.sleep(0.05)
        raise AssertionError(f"never on the page: {text}")

    with written_by_a_search(study):
        watching.start()
        until("Trial 0 leads with Fréchet distance 9")
        assert '"refresh":0.05' in page.read_text(encoding="utf-8")
        append_to_study(study, [report(0, 16, 4.0), end(0)])
        until("Trial 0 leads with Fréchet distance 4")
        if ending == "finished":
            append_to_study(study, [close()])
            until("✓ finished")
    until(ending)
    watching.join(timeout=60)

    assert not watching.is_alive()
    assert '"refresh":null' in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [["validate"], ["tune", "--dry-run"]])
def test_the_data_are_looked_at_before_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    space = (shipped_spaces() / "quickstart.yaml").read_text(encoding="utf-8")
    source = "data: {source: shapes}"
    assert source in space
    (tmp_path / "here.yaml").write_text(space.replace(source, "data: {path: photos, size: 16}"))

    assert "photos not found" in run(*command, "here.yaml").stderr
    (tmp_path / "photos").mkdir()
    for number in range(8):
        Image.new("L", (20, 20), number).save(tmp_path / "photos" / f"{number}.png")
    result = run(*command, "here.yaml")

    assert result.exit_code == 0, result.output
    assert "7 training" in result.output
    Image.new("L", (9, 9)).save(tmp_path / "photos" / "small.png")
    (tmp_path / "here.yaml").write_text(space.replace(source, "data: {path: photos}"))
    assert run(*command, "here.yaml").exit_code == 2


def test_the_plan_says_what_was_hardly_meant_so() -> None:
    cut = ("--set", "budget.kimg=24", "--set", "budget.trials=2", "--set", "finalists.count=2")
    text = run("tune", "gan", "--dry-run", *cut).stdout

    assert "ema.half_life_kimg goes up to 500, beyond the budget of 24 kimg" in text
    assert "the finalists may cost more than the whole search: 144 kimg of 48" in text
    assert "note " not in run("tune", "gan", "--dry-run").stdout


def test_everything_that_a_start_lacks_is_said_at_once_with_a_command_that_does_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(*_: object) -> None:
        raise InputError("weights for fid are not there")

    monkeypatch.setattr(requirements, "require", missing)
    monkeypatch.setattr(requirements, "no_place", lambda *_: "this machine has no GPU")
    spec = load_space(shipped_spaces() / "gan.yaml", []).spec
    spec = spec.model_copy(update={"data": DataSpec(path=str(tmp_path / "nope"))})
    notices: list[Notice] = []

    with pytest.raises(InputError) as caught:
        requirements.load_checked(spec, None, "gan", notices.append)

    room, weights, data, instead = str(caught.value).splitlines()
    assert room == "this machine has no GPU"
    assert weights == "weights for fid are not there"
    assert "nope not found" in data
    assert instead == "to search without: raygen tune gan --cpu --set objective=fd_classifier"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_a_shell_completes_every_command_where_there_is_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shell = ShellComplete(main, {}, "raygen", "_RAYGEN_COMPLETE")

    assert "--help" in [item.value for item in shell.get_completions([command], "--")]
