"""Hosts on this one machine: each with its own address, processes, mounts, name, disk and sshd.

A host is a network, PID, mount and UTS namespace; `ray stop` ends every Ray process that it sees,
so nothing less would do. Its home is a file system of its own, so what one host writes there no
other sees. The machine that runs the tests stands on the same bridge, as the user's laptop.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NET = "10.97.0"
TOOLS = ("ip", "unshare", "rsync", "ssh", "ssh-keygen", "nsenter")
SSHD = "/usr/sbin/sshd"


def require() -> None:
    """Skip the test, with a reason, where hosts cannot be made."""
    if os.getuid() != 0:
        pytest.skip("needs root, for namespaces")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    missing += [] if Path(SSHD).exists() else ["sshd"]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    tried = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], check=False)
    if tried.returncode:
        pytest.skip("this machine does not let its root make namespaces")


def run(*words: str) -> str:
    """Run a command to its end; return what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Host:
    """One host; `address` is its own."""

    def __init__(self, net: "Network", number: int) -> None:
        self.net, self.name, self.address = net, f"host{number}", f"{NET}.{10 + number}"
        self.space = f"{net.tag}h{number}"  # its network namespace
        self.home = net.folder / self.name
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Boot: the network first, then sshd as the first process."""
        veth = f"{self.net.tag}v{self.name[-1]}"
        run("ip", "netns", "add", self.space)
        run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        run("ip", "link", "set", veth, "master", self.net.bridge, "up")
        inside = ("ip", "netns", "exec", self.space, "ip")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", f"{NET}.1")
        self.home.mkdir(exist_ok=True)
        boot = self.net.folder / f"{self.name}.sh"
        boot.write_text(self._boot())
        words = ["ip", "netns", "exec", self.space]
        words += [
            "unshare",
            "--pid",
            "--fork",
            "--mount",
            "--uts",
            "--kill-child",
            "bash",
            str(boot),
        ]
        log = (self.net.folder / f"{self.name}.log").open("wb")
        self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while self.ssh("true", check=False).returncode:
            assert time.monotonic() < deadline, (self.net.folder / f"{self.name}.log").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Cut the power: every process of the host is gone at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ssh(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the host."""
        options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
        words = ["ssh", "-i", str(self.net.key), "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=3"]
        return subprocess.run(
            [*words, *options, f"root@{self.address}", command],
            capture_output=True, text=True, check=check, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def processes(self) -> list[str]:
        """The commands that run on the host, without those of this question."""
        listed = self.ssh("ps -eo args= --no-headers").stdout.splitlines()
        return [line for line in listed if "sshd" not in line and "ps -eo" not in line]

    def _boot(self) -> str:
        venv = Path(sys.executable).parents[1]
        names = "".join(f"{host.address} {host.name}\\n" for host in self.net.hosts)
        return f"""set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs {self.home}
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs -o size=4g tmpfs /dev/shm
sed 's#^root:.*#root:x:0:0:root:{self.home}:/bin/bash#' /etc/passwd > {self.home}/passwd
mount --bind {self.home}/passwd /etc/passwd
hostname {self.name}
# Or every look-up of a name waits 10 s for a server that cannot be reached: 20 s of `ray start`.
printf '127.0.0.1 localhost\n{names}' > {self.home}/hosts
: > {self.home}/resolv.conf
for file in hosts resolv.conf; do mount --bind {self.home}/$file /etc/$file; done
mkdir -p /run/sshd {self.home}/.ssh {self.home}/.local/bin
echo 'export {self.net.profile}' > {self.home}/.profile
cp {self.net.key}.pub {self.home}/.ssh/authorized_keys
chmod 700 {self.home} {self.home}/.ssh && chmod 600 {self.home}/.ssh/authorized_keys
# What installs packages: there is no network here, so it makes the one environment that there is.
printf '#!/bin/sh\\n[ "$1" != venv ] || ln -sfn {venv} ~/venv\\n' > {self.home}/.local/bin/uv
chmod +x {self.home}/.local/bin/uv
cd /
export HOME={self.home}
exec env -i HOME=$HOME PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin \\
  {SSHD} -D -e -f {self.net.folder}/sshd.conf
"""


NETWORKS = itertools.count()


class Network:
    """A bridge, the hosts on it, and the keys that open them."""

    def __init__(self, folder: Path, hosts: int, profile: dict[str, str] | None = None) -> None:
        """`profile`: environment variables of everybody who logs in."""
        # Not that of the network before: its devices go a while after they were deleted.
        self.folder, self.tag = folder, f"rg{os.getpid() % 100000}n{next(NETWORKS)}"
        self.bridge, self.key = f"{self.tag}b", folder / "id"
        self.hosts = [Host(self, number) for number in range(hosts)]
        profile = {"RAY_worker_niceness": "0"} | (profile or {})  # as in tests/conftest.py
        self.profile = " ".join(f"{key}={value}" for key, value in profile.items())

    def __enter__(self) -> "Network":
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("id", "host_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name))
        (self.folder / "sshd.conf").write_text(
            f"Port 22\nHostKey {self.folder}/host_key\nPidFile none\nPasswordAuthentication no\n"
            "UsePAM no\nStrictModes no\nPermitRootLogin yes\nPermitUserEnvironment no\n"
            "MaxStartups 100\nMaxSessions 100\n"
        )
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{NET}.1/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        try:
            for host in self.hosts:
                host.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *ended: object) -> None:
        for host in self.hosts:
            host.kill()
            subprocess.run(["ip", "netns", "del", host.space], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)
