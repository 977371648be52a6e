"""Free text about a study, as people wrote it: kept beside the journal, shown on the page."""

import json
import time
from pathlib import Path
from typing import NamedTuple

from raygen.errors import InputError, cannot_write
from raygen.study_folder import StudyFolder, is_study

LONGEST = 4000  # characters


class Note(NamedTuple):
    """One remark and when it was made (seconds since 1970)."""

    time: float
    text: str


def add_note(study: Path, text: str) -> None:
    """Append a remark to a study.

    Raises:
        InputError: there is no study, or the text is empty or longer than a page should hold.
        ClusterError: it cannot be written.
    """
    if not is_study(study):
        raise InputError(f"{study}: no such study")
    text = text.strip()
    if not text or len(text) > LONGEST:
        raise InputError(f"a note has 1 to {LONGEST} characters, this one has {len(text)}")
    file = StudyFolder(study).notes
    try:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"time": time.time(), "text": text}) + "\n")
    except OSError as error:
        raise cannot_write(file, error) from error


def read_notes(study: Path) -> list[Note]:
    """Return the remarks on a study in the order they were made; what is damaged is left out."""
    file, notes = StudyFolder(study).notes, []
    if not file.is_file():
        return []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
            notes.append(Note(float(content["time"]), str(content["text"])))
        except (ValueError, TypeError, KeyError):  # a line that was cut, or another's
            continue
    return notes
