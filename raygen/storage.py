"""Where a study is kept so that every node can reach it: a folder, or objects under a URI.

s3:// (S3, or MinIO through AWS_ENDPOINT_URL) and gs:// go through pyarrow, which Ray brings. An
object appears whole or not at all, and nothing here changes a part of one.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from raygen.cache import cache_folder
from raygen.errors import ClusterError, InputError, first_line
from raygen.files import write_bytes, write_text
from raygen.patience import WAIT_SECONDS, Say, patiently
from raygen.study_folder import StudyFolder
from raygen.untrusted import check_name, inside

SCHEMES = ("s3", "gs")
AT_ONCE = 16  # transfers
GCS_SECONDS = 20.0  # of the retries of its own library
JOURNAL = "journal"  # the folder of its records, one object each
REPORT = "report.html"
# Where this process finds the storage and who it is: other nodes may not know. Sent through the
# object store, not as a runtime environment, which Ray writes into a log that everybody can read.
PASSED = {
    "s3": (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
        "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION",
    ),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST",
        "CLOUD_STORAGE_EMULATOR_ENDPOINT",
    ),
}  # fmt: skip
T = TypeVar("T")


def is_uri(place: str) -> bool:
    """Whether a place is on object storage, and not a folder."""
    return "://" in place


def access_of(*places: str) -> dict[str, str]:
    """Return the environment variables with which this process reaches these places, if any."""
    schemes = {place.partition("://")[0] for place in places if is_uri(place)}
    names = [name for scheme in sorted(schemes) for name in PASSED.get(scheme, ())]
    return {name: os.environ[name] for name in names if name in os.environ}


class Storage:
    """Files by name under one URI or folder; travels to other processes."""

    def __init__(self, place: str) -> None:
        """Take a place; nothing is reached yet.

        Raises:
            InputError: a URI that is neither s3:// nor gs://, or without a bucket.
        """
        scheme, _, rest = place.partition("://")
        if is_uri(place) and (scheme not in SCHEMES or not rest.strip("/")):
            raise InputError(f"{place}: must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
        self.place = place.rstrip("/")
        self.settings = access_of(place)
        self.wait_seconds = 0.0  # for how long a storage that does not answer is waited for
        self.say: Say = _say_nothing
        self._opened: tuple[Any, str] | None = None

    @property
    def name(self) -> str:
        return self.place.rpartition("/")[2]

    def be_patient(self, say: Say) -> None:
        """Wait out from now on a storage that does not answer for some minutes, and say so."""
        self.wait_seconds, self.say = WAIT_SECONDS, say

    def under(self, name: str) -> "Storage":
        """The storage of a folder in this one."""
        return Storage(f"{self.place}/{name}")

    def read(self, name: str) -> bytes | None:
        """Return a file, or None if there is none."""

        def read(system: Any, path: str) -> bytes | None:
            try:
                with system.open_input_stream(path) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._ask("read", name, read)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""

        def write(system: Any, path: str) -> None:
            if not is_uri(self.place):
                system.create_dir(os.path.dirname(path), recursive=True)
            with system.open_output_stream(path) as stream:
                stream.write(content)

        self._ask("written", name, write)

    def delete(self, name: str) -> None:
        """Delete a file; nothing happens if it is gone already."""

        def delete(system: Any, path: str) -> None:
            with suppress(FileNotFoundError):
                system.delete_file(path)

        self._ask("deleted", name, delete)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of every file by its name, those in folders included."""
        from pyarrow.fs import FileSelector, FileType

        def sizes(system: Any, path: str) -> dict[str, int]:
            chosen = FileSelector(path.rstrip("/"), allow_not_found=True, recursive=True)
            root = self._open()[1]
            files = [info for info in system.get_file_info(chosen) if info.type == FileType.File]
            return {info.path[len(root) :].strip("/"): info.size for info in files}

        return self._ask("read", folder, sizes)

    def push(self, root: Path, *names: str) -> None:
        """Copy files of a local folder here, one after another in the order of their names."""
        for name in names:
            self.write(name, (root / name).read_bytes())

    def pull(self, root: Path, names: list[str]) -> None:
        """Copy files from here into a local folder, each in one step.

        Raises:
            InputError: a name leads out of the folder; nothing was written.
        """
        for name in names:
            inside(root, name, self.place)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self._pull(root, name), names))

    def records(self, folder: str = JOURNAL) -> list[bytes]:
        """Return the journal of the study that is kept here: its lines, in order."""
        names = sorted(name for name in self.sizes(folder) if name.endswith(".json"))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [line for line in pool.map(self.read, names) if line]

    def _pull(self, root: Path, name: str) -> None:
        content = self.read(name)
        if content is None:
            return
        write_bytes(inside(root, name, self.place), content)

    def _ask(self, done: str, name: str, ask: Callable[[Any, str], T]) -> T:
        """Ask until there is an answer, or patience ends; name the place in an error.

        Raises:
            ClusterError: the storage cannot be reached, or refuses.
        """

        def once() -> T:
            try:
                system, root = self._open()
                return ask(system, f"{root}/{name}" if name else root)
            except OSError as error:
                self._opened = None  # its credentials may have expired: they are looked for again
                where = f"{self.place}/{name}" if name else self.place
                raise ClusterError(f"{where}: cannot be {done}: {storage_reason(error)}") from error

        return patiently(once, self.wait_seconds, self.say)

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            from pyarrow import ArrowInvalid
            from pyarrow.fs import FileSystem, LocalFileSystem

            for key, value in self.settings.items():
                os.environ.setdefault(key, value)
            if not is_uri(self.place):
                self._opened = LocalFileSystem(), self.place
            else:
                try:
                    gs = self.place.startswith("gs://")
                    self._opened = _gcs(self.place) if gs else FileSystem.from_uri(self.place)
                # A URI that it cannot read, or a pyarrow that was built without this storage.
                except (ArrowInvalid, NotImplementedError) as error:
                    raise ClusterError(
                        f"{self.place}: cannot be used: {storage_reason(error)}"
                    ) from error
        assert self._opened is not None
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "say": _say_nothing}


def _gcs(uri: str) -> tuple[Any, str]:
    """Google Cloud Storage, or its emulator. Its own retries end soon; raygen waits."""
    from pyarrow.fs import GcsFileSystem

    emulator = urlsplit(os.environ.get("CLOUD_STORAGE_EMULATOR_ENDPOINT", ""))
    place: dict[str, Any] = {}
    if emulator.netloc:
        place = {"anonymous": True, "scheme": emulator.scheme, "endpoint_override": emulator.netloc}
    return GcsFileSystem(retry_time_limit=timedelta(seconds=GCS_SECONDS), **place), uri[5:]


def _say_nothing(text: str) -> None:
    """Nobody listens."""


def fetch(uri: str, weights: bool = False) -> Path:
    """Bring the study at a URI here, to be read like any study folder; return the folder.

    `weights`: with the checkpoints for sampling. What is here already is not brought again.

    Raises:
        InputError: there is no study, or a name in it leads out of its folder; nothing
            was written.
        ClusterError: the storage cannot be reached.
    """
    storage = Storage(uri)
    check_name(storage.name, uri)
    lines = storage.records()
    if not lines:
        raise InputError(f"{uri}: no study there (no record in {JOURNAL}/)")
    folder = StudyFolder(cache_folder() / "studies" / _digest(storage.place) / storage.name)
    sizes = storage.sizes()
    for name in sizes:
        inside(folder.root, name, uri)
    folder.root.mkdir(parents=True, exist_ok=True)
    write_bytes(folder.journal, b"".join(lines))
    write_text(folder.origin, uri)
    for path in folder.root.glob("trials/*/*"):
        if path.relative_to(folder.root).as_posix() not in sizes:
            path.unlink()  # collected since, or of another study of that name
    storage.pull(folder.root, [n for n, size in sizes.items() if _wanted(folder, n, size, weights)])
    return folder.root


def scratch() -> Path:
    """Return a folder for this process; those of processes that are gone are deleted."""
    root, node = cache_folder() / "scratch", os.uname().nodename
    root.mkdir(parents=True, exist_ok=True)
    for old in root.glob(f"{node}-*"):
        if not Path("/proc", old.name.rpartition("-")[2]).exists():
            shutil.rmtree(old, ignore_errors=True)
    scratch = root / f"{node}-{os.getpid()}"
    scratch.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(dir=scratch))


def storage_reason(error: BaseException) -> str:
    """The reason at the end of a storage error, which begins with what was tried."""
    words = first_line(error)
    return words.rpartition("AWS Error ")[2] or words


def _wanted(folder: StudyFolder, name: str, size: int, weights: bool) -> bool:
    if name.startswith(f"{JOURNAL}/") or name in (folder.journal.name, REPORT):
        return False
    path = folder.root / name
    if path.suffix == ".pt":
        # Whether weights changed cannot be told from their size; training goes on from no copy.
        return weights and path.name == "best.pt"
    grown = path.suffix != ".png"  # a picture is never written again
    return grown or not path.exists() or path.stat().st_size != size


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
