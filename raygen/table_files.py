"""A study's tables for other programs: CSV, JSON lines of objects, or Parquet."""

from pathlib import Path

import pandas as pd

from raygen.errors import InputError
from raygen.files import replacing, write_text
from raygen.results import Results, finalists, full_measurements

TABLES = {
    "trials": lambda study: study.trials,
    "history": lambda study: study.history,
    "rungs": lambda study: study.rungs,
    "replicates": lambda study: study.replicates,
    "finalists": finalists,
    "full": full_measurements,
}
FORMATS = ("csv", "json", "parquet")


def table_text(study: Results, name: str, form: str) -> str:
    """One of the tables as CSV, or as a JSON array of rows (null where nothing is known).

    Raises:
        InputError: Parquet is not text.
    """
    table: pd.DataFrame = TABLES[name](study)
    if form == "csv":
        return table.to_csv(index=False)
    if form == "json":
        return table.to_json(orient="records", indent=1) + "\n"
    raise InputError("-f parquet: is not text; choose a file with --out trials.parquet")


def write_table(study: Results, name: str, form: str, out: Path) -> None:
    """Write one of the tables to a file.

    Raises:
        RaygenError: it cannot be written.
    """
    if form == "parquet":
        with replacing(out) as partial:
            _typed(TABLES[name](study)).to_parquet(partial, index=False)
    else:
        write_text(out, table_text(study, name, form))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each: a setting that is 3 here and "none" there becomes text."""
    typed = table.copy()
    for column in (name for name, kind in typed.dtypes.items() if kind.kind == "O"):
        present = typed[column].dropna()
        numbers = present.map(lambda value: isinstance(value, int | float)).all()
        if numbers and not present.map(lambda value: isinstance(value, bool)).any():
            typed[column] = pd.to_numeric(typed[column])
        elif present.map(type).nunique() > 1:
            typed[column] = typed[column].map(str, na_action="ignore")
    return typed
