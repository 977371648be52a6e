"""What this machine offers raygen: each check is a fact, with advice where something is wrong."""

import fcntl
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from raygen.cache import cache_folder
from raygen.errors import ClusterError
from raygen.home import home, temporary_folder
from raygen.storage import Storage, is_uri

OLDEST = (3, 11)
DRIVER = 580  # of NVIDIA, for the CUDA 13 that torch's wheels bring
GIGABYTE = 1e9
ROOM = 10.0  # gigabytes free, for data, checkpoints and packages
SHARED = 1.0  # gigabytes of /dev/shm, for Ray's object store
FILES = 65536  # open files that a node of a large cluster needs; Ray asks for as many


class Check(NamedTuple):
    """One fact: `state` is ok, warn (works, but not for all) or fail."""

    name: str
    state: str
    value: str
    advice: str = ""


def local_checks(storage: str = "runs") -> list[Check]:
    """Check this machine; nothing is downloaded or changed.

    Raises:
        InputError: the storage is a URI that is none of s3:// and gs://.
    """
    return [*_software(), *_devices(), *_room(storage), *_ray(), *_files()]


def check_table(checks: list[Check]) -> str:
    """One line per check."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        advice = f"  -> {check.advice}" if check.advice else ""
        lines.append(f"{check.state:<4}  {check.name:<{width}}  {check.value}{advice}")
    return "\n".join(lines)


def drivers() -> list[tuple[str, str, str]]:
    """Name, driver and memory of every NVIDIA GPU; none where there is no driver."""
    asked = "--query-gpu=name,driver_version,memory.total"
    try:
        said = subprocess.run(
            ["nvidia-smi", asked, "--format=csv,noheader"],
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[part.strip() for part in line.split(",")] for line in said.splitlines() if line]
    return [(row[0], row[1], row[2]) for row in rows]


def driver_check(name: str, versions: list[tuple[str, str, str]]) -> Check:
    """Whether the driver is new enough for torch's CUDA."""
    if not versions:
        return Check(name, "warn", "none", "set resources.gpus=0 to search on CPUs")
    gpus = f"{len(versions)} x {versions[0][0]} ({versions[0][2]}), driver {versions[0][1]}"
    if int(versions[0][1].partition(".")[0]) < DRIVER:
        return Check(name, "fail", gpus, f"torch needs driver {DRIVER} or newer")
    return Check(name, "ok", gpus)


def free_at(path: Path) -> tuple[float, Path]:
    """Gigabytes free where a path is, or would be, and the folder that is there already."""
    existing = next(p for p in (path.resolve(), *path.resolve().parents) if p.exists())
    return shutil.disk_usage(existing).free / GIGABYTE, existing


def gigabytes(name: str, path: Path, least: float, advice: str) -> Check:
    """Room where a path is, or would be."""
    free, existing = free_at(path)
    state = "ok" if free >= least else "warn"
    return Check(name, state, f"{free:.0f} GB free at {existing}", "" if state == "ok" else advice)


def _software() -> Iterator[Check]:
    python = platform.python_version()
    new = tuple(int(part) for part in python.split(".")[:2]) >= OLDEST
    advice = "" if new else f"raygen needs {'.'.join(map(str, OLDEST))} or newer"
    yield Check("python", "ok" if new else "fail", python, advice)
    for package in ("raygen", "ray", "torch", "torchvision", "optuna"):
        try:
            yield Check(package, "ok", version(package))
        except PackageNotFoundError:
            yield Check(package, "fail", "not installed", f"pip install {package}")
    for extra, package, use in (
        ("fid", "torch-fidelity", "fid and kid"),
        ("aws", "boto3", "--storage s3:// and ray up on AWS"),
        ("export", "onnx", "raygen export"),
    ):
        try:
            yield Check(package, "ok", version(package))
        except PackageNotFoundError:
            yield Check(package, "warn", "not installed", f"for {use}: uv sync --extra {extra}")


def _devices() -> Iterator[Check]:
    import torch

    versions = drivers()
    yield driver_check("gpus", versions)
    if torch.cuda.is_available():
        started = time.monotonic()
        total = float(torch.ones(1000, device="cuda").sum())
        state = "ok" if total == 1000 else "fail"
        took = f"CUDA {torch.version.cuda}, first sum in {time.monotonic() - started:.1f} s"
        yield Check("torch on the gpu", state, took)
    elif versions:
        advice = "reinstall torch with CUDA, or check CUDA_VISIBLE_DEVICES"
        yield Check("torch on the gpu", "fail", "torch sees no GPU", advice)
    yield Check("cpus", "ok", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}")


def _room(storage: str) -> Iterator[Check]:
    if is_uri(storage):
        yield _probed(Storage(storage))
    else:
        advice = "set checkpoints.gigabytes, or choose another --storage"
        yield gigabytes("studies", Path(storage), ROOM, advice)
        locks = _locks(Path(storage))
        advice = (
            ""
            if locks
            else "never run two searches of one study at a time: file locks do not work here"
        )
        yield Check("locks", "ok" if locks else "warn", "yes" if locks else "none", advice)
    yield gigabytes("cache", cache_folder(), ROOM / 2, "set RAYGEN_CACHE to a larger disk")
    yield gigabytes("/dev/shm", Path("/dev/shm"), SHARED, "docker run --shm-size=8g")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    advice = "" if hard >= FILES else f"ulimit -n {FILES}, for searches with many workers"
    yield Check("open files", "ok" if hard >= FILES else "warn", f"{soft} of {hard}", advice)


def _ray() -> Iterator[Check]:
    """What Ray needs of this machine before it starts."""
    folder = home()
    advice = (
        "" if folder else "set HOME to a folder that you can write to: settings and caches go there"
    )
    yield Check("home", "ok" if folder else "warn", str(folder or "none is writable"), advice)
    try:
        place = temporary_folder() or os.environ["RAY_TMPDIR"]
        yield Check("ray's files", "ok", place)
    except ClusterError as error:
        yield Check("ray's files", "fail", str(error))


def _locks(folder: Path) -> bool:
    """Whether files of a folder, or of the nearest that is there, can be locked."""
    nearest = free_at(folder)[1]
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _probed(storage: Storage) -> Check:
    """Whether what is written to object storage from here can be read back."""
    name, content = f".probe-{uuid.uuid4().hex[:12]}", b"raygen doctor"
    try:
        storage.write(name, content)
        same = storage.read(name) == content
        storage.delete(name)
    except ClusterError as error:
        return Check("studies", "fail", str(error))
    return Check("studies", "ok" if same else "fail", f"{storage.place} written and read")


def _files() -> Iterator[Check]:
    from raygen.metrics.inception import FILE

    archive = Path("data") / "cifar-10-python.tar.gz"
    pickled = Path("data") / "cifar-10-batches-py"
    path = next((path for path in (archive, pickled) if path.exists()), None)
    advice = "" if path else "downloaded at first use; or put it there yourself, or set data.path"
    yield Check("cifar10", "ok" if path else "warn", str(path or "not in data/"), advice)
    weights = cache_folder() / FILE
    if weights.exists():
        yield Check("inception weights", "ok", str(weights))
    else:
        advice = f"downloaded at first use of fid; or put {FILE} there yourself"
        yield Check("inception weights", "warn", f"not in {weights.parent}", advice)
