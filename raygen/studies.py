"""Every study in a folder, in one table: what it is, its progress and its best."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from raygen.errors import InputError, our_bug
from raygen.status import status
from raygen.study_folder import StudyFolder
from raygen.words import duration

LONGEST = 40  # characters of a name
COLUMNS = ("study", "state", "family", "trials", "objective", "best", "took", "started")


def studies(root: Path) -> list[dict[str, Any]]:
    """The status of each study below a folder, the last started first; `error` if unreadable.

    Raises:
        InputError: the folder does not exist.
    """
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder; studies are in runs/ unless --storage says otherwise"
        )
    rows = []
    for journal in sorted(root.rglob(StudyFolder(root).journal.name)):
        folder = journal.parent
        try:
            rows.append(status(folder))
        except InputError as error:
            rows.append(_unreadable(root, folder, str(error)))
        except Exception as error:  # a bug of ours with one study must not hide the others
            rows.append(_unreadable(root, folder, f"{folder}: {our_bug(error)}"))
    return sorted(rows, key=lambda row: -(row.get("started") or 0.0))


def _unreadable(root: Path, folder: Path, error: str) -> dict[str, Any]:
    return {"study": str(folder.relative_to(root)), "folder": str(folder), "error": error}


def listing_text(studies: Sequence[Mapping[str, Any]]) -> str:
    """What `studies` returned, for a terminal."""
    rows = [COLUMNS, *map(_row, studies)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(COLUMNS))]
    rows = [(_short(name), *others) for name, *others in rows]
    widths[0] = max(len(row[0]) for row in rows)
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    broken = [row["error"] for row in studies if "error" in row]
    return "\n".join([*lines, *broken])


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return (row["study"], "unreadable", *[""] * (len(COLUMNS) - 2))
    counts, best = row["trials"], row["best"]
    ended = sum(
        n for state, n in counts.items() if state not in ("running", "paused", "interrupted")
    )
    budget = row["budget"].get("trials", {})
    limit = budget.get("limit")
    # Where one of a population ended, its copy went on.
    ended -= sum(counts.values()) - budget.get("used", sum(counts.values()))
    value = "" if best is None else f"{best.get('mean', best['value']):.5g}"
    started = row["started"]
    return (
        row["study"],
        row["state"],
        row["family"],
        f"{ended}/{limit:g}" if limit else str(ended),
        row["objective"]["metric"],
        f"{value} (trial {best['trial']})" if best else "",
        duration(row["seconds"]),
        f"{datetime.fromtimestamp(started):%Y-%m-%d %H:%M}" if started else "",
    )
