"""Whether a study that was never closed is still being written, or its search has crashed."""

import fcntl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raygen.results.study import Results
from raygen.study_folder import StudyFolder

SILENT = 1800.0  # seconds without a record, after which a search elsewhere is taken for dead


def state_now(folder: StudyFolder, info: Mapping[str, Any]) -> str:
    """The state of a study at this moment: as closed, or running, or crashed.

    A search on this machine or on a shared file system holds a lock on the journal until it ends,
    however it ends. Of a copy in another place only the last record tells.
    """
    if info["state"] != "running":
        return info["state"]
    if folder.origin.exists():  # a copy: its writer is elsewhere, and known by its records only
        session = info["sessions"][-1]
        heard = (session["started"] or 0.0) + session["seconds"]
        return "running" if time.time() - heard < SILENT else "crashed"
    return "running" if _held(folder.journal) else "crashed"


def cut_short(study: Results) -> Results:
    """As a search left it: of one that is over, trials that it left under way were interrupted."""
    tables = study.trials, study.replicates
    if study.info["state"] == "running" or not any("running" in set(t["state"]) for t in tables):
        return study
    trials, replicates = (
        table.assign(state=table["state"].replace("running", "interrupted")) for table in tables
    )
    return study._replace(trials=trials, replicates=replicates)


def _held(journal: Path) -> bool:
    """Whether a process is writing the journal."""
    with journal.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks: known by its last record only
            return time.time() - journal.stat().st_mtime < SILENT
    return False
