"""NVIDIA's Multi-Process Service: trials that share a GPU compute at once instead of in turns.

One daemon for each GPU of each node, in a folder of its own, for the processes of one search. Each
of these holds a shared lock, which the system releases however the process ends; a keeper, a
process beside the daemon, ends that when nobody holds the lock any more. If the keeper or the
daemon dies, the next process that joins starts another. Daemons of others are left as they are.

Locks, in the order in which they are taken: `joining` (one at a time decides anything), `users`
(shared by those that compute), `keeper` (held by the keeper as long as it lives).
"""

import fcntl
import os
import shutil
import signal
import stat
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
LOOK_SECONDS = 1.0  # between two looks of the keeper at the users
TRIES = 2  # to start a daemon
# Under a daemon that does not work CUDA may fail or hang for good: tried in a process of its own.
PROBE = [
    sys.executable, "-c",
    "import ctypes as c; d = c.CDLL('libcuda.so.1'); x = c.c_void_p(); "
    "raise SystemExit(d.cuInit(0) or d.cuDevicePrimaryCtxRetain(c.byref(x), 0))",
]  # fmt: skip

_joined: dict[str, str] = {}  # what `join` has said in this process, by search
_held: list[int] = []  # locks that this process holds until it ends


def join(search: str) -> str:
    """Make this process a client of the daemon of its GPU, and start that if need be.

    Call it before CUDA is used: it sets the environment that CUDA reads. `search` is a name that
    the processes of one search have in common. Return "" or why there is no daemon, in one line;
    CUDA then works as always, and processes take turns. A process that its user has made a client
    of another daemon, by the environment, stays one.
    """
    if search not in _joined:
        _joined[search] = "" if PIPES in os.environ else _join(search)
    return _joined[search]


def _join(search: str) -> str:
    if shutil.which(CONTROL) is None:
        return f"{CONTROL} is not installed"
    gpu = _gpu()
    if gpu is None:
        return "nvidia-smi does not name the GPU of this process"
    folder = Path(tempfile.gettempdir()) / f"raygen-mps-{os.getuid()}-{search}-{gpu}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        if facts.st_uid != os.getuid() or not stat.S_ISDIR(facts.st_mode):
            return f"{folder} belongs to somebody else"
        with _alone(folder / "joining"):
            reason = _decide(folder, gpu)
    except OSError as error:
        return str(error)
    # Without a daemon there, too: CUDA would wait for one of another user in its usual place.
    os.environ[PIPES] = str(folder)
    if not reason:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # the daemon has no other, and numbers it 0
    return reason


def _decide(folder: Path, gpu: str) -> str:
    """Become a user, and return why there is no daemon; "" if there is one and CUDA works."""
    users, refused, proven = folder / "users", folder / "refused", folder / "proven"
    if (only := _try_lock(users)) is not None:  # what earlier users have found may be no more
        os.close(only)
        refused.unlink(missing_ok=True)
        proven.unlink(missing_ok=True)
    _held.append(_lock(users, fcntl.LOCK_SH))
    if refused.exists():
        return refused.read_text(encoding="utf-8")
    reason = _start(folder, gpu)
    if not reason and not proven.exists():
        reason = _prove(folder, gpu)
        if not reason:
            proven.touch()
    if reason:
        refused.write_text(reason, encoding="utf-8")
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
    """Make sure that a daemon answers, and that a keeper will end it; return why not."""
    deadline, tries = time.monotonic() + START_SECONDS, 0
    while True:
        kept = (lock := _try_lock(folder / "keeper")) is None
        if lock is not None:
            os.close(lock)
        if kept and _answers(folder, gpu):
            return ""
        if time.monotonic() > deadline:
            return f"{CONTROL} does not start{_last_words(folder)}"
        if not kept and tries < TRIES:
            tries += 1
            _start_keeper(folder, gpu)
        time.sleep(0.1)


def _start_keeper(folder: Path, gpu: str) -> None:
    """By a shell that ends at once: Ray ends the children of its workers with them."""
    keeper = [sys.executable, "-m", "raygen.cluster.mps", str(folder), gpu]
    with (folder / "keeper").open("ab") as lock:  # held by the keeper from its birth on
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        subprocess.run(
            ["sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", *keeper, str(lock.fileno())],
            check=True, start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip


def _prove(folder: Path, gpu: str) -> str:
    """Compute something under the daemon, in a process of its own; return why that failed."""
    try:
        code = subprocess.run(
            PROBE, env=_environment(folder, gpu), capture_output=True, timeout=PROBE_SECONDS,
            check=False,
        ).returncode  # fmt: skip
        problem = f"error {code} of CUDA" if code else ""
    except subprocess.TimeoutExpired:
        problem = f"no answer in {PROBE_SECONDS:g} s"
    if not problem:
        return ""
    _order(folder, gpu, "quit -t 1")
    return f"CUDA does not work under {CONTROL}: {problem}"


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


def _try_lock(path: Path) -> int | None:
    """Take a lock that nobody holds, not even shared."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def keep(folder: Path, gpu: str) -> None:
    """End a daemon when nobody uses it any more; start it if none answers.

    Returns early if the daemon ends by itself: whoever joins next starts both anew.
    """
    daemon = None
    if not _answers(folder, gpu):  # or it has outlived its keeper
        (folder / "proven").unlink(missing_ok=True)
        with (folder / "output").open("wb") as output:
            daemon = subprocess.Popen(
                [CONTROL, "-f"], env=_environment(folder, gpu), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
    refused = folder / "refused"
    while daemon is None or daemon.poll() is None or refused.exists():
        time.sleep(LOOK_SECONDS)
        if (only := _try_lock(folder / "users")) is None:
            continue
        os.close(only)
        with _alone(folder / "joining"):  # nobody joins from here on
            if (only := _try_lock(folder / "users")) is not None:
                _end(folder, gpu, daemon)
                shutil.rmtree(folder, ignore_errors=True)
                return


def _end(folder: Path, gpu: str, daemon: subprocess.Popen[bytes] | None) -> None:
    _order(folder, gpu, "quit -t 5")
    if daemon is None:
        return
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


if __name__ == "__main__":
    keep(Path(sys.argv[1]), sys.argv[2])  # the third is the lock of the keeper, held by being open
