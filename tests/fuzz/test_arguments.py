"""Arguments that no file can be called, and files of unusual kinds, by every command."""

import os
from pathlib import Path

import pytest

from fuzz.drive import Answer, command
from fuzz.subjects import REPOSITORY
from report.journals import make_info, simulate, write_study

SPACE = str(REPOSITORY / "search_spaces" / "quickstart.yaml")
COMMANDS = [
    ["validate"], ["tune", "--dry-run", "--space"], ["train", "--config"], ["status"], ["best"],
    ["report"], ["report", "--index"], ["generate"], ["audit"], ["export"], ["augment"],
    ["evaluate", "--metrics", "fd_classifier"], ["replay"], ["ls"],
    ["tune", "--dry-run", "--space", SPACE, "--name"],
    ["tune", "--dry-run", "--space", SPACE, "--set"],
]  # fmt: skip


def only_line(answer: Answer) -> str:
    assert answer.problem == "", answer.detail
    assert answer.code == 2, answer.output
    (line,) = (x for x in answer.output.splitlines() if x.lower().startswith("error:"))
    return line


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_null_byte_or_half_a_character_in_an_argument_is_one_line(words: list[str]) -> None:
    assert only_line(command([*words, "a\0b"])) == (
        r"Error: 'a\x00b': an argument cannot contain a null byte"
    )
    assert (
        only_line(command([*words, "a\udcff"]))
        == r"Error: 'a\udcff': an argument must be UTF-8 text"
    )


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] != "ls"], ids=" ".join)
def test_a_name_of_five_thousand_letters_is_one_line(words: list[str]) -> None:
    assert only_line(command([*words, "x" * 5000]))


@pytest.mark.parametrize(
    "words", [["validate"], ["tune", "--dry-run", "--space"], ["train", "--config"]], ids=" ".join
)
@pytest.mark.parametrize("kind", ["pipe", "folder", "/dev/zero", "link to itself"])
def test_what_is_no_plain_file_is_named_at_once(
    words: list[str], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.yaml"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link to itself":
            path.symlink_to(path.name)
        case _:
            path = Path(kind)
    answer = command([*words, str(path)])

    assert only_line(answer).startswith(f"error: {path}: ")
    assert answer.seconds < 10


def test_a_link_to_itself_as_a_storage_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    storage = ["--storage", str(tmp_path / "loop")]

    assert "loop" in only_line(command(["tune", "--dry-run", "--space", SPACE, *storage]))


@pytest.mark.parametrize("at", ["9" * 400 + "h", "9" * 5000 + "d", "#" + "9" * 5000, "#²", "²h"])
def test_a_time_of_any_number_of_digits_is_one_line(tmp_path: Path, at: str) -> None:
    study = write_study(tmp_path / "study", make_info(), simulate(2, 2))

    assert only_line(command(["status", str(study), "--at", at])).startswith("error: --at ")


def test_a_pipe_as_a_picture_to_resemble_is_one_line(tmp_path: Path) -> None:
    from apply.models import shapes, write_checkpoint

    model = write_checkpoint(tmp_path / "best.pt", "dcgan", shapes(40, 20))
    os.mkfifo(tmp_path / "pipe")
    answer = command(["generate", str(model), "--like", str(tmp_path / "pipe")])

    assert only_line(answer).startswith(f"error: {tmp_path}/pipe: is a pipe")
