"""What comes from elsewhere: names, links and texts, checked before anything is done with them.

A bucket's listing, a study folder, a journal, an archive and a cluster may be anybody's. A name
among them must not lead out of the folder that it belongs to, and a text must not command the
terminal.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from raygen.errors import InputError

LONGEST = 200  # bytes of a study's name: what file systems hold, less what is added to it
BOUND = ("trials", "tensorboard")  # folders of a study that are searched for links, beside its root


def inside(root: Path, name: str, source: str) -> Path:
    """Return the path of `name`, "/" between its parts, below `root`.

    `source` is what gave the name, for the error.

    Raises:
        InputError: the name is absolute, has an empty part, "..", a backslash or a control
            character, or a link below `root` leads out of it; nothing was written.
    """
    parts = name.split("/")
    if not all(map(_plain_part, parts)):
        raise InputError(f"{source}: '{visible(name)}' is not a valid file name in it: refused")
    path = root.joinpath(*parts)
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{source}: '{visible(name)}' points outside {root}: refused")
    return path


def check_name(name: str, option: str) -> str:
    """Return the name of a study, which is that of one folder, if it can be one.

    Raises:
        InputError: it is empty, too long, hidden, or leads to another folder.
    """
    given = f"{option} {visible(name)}"
    if "/" in name:
        folder, _, last = name.rpartition("/")
        hint = f": --storage {visible(folder)} {option} {visible(last)}" if folder and last else ""
        raise InputError(
            f"{given}: must be the name of one folder, the rest goes to --storage{hint}"
        )
    if not _plain_part(name) or name.startswith((".", "-")):
        raise InputError(
            f"{given}: must not be empty, begin with . or -, or contain \\ or control characters"
        )
    if len(name.encode()) > LONGEST:
        raise InputError(f"{given[:40]}…: has {len(name.encode())} bytes, at most {LONGEST} fit")
    return name


def check_links(root: Path) -> None:
    """Make sure that no link in a study folder leads out of it; the folder itself may be one.

    What a study shows and what is written into it would otherwise be another file of the reader.

    Raises:
        InputError: one does.
    """
    bound = root.resolve()
    for entry in _entries(root):
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(bound):
            target = visible(os.readlink(entry.path))
            raise InputError(f"{entry.path}: is a link to {target}, outside the study: remove it")


def visible(text: str) -> str:
    r"""Return a text with every character that would command a terminal written out: \x1b, \u202e.

    Line feeds and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def one_line(text: str) -> str:
    r"""Return a text on one line and visible: names come from elsewhere, and may hold \n."""
    return visible(text).replace("\n", "\\n")


def _entries(root: Path) -> Iterator[os.DirEntry[str]]:
    folders = [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    yield entry
                    deeper = Path(entry.path).parent != root or entry.name in BOUND
                    if deeper and entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
        except FileNotFoundError:
            continue  # deleted in the meantime, by the search that runs


def _plain_part(part: str) -> bool:
    return (
        part not in ("", ".", "..") and not set(part) & {"\\", "\n", "\t"} and visible(part) == part
    )


def _shown(character: str) -> str:
    # Cc: control characters, C1 among them; Cf: those that turn the direction of a text, and others
    # that cannot be seen; Cs: halves of a surrogate pair, which no terminal can show.
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )
