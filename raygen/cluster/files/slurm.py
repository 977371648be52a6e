"""The rules for a batch script of Slurm: what a search needs to end in order, and a token."""

import re
from collections.abc import Iterator
from pathlib import Path

from raygen.cluster.files.versions import PLACEHOLDER
from raygen.errors import InputError, refuse

OPTION = re.compile(r"#SBATCH\s+(.*)")  # ##SBATCH is a comment
NEEDED = {
    "--signal=B:USR1@": "the search would not hear of its end; add #SBATCH --signal=B:USR1@180",
    "--requeue": "the job could not go on after its time limit; add #SBATCH --requeue",
    "--open-mode=append": "a requeued job would erase its output; add #SBATCH --open-mode=append",
}


def is_script(file: Path) -> bool:
    """Whether a file is a batch script, by its name."""
    return file.suffix in (".sh", ".sbatch")


def check_script(file: Path) -> None:
    """Check a batch script.

    Raises:
        InputError: one line per mistake, or it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise InputError(f"{file}: {reason}") from error
    refuse(_mistakes(str(file), text))


def _mistakes(name: str, text: str) -> Iterator[str]:
    options = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := OPTION.match(line):
            options += f" {match[1]}"
        if PLACEHOLDER in line and (match or not line.startswith("#")):
            yield f"{name}:{number}: {line.strip()}: must still be filled in"
    for option, said in NEEDED.items():
        if f" {option}" not in options:
            yield f"{name}: no {option}: {said}"
    if "RAY_AUTH_MODE=token" not in text:
        yield f"{name}: no RAY_AUTH_MODE=token: everybody on the cluster could run code as you"
