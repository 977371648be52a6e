"""The status of a study, again and again until it has ended."""

import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from raygen.status import status, status_text
from raygen.untrusted import visible

EVERY = 2.0  # seconds


def watch_status(study: Path) -> str:
    """Show the status on stderr while the study runs; return its last one.

    Raises:
        InputError: the folder holds no readable study.
    """
    console = Console(stderr=True, highlight=False)
    facts = status(study)
    with Live(Text(visible(status_text(facts))), console=console, transient=True) as live:
        while facts["state"] == "running":
            time.sleep(EVERY)
            facts = status(study)
            live.update(Text(visible(status_text(facts))))
    return status_text(facts)
