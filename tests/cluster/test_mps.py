"""The daemon of a shared GPU: the real protocol of locks and processes, with a stand-in for it."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

# As the real one: -f runs in the foreground, orders come on standard input of another call.
DAEMON = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES $*" >> "$CUDA_MPS_PIPE_DIRECTORY/../calls"
if [ "$1" = -f ]; then
    {fails}
    echo $$ > "$CUDA_MPS_PIPE_DIRECTORY/control"
    exec sleep 600
fi
read -r order
[ -e "$CUDA_MPS_PIPE_DIRECTORY/control" ] || exit 1
case "$order" in quit*) kill "$(cat "$CUDA_MPS_PIPE_DIRECTORY/control")";; esac
"""
CLIENT = """
import os, sys
from raygen.cluster import mps
mps.PROBE = [{probe!r}]
mps.START_SECONDS = {seconds}
print(mps.join("study") or "joined", flush=True)
print(os.environ.get("CUDA_MPS_PIPE_DIRECTORY"), flush=True)
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, first on PATH, on a machine with one GPU."""
    programs = tmp_path / "bin"
    programs.mkdir()
    executable(programs / "nvidia-smi", "#!/bin/sh\necho GPU-1234\n")
    executable(programs / "nvidia-cuda-mps-control", DAEMON.format(fails=""))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    return programs


def client(probe: str = "true", seconds: float = 60.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT.format(probe=probe, seconds=seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(3)]


def folder(programs: Path) -> Path:
    return programs.parent / f"raygen-mps-{os.getuid()}-study-GPU-1234"


def gone(path: Path, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not path.exists()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_processes_of_a_search_share_a_daemon_that_ends_with_the_last_however_it_ended(
    machine: Path,
) -> None:
    first, second = client(), client()
    told = said(first), said(second)
    daemon = int((folder(machine) / "control").read_text())
    first.kill()
    first.wait()
    time.sleep(0.5)
    outlived = alive(daemon)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()

    assert told == (["joined", str(folder(machine)), "GPU-1234"],) * 2
    assert outlived
    assert gone(folder(machine))
    assert not alive(daemon)
    assert (machine.parent / "calls").read_text().count("GPU-1234 -f") == 1


def test_whoever_comes_while_a_daemon_ends_has_one_all_the_same(machine: Path) -> None:
    for _ in range(2):
        process = client()
        assert said(process)[0] == "joined"
        process.kill()
        process.wait()  # its keeper may be ending the daemon when the next one comes
    assert gone(folder(machine))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("none", "nvidia-cuda-mps-control is not installed"),
        ("refuses", "nvidia-cuda-mps-control does not start: no permission"),
        ("computes not", "CUDA does not work under nvidia-cuda-mps-control: error 1 of CUDA"),
        ("no driver", "nvidia-smi does not name the GPU of this process"),
    ],
)
def test_without_a_daemon_a_process_says_why_in_one_line(
    machine: Path, fault: str, reason: str
) -> None:
    control = machine / "nvidia-cuda-mps-control"
    if fault == "none":
        control.unlink()
    if fault == "refuses":
        executable(control, DAEMON.format(fails="echo no permission; exit 1"))
    if fault == "no driver":
        executable(machine / "nvidia-smi", "#!/bin/sh\nexit 9\n")

    seconds = 3.0 if fault == "refuses" else 60.0
    probe = "false" if fault == "computes not" else "true"
    processes = [client(probe, seconds) for _ in range(2)]
    told = [said(process) for process in processes]
    for process in processes:
        process.kill()
        process.wait()

    assert [lines[0] for lines in told] == [reason, reason]
    if fault in ("refuses", "computes not"):  # CUDA looks where no daemon is
        assert told[0][1:] == [str(folder(machine)), "None"]
        # What was found by those that are gone is not believed: the cause may be mended.
        executable(control, DAEMON.format(fails=""))
        process = client()
        assert said(process)[0] == "joined"
        process.kill()
        process.wait()
        assert gone(folder(machine))


def test_a_process_that_its_user_gave_a_daemon_keeps_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/elsewhere")
    process = client()
    told = said(process)
    process.kill()
    process.wait()

    assert told[:2] == ["joined", "/elsewhere"]
    assert not (machine.parent / "calls").exists()


@pytest.mark.parametrize("victim", ["daemon", "keeper", "both"])
def test_what_dies_in_the_middle_is_started_again_for_the_next_and_still_ends(
    machine: Path, victim: str
) -> None:
    first = client()
    assert said(first)[0] == "joined"
    control = folder(machine) / "control"
    if victim in ("keeper", "both"):
        subprocess.run(["pkill", "-9", "-f", f"raygen.cluster.mps {folder(machine)}"], check=True)
    if victim in ("daemon", "both"):
        os.kill(int(control.read_text()), signal.SIGKILL)
        control.unlink()
    second = client()
    answer = said(second)[0]
    daemon = int(control.read_text())
    running = alive(daemon)
    for process in (first, second):
        process.kill()
        process.wait()

    assert answer == "joined"
    assert running
    assert gone(folder(machine))
    assert gone(Path(f"/proc/{daemon}"))


def test_what_a_crash_of_the_machine_left_is_no_daemon(machine: Path) -> None:
    folder(machine).mkdir(mode=0o700)
    for name in ("proven", "users", "joining", "keeper"):
        (folder(machine) / name).touch()
    (folder(machine) / "refused").write_text("a reason of last week")
    process = client()
    told = said(process)
    started = (folder(machine) / "control").exists()
    process.kill()
    process.wait()

    assert told[0] == "joined"
    assert started
    assert gone(folder(machine))


def test_a_link_in_the_place_of_the_folder_is_not_followed(machine: Path) -> None:
    precious = machine.parent / "precious"
    precious.mkdir()
    folder(machine).symlink_to(precious)
    process = client()
    told = said(process)
    process.kill()
    process.wait()

    assert told[0] == f"{folder(machine)} belongs to somebody else"
    assert list(precious.iterdir()) == []
