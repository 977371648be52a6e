"""A page that follows its study: written again whenever the journal has grown, until it ends."""

import time
from pathlib import Path

import click

from raygen.report.page import page_path, write_page
from raygen.results import load_results
from raygen.results.liveness import state_now
from raygen.study_folder import StudyFolder, is_study

EVERY = 5.0  # seconds between two looks at the journal, and between two loads of an open page
SHARE = 10.0  # a page that takes longer than a tenth of that is written less often


def watch_page(study: Path, output: Path | None = None, opened: bool = False) -> Path:
    """Write the page of a study until the study has ended; return its path.

    An open page loads itself again and keeps its place, filters and selection. With `opened` a
    browser is sent to it once.

    Raises:
        InputError: the folder holds no readable study.
    """
    page, seen, results = output or page_path(study), -1, None
    folder = StudyFolder(study)
    while True:
        size = folder.journal.stat().st_size if folder.journal.is_file() else 0
        began = time.monotonic()
        # A search that was killed writes no last word.
        if size != seen or (results and state_now(folder, results.info) != "running"):
            results = load_results(study)
            write_page(results, page, refresh=EVERY)
            if opened and seen < 0:
                click.launch(str(page))
            seen = size
            if results.info["state"] != "running":
                return page
        time.sleep(max(EVERY, SHARE * (time.monotonic() - began)))


def follow(study: Path, page: Path) -> None:
    """Wait until the study begins, then open its page and keep it fresh."""
    # A search makes the file before it writes its first record into it.
    while not is_study(study) or not StudyFolder(study).journal.stat().st_size:
        time.sleep(1)
    watch_page(study, page, opened=True)
