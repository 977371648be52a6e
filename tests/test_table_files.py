"""A study's tables, written for others, hold what the study says."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from raygen.cli import main
from raygen.results import load_results
from raygen.table_files import TABLES
from report.journals import end, make_info, report, suggest, write_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    records = [
        *suggest(0, {"model": {"width": 16}, "loss": {"name": "hinge"}}), report(0, 2, 5.0),
        report(0, 16, 3.5), end(0, "completed"),
        *suggest(1, {"model": {"width": 24}, "loss": {"name": "wasserstein", "weight": 10}}),
        report(1, 2, 7.0), end(1, "stopped", "above"),
    ]  # fmt: skip
    return write_study(tmp_path / "study", make_info(), records)


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["export", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("table", TABLES)
def test_every_table_comes_in_every_form_with_the_same_cells(
    study: Path, tmp_path: Path, table: str
) -> None:
    expected = TABLES[table](load_results(study))
    code, text, _ = run(study, "-f", "csv", "--table", table)
    rows = json.loads(run(study, "-f", "json", "--table", table)[1])
    place = tmp_path / "table.parquet"
    assert run(study, "--out", place, "--table", table)[:2] == (0, f"{place}\n")
    parquet = pd.read_parquet(place)

    assert code == 0
    assert text == expected.to_csv(index=False)
    assert len(rows) == len(parquet) == len(expected)
    assert list(parquet.columns) == list(expected.columns)
    if len(expected):
        assert pd.read_csv(io.StringIO(text)).shape == expected.shape
    for column in ("value", "kimg"):
        if column in expected:
            assert parquet[column].tolist() == expected[column].tolist()


def test_parquet_on_stdout_and_what_is_no_study_are_refused(study: Path, tmp_path: Path) -> None:
    assert run(study, "-f", "parquet") == (
        2, "", "error: -f parquet: is not text; choose a file with --out trials.parquet\n",
    )  # fmt: skip
    code, text, error = run(tmp_path, "-f", "csv")
    assert (code, text) == (2, "")
    assert error == f"error: {tmp_path}: not a study (no journal.jsonl in it)\n"
