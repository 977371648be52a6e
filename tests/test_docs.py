"""What README.md and docs/ say is there: links, commands, options, paths, YAML and Python."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import click
import pytest

from raygen import plugins
from raygen.cli import main
from raygen.config_file import load_space
from raygen.project_folder import space_path
from report.journals import write_demo

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATHS = re.compile(r"(?<![\w./-])((?:benchmarks|cluster|docs|search_spaces|tests)/[\w./-]*\w)")
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text()) if kind == language]


def commands(page: Path) -> list[list[str]]:
    """Every `raygen ...` of the shell blocks, as words; comments and what is piped are left out."""
    made, open_line = [], ""
    for line in "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        open_line += line.replace("&&", " && ")
        try:
            words = shlex.split(open_line, comments=True)
        except ValueError:  # a quotation that ends on a later line
            open_line += "\n"
            continue
        open_line = ""
        for at, word in enumerate(words):
            if word == "raygen":
                rest = words[at + 1 :]
                ends = [i for i, w in enumerate(rest) if w in ("&&", "|", ">")]
                made.append(rest[: min(ends, default=len(rest))])
    return made


def slug(heading: str) -> str:
    """The anchor that a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text())
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pages
def test_every_command_and_option_exists(page: Path) -> None:
    for words in commands(page):
        command: click.Command | None = main
        while isinstance(command, click.Group):
            command, words = command.commands.get(words[0]), words[1:]
        assert command is not None, words
        options = {name for p in command.params if isinstance(p, click.Option) for name in p.opts}
        for word in words:
            if word.startswith("-") and not re.fullmatch(r"-\d+", word):
                assert word.partition("=")[0] in options, words


@pages
def test_every_search_that_is_printed_is_one_that_starts(page: Path) -> None:
    for words in commands(page):
        if words[0] != "tune":
            continue
        pairs = list(pairwise(words))
        named = [value for option, value in pairs if option == "--space"]
        space = named[0] if named else words[1]
        if space not in ("FILE", "SPACE"):
            file = ROOT / space if named else space_path(Path(space))
            load_space(file, [value for option, value in pairs if option == "--set"])


@pages
def test_every_path_that_is_named_is_there(page: Path) -> None:
    for path in PATHS.findall(page.read_text()):
        assert (ROOT / path).exists(), path


@pages
def test_every_space_in_yaml_is_one(page: Path, tmp_path: Path) -> None:
    code = [text for text in blocks(page, "python") if "\nclass " in text]
    plugins.look_in(tmp_path)
    (tmp_path / "mine.py").write_text("".join(code[:1]))
    plugins._plugins.pop("mine.py", None)  # that of another test
    for text in blocks(page, "yaml"):
        rest = "family: gan\ndata: {source: shapes}\nspace: {batch_size: {choice: [32, 64]}}\n"
        rest += "" if "budget:" in text else "budget: {kimg: 9}\n"
        whole = text if "family:" in text else rest + text
        (tmp_path / "space.yaml").write_text(whole)
        load_space(tmp_path / "space.yaml")


def test_the_python_of_the_report_runs(tmp_path: Path) -> None:
    """The blocks of docs/extend.md are run by tests of what they extend."""
    demo = write_demo(tmp_path)
    for text in blocks(ROOT / "docs" / "report.md", "python"):
        exec(compile(text.replace("runs/gan", str(demo)), "report.md", "exec"), {})
