"""A search as a job of Slurm: submitted on the login node, followed, listed, stopped.

Slurm keeps the job, also when it requeues itself; its output and what was submitted are in a folder
of the working directory, which all nodes share with this one.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from raygen.cluster.files import check_script, is_script
from raygen.cluster.templates import shipped_file
from raygen.errors import ClusterError, InputError, RaygenError, cannot_write
from raygen.plugins import sources

PREFIX = "raygen-"  # of the names of our jobs
FOLDER = Path("slurm")
OUTPUT_SECONDS, QUEUE_SECONDS = 0.5, 5.0  # between two looks: slurmctld serves everybody
STOP_SECONDS = 150.0
TRIES = 10
STOPPED = 128 + signal.SIGTERM
FIELDS = ("JobID", "State", "Name", "exit_code", "StartTime", "StdOut")
ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "TIMEOUT",
)  # fmt: skip


class Job(NamedTuple):
    """A search in the queue."""

    number: str
    state: str
    name: str
    status: str  # as of wait(2)
    started: str
    output: str

    @property
    def study(self) -> str:
        return self.name.removeprefix(PREFIX)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def exit_code(self) -> int:
        """The exit code of a job that has ended."""
        code = os.waitstatus_to_exitcode(int(self.status))
        if code or self.state == "COMPLETED":
            return code if code >= 0 else 128 - code
        return STOPPED if self.state == "CANCELLED" else 1


def script(cluster: str) -> Path | None:
    """Return the batch script that `--cluster` names; None if it names another kind of cluster.

    `slurm` is the user's cluster/slurm.sh, or else the one that comes with raygen.
    """
    if cluster != "slurm":
        return Path(cluster) if is_script(Path(cluster)) else None
    own = Path("cluster", "slurm.sh")
    return own if own.is_file() else shipped_file("slurm.sh")


def submit(script: Path, name: str, words: list[str], space: Path) -> Job:
    """Queue a search with the options `words` of `raygen tune`; a copy of its files is submitted.

    Raises:
        InputError: the script has mistakes.
        RaygenError: a search of that name is queued or running.
        ClusterError: Slurm refuses the job, or is not on this machine.
    """
    check_script(script)
    if any(job.study == name and not job.ended for job in searches()):
        raise RaygenError(f"{name} is already queued or running; see raygen status --cluster slurm")
    folder = (FOLDER / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    try:
        folder.mkdir(parents=True)
        (folder / "space.yaml").write_bytes(space.read_bytes())
        for file, text in sources().items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error
    output = folder / "output"
    number = _slurm(
        "sbatch", "--parsable", "--export=ALL", f"--job-name={PREFIX}{name}", f"--output={output}",
        str(script), f"--space={folder / 'space.yaml'}", f"--name={name}", *words,
    ).strip().partition(";")[0]  # fmt: skip
    return Job(number, "PENDING", f"{PREFIX}{name}", "0", "", str(output))


def searches() -> list[Job]:
    """The user's searches that Slurm still knows, the latest first.

    Raises:
        ClusterError: Slurm does not answer.
    """
    fields = ",".join(f"{field}:|" for field in FIELDS)
    lines = _slurm(
        "squeue", "--me", "--states=all", "--noheader", f"--Format={fields}"
    ).splitlines()
    jobs = [Job(*line.split("|")[: len(FIELDS)]) for line in lines]
    ours = [job for job in jobs if job.name.startswith(PREFIX)]
    return sorted(ours, key=lambda job: int(job.number), reverse=True)


def find(name: str | None) -> Job:
    """The latest search, or that of a study.

    Raises:
        InputError: Slurm knows none.
    """
    matching = [job for job in searches() if name in (None, job.study)]
    if not matching:
        raise InputError(f"slurm: no search{f' named {name}' if name else ''} found")
    return matching[0]


def follow(job: Job, show: Callable[[str], None]) -> int:
    """Show a job's output until it ends, also while it is requeued; return its exit code."""
    shown, state, looked = 0, "", time.monotonic()
    while True:
        if time.monotonic() - looked > QUEUE_SECONDS or not shown:
            job, looked = _again(job), time.monotonic()
            if job.state == "PENDING" != state:
                show(f"job {job.number} waits in the queue\n")
            state = job.state
        text = _read(Path(job.output), shown)
        shown += len(text)
        show(text.decode(errors="replace"))
        if job.ended and not text:
            return job.exit_code
        time.sleep(OUTPUT_SECONDS)


def stop(job: Job) -> Job:
    """Stop a search gracefully: its trials save, its page is made, and it can be resumed.

    Raises:
        ClusterError: it did not end.
    """
    # Only to the script, which tells the search: without these options, all of Ray would be ended.
    gently = ["--batch", "--signal=TERM"] if job.state == "RUNNING" else []
    _slurm("scancel", *gently, job.number)
    deadline = time.monotonic() + STOP_SECONDS
    while not (job := _again(job)).ended:
        if time.monotonic() > deadline:
            raise ClusterError(f"slurm: job {job.number} did not end within {STOP_SECONDS:g} s")
        time.sleep(1)
    return job


def job_line(job: Job) -> str:
    """One search in words."""
    code = job.exit_code if job.ended else 0
    state = "stopped" if code == STOPPED else job.state.lower()
    with_code = f" (exit code {code})" if code else ""
    return f"{job.study}  {state}{with_code}  since {job.started}  job {job.number}"


def attach(cluster: str, name: str) -> str:
    """The command that follows a search."""
    return shlex.join(["raygen", "status", name, "--cluster", cluster, "--follow"])


def _again(job: Job) -> Job:
    """The job as it is now; asks again where Slurm does not answer, as while it is restarted."""
    failures = 0
    while True:
        try:
            now = [other for other in searches() if other.number == job.number]
        except ClusterError:
            failures += 1
            if failures == TRIES:
                raise
            time.sleep(QUEUE_SECONDS)
            continue
        if not now:
            output = f"its output: {job.output}"
            raise ClusterError(f"slurm: job {job.number} is no longer known; {output}")
        return now[0]


def _read(path: Path, start: int) -> bytes:
    """What a file holds from a byte on; nothing where it does not exist yet."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read()
    except FileNotFoundError:
        return b""


def _slurm(*words: str) -> str:
    """Run a command of Slurm, with this raygen and its Ray before all others; return its output."""
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        done = subprocess.run(
            words, env={**os.environ, "PATH": here}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        text = f"{words[0]}: not found; run this where Slurm's commands are: on its login node"
        raise ClusterError(text) from error
    if done.returncode:
        raise ClusterError("; ".join(line for line in done.stderr.splitlines() if line.strip()))
    return done.stdout
