"""Files and arguments of any content: no traceback, no hang, bounded memory, one placed line.

Each mutant is a function of its kind and its number, so a failure is repeated by its name:
`pytest -m "slow or not slow" "tests/fuzz/test_fuzz.py" -k "journals-17"`. What was found so is a
test of its own beside the code that it was found in.
"""

from pathlib import Path
from random import Random

import pytest

from fuzz.drive import HANG, unplaced
from fuzz.subjects import KINDS

FEW, MANY = 24, 176  # mutants of each kind: in the default run, and after those in the slow line
BLOCK = 8  # in one test: a thousand tests would take longer to collect than to run


def blocks(first: int, last: int) -> list[tuple[str, int]]:
    return [(kind, start) for kind in KINDS for start in range(first, last, BLOCK)]


def wrong(kind: str, number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What is wrong with the answer to a mutant; None if nothing is."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    mutant = KINDS[kind](Random(f"{kind}-{number}"), folder)
    answer = mutant.run()
    if answer.problem:
        return f"{kind}-{number}: {answer.problem}: {answer.detail}: {mutant.what}"
    if answer.code not in mutant.codes:
        return f"{kind}-{number}: exit code {answer.code}: {answer.output[-300:]}: {mutant.what}"
    lines = unplaced(answer, mutant.place)
    return f"{kind}-{number}: without its place: {lines[0][:300]}: {mutant.what}" if lines else None


def faults(kind: str, start: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    numbers = range(start, start + BLOCK)
    mistakes = [wrong(kind, n, folder / str(n), monkeypatch) for n in numbers]
    return [each for each in mistakes if each is not None]


@pytest.mark.parametrize(("kind", "start"), blocks(0, FEW))
def test_a_mutant_is_read_or_refused_in_one_line_that_names_its_place(
    kind: str, start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults(kind, start, tmp_path, monkeypatch) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "start"), blocks(FEW, MANY))
def test_many_mutants_are_read_or_refused_in_one_line_that_names_its_place(
    kind: str, start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults(kind, start, tmp_path, monkeypatch) == []


def test_the_default_run_has_200_mutants_and_the_slow_line_1500() -> None:
    assert len(KINDS) * FEW >= 200
    assert len(KINDS) * (MANY - FEW) >= 1500
    assert HANG <= 20


def test_the_same_number_is_the_same_mutant(tmp_path: Path) -> None:
    for kind in ("spaces", "journals", "images"):
        folders = [tmp_path / f"{kind}-{attempt}" for attempt in "ab"]
        contents = []
        for folder in folders:
            folder.mkdir()
            KINDS[kind](Random(f"{kind}-5"), folder)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            contents.append([(path.relative_to(folder), path.read_bytes()) for path in files])
        assert contents[0] == contents[1]
        assert contents[0]
