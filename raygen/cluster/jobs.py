"""A search as a job of a remote cluster: submitted, followed, detached, stopped, copied back.

The driver runs on the head, so it outlives this machine; what goes back and forth passes through
the SSH connection of Ray's launcher, and no port is opened.
"""

import asyncio
import json
import logging
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from raygen.cluster.files import check_cluster
from raygen.errors import ClusterError, InputError, RaygenError
from raygen.files import check_plain
from raygen.home import has_token
from raygen.plugins import sources
from raygen.storage import access_of
from raygen.untrusted import inside

PREFIX = "raygen-"  # of the names of our jobs
REPORTS = "~/.raygen/reports"  # on the head
CONNECT_SECONDS = 90.0
# Ray kills a job 3 s after it asked it to stop; a search first waits for its trials to save.
STOP_SECONDS = 120


class Remote(NamedTuple):
    """A cluster that takes jobs."""

    name: str  # its file or its address
    client: JobSubmissionClient
    launched: dict[str, Any] | None  # the file of `ray up`, if it was made by one
    words: tuple[str, ...] = ()  # how a command reaches it again


@contextmanager
def reach(cluster: str, plain_http: str | None = None) -> Iterator[Remote]:
    """Connect to the head of a cluster: a file of `ray up`, or the http:// address of its jobs.

    The token of this machine goes to loopback and through https only, unless the user names the
    host to which it may go in clear text (`plain_http`).

    Raises:
        InputError: the file has mistakes, or the token would travel in clear text.
        ClusterError: the head cannot be reached, or refuses our token.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    again = ("--cluster", cluster, *(("--plain-http", plain_http) if plain_http else ()))
    if cluster.startswith(("http://", "https://")):
        _check_address(cluster, plain_http)
        yield Remote(cluster, _client(cluster, cluster), None, again)
        return
    launched = check_cluster(Path(cluster)).data
    if "provider" not in launched:
        raise InputError(
            f"{cluster}: kubectl runs it: kubectl create -f {cluster}; to submit to a RayCluster, "
            "forward the port 8265 of its head and give --cluster http://127.0.0.1:8265"
        )
    port = _free_port()
    with tempfile.TemporaryFile() as said:
        words = [_ray(), "dashboard", cluster, "--port", str(port)]
        forward = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )  # a session of its own: Ctrl-C here leaves the search alone, and so the connection
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + CONNECT_SECONDS
            while not _answers(address):
                if forward.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    raise ClusterError(f"{cluster}: {_reason(said.read().decode())}")
                time.sleep(0.3)
            yield Remote(cluster, _client(address, cluster), launched, again)
        finally:
            # It and the ssh that it started.
            subprocess.run(["pkill", "-TERM", "-s", str(forward.pid)], check=False)
            forward.wait(timeout=10)


def submit(remote: Remote, name: str, command: list[str], space: Path, keys: dict[str, str]) -> str:
    """Start a search on the cluster and return the name of its job.

    `command`: of raygen, with `space.yaml` for the file of the space, which is sent along with the
    user's own code; `keys`: environment variables with which it reaches its storage.

    Raises:
        RaygenError: a search of that name is already running.
        ClusterError: the job cannot be started.
    """
    running = [job for job in searches(remote) if job.status not in ENDED and study_of(job) == name]
    if running:
        raise RaygenError(
            f"{remote.name}: {name} is already running; follow it with: {attach(remote, name)}"
        )
    job = f"{PREFIX}{name}-{int(time.time())}"
    files = {"space.yaml": space.read_bytes()}
    files |= {name: text.encode() for name, text in sources().items()}
    line = (
        f"mkdir -p {REPORTS} && {shlex.join(command)} --report {REPORTS}/{shlex.quote(name)}.html"
    )
    return _start(
        remote, job, line, files, keys,
        metadata={"study": name}, RAY_JOB_STOP_WAIT_TIME_S=str(STOP_SECONDS),
    )  # fmt: skip


def run(remote: Remote, name: str, command: list[str], keys: dict[str, str]) -> str:
    """Start another command of raygen on the head and return the name of its job; `keys` as above.

    Raises:
        ClusterError: it cannot be started.
    """
    return _start(remote, f"{name}-{int(time.time())}", shlex.join(command), {}, keys)


ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)


def searches(remote: Remote) -> list[JobDetails]:
    """The searches of a cluster, the latest first."""
    jobs = [
        job for job in remote.client.list_jobs() if (job.submission_id or "").startswith(PREFIX)
    ]
    return sorted(jobs, key=lambda job: job.start_time or 0, reverse=True)


def find(remote: Remote, name: str | None) -> JobDetails:
    """The latest search, or that of a study.

    Raises:
        InputError: there is none.
    """
    matching = [job for job in searches(remote) if name in (None, study_of(job))]
    if not matching:
        raise InputError(f"{remote.name}: no search{f' named {name}' if name else ''} found")
    return matching[0]


def follow(remote: Remote, job: str, show: Callable[[str], None]) -> int:
    """Show a job's output until it ends; return its exit code.

    Raises:
        ClusterError: the connection is lost for good; the job keeps running.
    """
    shown = failures = 0
    while True:
        try:
            shown = asyncio.run(_tail(remote, job, shown, show))
            info = remote.client.get_job_info(job)
            failures = 0
        except (RuntimeError, OSError, TimeoutError) as error:
            failures += 1
            if failures > 10:
                again = attach(remote, None)
                raise ClusterError(
                    f"{remote.name}: connection lost, the search continues; follow it with: {again}"
                    f" ({_reason(str(error))})"
                ) from error
            time.sleep(3)
            continue
        if info.status in ENDED:
            return exit_code(info)
        time.sleep(0.5)


def stop(remote: Remote, job: JobDetails) -> JobDetails:
    """Stop a search gracefully: its trials save, its report is written, and it can be resumed.

    Raises:
        ClusterError: it did not end.
    """
    name = job.submission_id or ""
    remote.client.stop_job(name)
    deadline = time.monotonic() + STOP_SECONDS + 30
    while time.monotonic() < deadline:
        info = remote.client.get_job_info(name)
        if info.status in ENDED:
            return info
        time.sleep(0.5)
    raise ClusterError(f"{remote.name}: {name} did not end within {STOP_SECONDS} s")


def bring_home(remote: Remote, name: str) -> Path:
    """Copy the report of a study from the head into reports/ and return where it is.

    Raises:
        InputError: the name, which the cluster gave, leads out of reports/.
        ClusterError: it cannot be copied.
    """
    path = inside(Path("reports"), f"{name}.html", remote.name)
    check_plain(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [_ray(), "rsync-down", remote.name, f"{REPORTS}/{name}.html", str(path)]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode or not path.exists():
        raise ClusterError(
            f"{remote.name}: the report could not be copied from there: {_reason(done.stderr)}"
        )
    return path


def attach(remote: Remote, name: str | None) -> str:
    """The command that follows a search."""
    return shlex.join(["raygen", "status", *([name] if name else []), *remote.words, "--follow"])


def job_line(job: JobDetails) -> str:
    """One search in words."""
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime((job.start_time or 0) / 1000))
    code = f" (exit code {job.driver_exit_code})" if job.driver_exit_code else ""
    return (
        f"{study_of(job)}  {job.status.value.lower()}{code}  since {started}  {job.submission_id}"
    )


def _start(
    remote: Remote,
    job: str,
    line: str,
    files: dict[str, bytes],
    keys: dict[str, str],
    metadata: dict[str, str] | None = None,
    **env_vars: str,
) -> str:
    """Start a job that finds the storage and, in its folder, some files; return its name."""
    with tempfile.TemporaryDirectory() as folder:
        # A file that only the job reads, and deletes: the dashboard shows environment variables.
        # The name of the job: Ray gives one folder to all jobs of equal content.
        access = f"# {job}\n"
        access += "".join(f"{key}={shlex.quote(value)}\n" for key, value in keys.items())
        for name, content in {**files, "storage.env": access.encode()}.items():
            (Path(folder) / name).write_bytes(content)
        read = "chmod 600 storage.env && set -a && . ./storage.env && set +a && rm -f storage.env"
        try:
            return remote.client.submit_job(
                entrypoint=f"{read} && {line}",
                submission_id=job,
                metadata=metadata,
                runtime_env={"working_dir": folder, "env_vars": env_vars},
            )
        except (RuntimeError, ValueError) as error:
            raise ClusterError(f"{remote.name}: {_reason(str(error))}") from error


async def _tail(remote: Remote, job: str, shown: int, show: Callable[[str], None]) -> int:
    """Show what comes after the first `shown` characters; return how many there were."""
    seen = 0
    async for text in remote.client.tail_job_logs(job):
        fresh = text[max(0, shown - seen) :]
        seen += len(text)
        if fresh:
            show(fresh)
    return max(shown, seen)


def keys_for(remote: Remote, asked: bool, *places: str) -> dict[str, str]:
    """Return the keys that a job needs to reach its storage: what is sent, and nothing else.

    The user's own machines, which `ray up` reaches through SSH, get this machine's. Cloud nodes
    have rights of their own, and only the user knows who is behind an address: those get them if
    `asked` (--send-keys).
    """
    ours = remote.launched is not None and remote.launched["provider"]["type"] == "local"
    return access_of(*places) if ours or asked else {}


def _check_address(address: str, plain_http: str | None) -> None:
    """Refuse to send the token in clear text to a host that the user did not name for that.

    Raises:
        InputError: it would be.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError as error:
        raise InputError(f"--cluster {address}: is not an address ({error})") from error
    if not host:
        raise InputError(f"--cluster {address}: names no host")
    if parts.username or parts.password:
        raise InputError(
            f"--cluster {host}: must not contain a password: Ray's token is sent as a header"
        )
    if parts.scheme == "https" or _is_loopback(host) or host == plain_http:
        return
    if has_token():
        raise InputError(
            f"--cluster {address}: your Ray token would travel to {host} in clear text; use https, "
            f"forward its port (ssh -L 8265:127.0.0.1:8265 {host}) and give http://127.0.0.1:8265, "
            f"or allow it with --plain-http {host}"
        )


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def exit_code(info: JobDetails) -> int:
    """The exit code of a job that has ended."""
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        return 143
    return info.driver_exit_code if (info.driver_exit_code or 0) > 0 else 1  # pyright: ignore[reportReturnType]


def study_of(job: JobDetails) -> str:
    """The name of the study that a job searches."""
    return (job.metadata or {}).get("study", "")


def _client(address: str, name: str) -> JobSubmissionClient:
    try:
        client = JobSubmissionClient(address)
        client.list_jobs()
        return client
    except Exception as error:  # Ray raises its own, requests' and aiohttp's
        raise ClusterError(f"{name}: {_reason(str(error))}") from error


def _answers(address: str) -> bool:
    """Whether a dashboard is there; one that wants a token is."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=3) as answer:
            return "ray_version" in json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except (OSError, ValueError):
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _ray() -> str:
    return str(Path(sys.executable).parent / "ray")


def _reason(text: str) -> str:
    """The last line that is not empty; Ray's launcher ends an error with its cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it cannot be reached"
