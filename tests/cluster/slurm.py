"""A cluster of Slurm on this one machine: slurmctld here, a slurmd on each of two hosts."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.hosts import NET, Network, require
from cluster.laptop import Laptop

DAEMONS = ("slurmctld", "slurmd", "munged")
ROOT = Path(__file__).parents[2]
# No cgroups (their file is read all the same); a requeued job waits 5 s, and not 2 or 3 minutes.
CONF = """
ClusterName=raygen
SlurmctldHost={host}({net}.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
FirstJobId={first}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
NodeName=host[0-1] NodeAddr={net}.[10-11] CPUs=4
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class LoginNode(Laptop):
    """The user's folder, which all nodes share, with Slurm's commands."""

    def __init__(self, folder: Path, net: Network, conf: Path) -> None:
        super().__init__(folder, net, {"SLURM_CONF": str(conf), "PYTHONPATH": str(ROOT)}, "slurm")

    def tune(self, name: str, *more: str) -> list[str]:
        words = ["raygen", "tune", "--space", "space.yaml", "--cpu", "--cluster", "slurm"]
        return [*words, "--name", name, *more]

    def records(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / "runs" / name / "journal.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def output(self, name: str) -> str:
        """What the latest job of a study has printed."""
        folders = sorted((self.folder / "slurm").glob(f"{name}-*"))
        path = folders[-1] / "output" if folders else Path()
        return path.read_text() if path.is_file() else ""

    def wait_for(self, name: str, text: str) -> float:
        """Wait until a job has printed a text; return when."""
        deadline = time.monotonic() + 600
        while text not in (printed := self.output(name)):
            assert time.monotonic() < deadline, printed
            time.sleep(0.1)
        return time.monotonic()

    def left(self) -> list[str]:
        """What jobs have left on the nodes: processes, and folders in /tmp."""
        lines = [line for host in self.net.hosts for line in host.processes()]
        folders = [str(path) for path in Path("/tmp").glob(f"rg-{os.getpid()}?-*")]
        return [line for line in lines if "ray" in line or "slurmstepd" in line] + folders

    def slurm(self, *words: str) -> str:
        return subprocess.run(
            words, env=self.env, capture_output=True, text=True, check=True
        ).stdout.strip()


@contextmanager
def login_node(folder: Path) -> Iterator[LoginNode]:
    """Start all daemons, in a folder; skip, with a reason, where they cannot run."""
    require()
    if missing := [name for name in DAEMONS if shutil.which(name, path="/usr/sbin") is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    control = folder / "control"
    for name in ("state", "host0", "host1"):
        (control / name).mkdir(parents=True)
    (control / "key").write_bytes(os.urandom(64))
    (control / "key").chmod(0o400)
    (control / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupMountpoint=/dev/shm\n")
    conf = control / "slurm.conf"
    conf.write_text(
        CONF.format(host=os.uname().nodename, net=NET, folder=control, first=os.getpid() * 10)
    )
    files = {"key": "key", "socket": "munge.socket", "pid": "munged.pid", "seed": "seed"}
    names = {"key": "key-file", "pid": "pid-file", "seed": "seed-file"}
    munged = ["/usr/sbin/munged", "--foreground", "--force", f"--log-file={control}/munged.log"]
    munged += [f"--{names.get(kind, kind)}={control / file}" for kind, file in files.items()]
    with Network(folder / "net", 2) as net, ExitStack() as stack:
        node = LoginNode(folder / "home", net, conf)
        stack.enter_context(_daemon(munged, node.env))
        _until(lambda: (control / "munge.socket").exists())
        stack.enter_context(_daemon(["/usr/sbin/slurmctld", "-D"], node.env))
        for host in net.hosts:
            host.ssh(f"slurmd -N {host.name} -f {conf}")
        _until(lambda: _states(node) == ["idle", "idle"])
        yield node


def _states(node: LoginNode) -> list[str]:
    words = ["sinfo", "--noheader", "--Node", "--format=%t"]
    asked = subprocess.run(words, env=node.env, capture_output=True, text=True, check=False)
    return asked.stdout.split()


@contextmanager
def _daemon(words: list[str], env: dict[str, str]) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, env=env, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=300)


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
