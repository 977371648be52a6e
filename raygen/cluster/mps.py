"""NVIDIA's Multi-Process Service: trials that share a GPU compute at once instead of in turns.

One daemon for each GPU of each node, in a folder of its own, for the processes of one search. It
ends when the last of them has, however that came about: each holds a shared lock that the system
releases, and the daemon's keeper waits for the lock alone. Daemons of others are left as they are:
no process of a search looks for them.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
START_SECONDS = 15.0  # for a daemon to answer
PROBE_SECONDS = 60.0  # for a process to compute under it
STOP_SECONDS = 10.0
# Under a daemon that does not work CUDA may fail or hang for good: tried in a process of its own.
PROBE = [
    sys.executable, "-c",
    "import ctypes as c; d = c.CDLL('libcuda.so.1'); x = c.c_void_p(); "
    "raise SystemExit(d.cuInit(0) or d.cuDevicePrimaryCtxRetain(c.byref(x), 0))",
]  # fmt: skip

_users: list[int] = []  # locks that this process holds until it ends


def join(search: str) -> str:
    """Make this process a client of the daemon of its GPU, and start that if need be.

    Call it before CUDA is used: it sets the environment that CUDA reads. `search` is a name that
    the processes of one search have in common. Return "" or why there is no daemon, in one line;
    CUDA then works as always, and processes take turns.
    """
    if PIPES in os.environ:
        return f"{PIPES} is set: raygen starts no daemon"
    if shutil.which(CONTROL) is None:
        return f"{CONTROL} is not installed"
    gpu = _gpu()
    if gpu is None:
        return "nvidia-smi does not name the GPU of this process"
    folder = Path(tempfile.gettempdir()) / f"raygen-mps-{os.getuid()}-{search}-{gpu}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return f"{folder} belongs to somebody else"
        _users.append(_lock(folder / "users", fcntl.LOCK_SH))
        with _alone(folder / "starting"):
            refused = folder / "refused"
            if not refused.exists() and not _answers(folder, gpu):
                refused.write_text(_start(folder, gpu), encoding="utf-8")
            reason = refused.read_text(encoding="utf-8") if refused.exists() else ""
    except OSError as error:
        return str(error)
    # Without a daemon there, too: CUDA would wait for one of another user in its usual place.
    os.environ[PIPES] = str(folder)
    if not reason:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # the daemon has no other, and numbers it 0
    return reason


def _gpu() -> str | None:
    """Return the UUID of the first GPU that this process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not visible.isdecimal():
        return visible or None
    try:
        return subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader", f"--id={visible}"],
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout.strip() or None  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None


def _start(folder: Path, gpu: str) -> str:
    """Start a daemon and make sure that CUDA works under it; return why not."""
    keeper = [sys.executable, "-m", "raygen.cluster.mps", str(folder), gpu]
    # By a shell that ends at once: Ray ends the children of its workers with them.
    subprocess.run(
        ["sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", *keeper],
        check=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while not _answers(folder, gpu):
        if time.monotonic() > deadline:
            return f"{CONTROL} does not start{_last_words(folder)}"
        time.sleep(0.1)
    try:
        code = subprocess.run(
            PROBE, env=_environment(folder, gpu), capture_output=True, timeout=PROBE_SECONDS,
            check=False,
        ).returncode  # fmt: skip
        problem = f"error {code} of CUDA" if code else ""
    except subprocess.TimeoutExpired:
        problem = f"no answer in {PROBE_SECONDS:g} s"
    if problem:
        _order(folder, gpu, "quit -t 1")
        return f"CUDA does not work under {CONTROL}: {problem}"
    return ""


def _answers(folder: Path, gpu: str) -> bool:
    return _order(folder, gpu, "get_default_active_thread_percentage")


def _order(folder: Path, gpu: str, text: str) -> bool:
    """Give the daemon of a folder an order; whether it took it."""
    try:
        done = subprocess.run(
            [CONTROL], input=f"{text}\n", env=_environment(folder, gpu), text=True,
            capture_output=True, timeout=STOP_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _environment(folder: Path, gpu: str) -> dict[str, str]:
    ours = {PIPES: str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder), "CUDA_VISIBLE_DEVICES": gpu}
    return {**os.environ, **ours}


def _last_words(folder: Path) -> str:
    path = folder / "output"
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last}" if last else ""


def _lock(path: Path, kind: int) -> int:
    """Wait for a lock on a file that is still the one of that name when it is had."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, kind)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)
        path.parent.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def keep(folder: Path, gpu: str) -> None:
    """Run a daemon in the foreground for as long as any process holds the lock of its users."""
    with (folder / "output").open("wb") as output:
        daemon = subprocess.Popen(
            [CONTROL, "-f"], env=_environment(folder, gpu), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    users = _lock(folder / "users", fcntl.LOCK_EX)
    _order(folder, gpu, "quit -t 5")
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
    shutil.rmtree(folder, ignore_errors=True)
    os.close(users)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2])
