"""Which study a search is: an existing one to resume, or a new one under a free name."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from raygen.errors import InputError
from raygen.storage import JOURNAL, Storage, is_uri, scratch
from raygen.study_folder import StudyFolder
from raygen.untrusted import check_links, check_name


def resume_command(space: Path, name: str, storage: str, more: Sequence[str] = ()) -> str:
    """The command that resumes a study; `more` are further options."""
    words = ["--name", name, "--storage", storage, "--resume", "must"]
    return shlex.join(["raygen", "tune", "--space", str(space), *more, *words])


def place_study(
    storage: str, name: str | None, stem: str, resume: str, journal: str | None
) -> tuple[StudyFolder, Storage | None]:
    """Return the study's folder, and where it is kept if that is on object storage.

    In the second case the folder is a new, temporary one. `storage` is a folder or a URI, `stem`
    the default of `name`; `resume`: auto resumes a study of that name if there is one, never starts
    anew, must fails without one. `journal` is where else the journal is kept.

    Raises:
        InputError: the name is taken or none of a folder, a link leads out of the study, there is
            no study to resume, or both URIs are given.
    """
    check_name(name if name is not None else stem, "--name")
    kept = Storage(storage) if is_uri(storage) else None
    if kept is not None and journal:
        raise InputError(f"--journal {journal}: --storage {storage} already keeps the journal")

    def place(stem: str) -> str:
        return f"{storage.rstrip('/')}/{stem}"

    def exists(stem: str) -> bool:
        return bool(kept.sizes(stem)) if kept else Path(place(stem)).exists()

    chosen = name or stem
    if kept is not None:
        exists_already = bool(kept.sizes(f"{chosen}/{JOURNAL}"))
    else:
        exists_already = StudyFolder(Path(place(chosen))).journal.exists()
    if resume == "must" and not exists_already and not journal:
        raise InputError(f"{place(chosen)}: no study to resume, as --resume must requires")
    if not (exists_already and resume != "never"):
        if name and exists(name):
            said = f"{place(name)}: already exists"
            raise InputError(f"{said}; choose another --name, or remove it")
        number = 1
        while exists(chosen):
            number += 1
            chosen = f"{stem}-{number}"
    if kept is None:
        folder = StudyFolder(Path(place(chosen)))
        check_links(folder.root)
        return folder, None
    return StudyFolder(scratch() / chosen), kept.under(chosen)
