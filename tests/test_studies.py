"""raygen ls: every study below a folder, whatever state it is in."""

import json
from pathlib import Path

from click.testing import CliRunner

from raygen.cli import main
from report.journals import end, make_info, report, suggest, write_study


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["ls", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_studies_are_listed_with_their_state_and_best_and_a_damaged_one_as_such(
    tmp_path: Path,
) -> None:
    good = [*suggest(0, {}), report(0, 2, 5.0), report(0, 16, 3.5), end(0, "completed")]
    write_study(tmp_path / "one", make_info(), good)
    write_study(tmp_path / "deeper" / "two", make_info(), suggest(0, {}))
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "journal.jsonl").write_text("no journal\n{}\n")

    code, text, _ = run(tmp_path)
    listed = json.loads(run(tmp_path, "--json")[1])["studies"]

    assert code == 0
    assert len(listed) == 3
    assert text.splitlines()[0].split() == [
        "study", "state", "family", "trials", "objective", "best", "took", "started",
    ]  # fmt: skip
    assert "3.5 (trial 0)" in text
    assert "unreadable" in text
    assert "three/journal.jsonl:1: not a journal record" in text.splitlines()[-1]
    best = {each["folder"]: each.get("best") for each in listed}
    assert best[str(tmp_path / "one")]["value"] == 3.5
    assert best[str(tmp_path / "deeper" / "two")] is None


def test_a_folder_that_is_not_there_is_refused_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    code, text, error = run(tmp_path / "nowhere")

    assert (code, text) == (2, "")
    assert error.startswith(f"error: {tmp_path / 'nowhere'}: no such folder")
    assert len(run(tmp_path)[1].splitlines()) == 1
