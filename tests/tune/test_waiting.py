"""A search as a process: it says what it waits for, and obeys from its first second to its last."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cluster.laptop import SPACE

TUNE = (
    str(Path(sys.executable).parent / "raygen"), "tune", "--space", "space.yaml",
    "--set", "budget.trials=2", "--set", "budget.kimg=2",
)  # fmt: skip

pytestmark = [pytest.mark.ray, pytest.mark.slow]


class Search:
    """`raygen tune` in a folder of its own."""

    def __init__(
        self, folder: Path, *words: str, process: Mapping[str, Any] | None = None, **env: str
    ) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "space.yaml").write_text(SPACE)
        home = folder / "home"
        home.mkdir(exist_ok=True)
        given = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": "/tmp", **env}
        self.folder, self.lines = folder, []
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [*TUNE, *words], cwd=folder, env=given, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, **(process or {}),
        )  # fmt: skip
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.said):
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.1)

    def end(self, seconds: float = 600) -> int:
        """Wait for its end; return the exit code. No traceback was printed."""
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"did not end in {seconds} s:\n{self.said}") from None
        self.reader.join(5)
        assert self.process.stdout is not None
        self.out = self.process.stdout.read().strip()
        assert "Traceback" not in self.said + self.out
        return code

    def left(self) -> str:
        """Processes of its session that are still there."""
        words = ["ps", "-s", str(self.process.pid), "-o", "pid=,args="]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def held(cluster: None) -> Iterator[str]:
    """The address of a cluster of which another job holds every CPU."""
    import ray

    @ray.remote(num_cpus=1)
    class Holder:
        def hold(self) -> bool:
            return True

    holders = [Holder.remote() for _ in range(int(ray.cluster_resources()["CPU"]))]
    ray.get([holder.hold.remote() for holder in holders])
    yield ray.get_runtime_context().gcs_address
    for holder in holders:
        ray.kill(holder)


def test_a_search_whose_trials_find_no_place_says_so_and_can_be_ended(
    held: str, tmp_path: Path
) -> None:
    given = ("--address", held)
    limited = Search(tmp_path / "limited", *given, "--time", "30s", RAY_AUTH_MODE="disabled")
    ended = Search(tmp_path / "ended", *given, RAY_AUTH_MODE="disabled")
    ended.wait_for(r"waiting for 1 CPU: 0 of 2 CPU are free \(\d+ s; Ctrl-C to stop\)")

    ended.process.terminate()

    assert ended.end(240) == 143, ended.said
    assert limited.end(240) == 1, limited.said
    assert ended.left() + limited.left() == ""


def test_a_signal_while_ray_starts_ends_it_with_its_own_code(tmp_path: Path) -> None:
    searches = {name: Search(tmp_path / name) for name in ("SIGINT", "SIGTERM")}
    for name, search in searches.items():
        search.wait_for("starting Ray on this machine")
        time.sleep(1.5)
        search.process.send_signal(getattr(signal, name))

    for name, search in searches.items():
        assert search.end(240) == 128 + getattr(signal, name), search.said
        assert f"{name}: stopped before the search started" in search.said
        deadline = time.monotonic() + 600
        while search.left():
            assert time.monotonic() < deadline, search.left()
            time.sleep(0.5)


def test_a_terminal_that_closes_saves_the_search_and_makes_its_page(tmp_path: Path) -> None:
    search = Search(tmp_path, "--set", "budget.kimg=400")
    search.wait_for("kimg  elbo")
    search.process.send_signal(signal.SIGHUP)

    assert search.end() == 128 + signal.SIGHUP
    assert (tmp_path / "reports" / "space.html").is_file()
    assert "resume with: raygen tune" in search.said


def nobody() -> dict[str, Any]:
    """Another user, if this is root and others may run this interpreter."""
    places = Path(sys.executable).resolve().parents
    able = os.getuid() == 0 and all(place.stat().st_mode & 0o001 for place in places)
    return {"user": 54321, "group": 54321, "extra_groups": []} if able else {}


def test_a_search_in_hostile_surroundings_ends_in_its_page(tmp_path: Path) -> None:
    for name in ("random", "queue", "types", "logging", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working folder')")
    (tmp_path / "raygen").mkdir()
    (tmp_path / "raygen" / "__init__.py").write_text("raise SystemExit('the wrong raygen')")
    long = tmp_path / ("temporary" * 10)
    long.mkdir()
    study = tmp_path / "runs" / "space"
    study.mkdir(parents=True)
    # What a killed process leaves behind; Optuna's own lock would be waited for without end.
    (study / "optuna.log.lock").symlink_to("optuna.log")

    for place in (tmp_path, tmp_path / "runs", long):
        place.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)

    search = Search(tmp_path, "--name", "other", process=nobody(), TMPDIR=str(long), HOME="/none")
    search.wait_for("starting Ray")
    assert search.process.stderr is not None
    os.close(os.dup(search.process.stderr.fileno()))
    code = search.end()

    assert code == 0, search.said
    assert (tmp_path / search.out).is_file()
    assert "lost" not in search.said


def test_a_log_that_cannot_be_written_ends_no_search(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": "/tmp"}
    command = " ".join(TUNE)
    # Its stderr is a pipe whose reader leaves after a line; its stdout a full disk.
    line = f"{{ {command} 2>&1 >/dev/full; echo $? >code; }} | head -n 1"
    subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, timeout=600, check=True)

    assert (tmp_path / "code").read_text().strip() == "0"
    assert (tmp_path / "reports" / "space.html").is_file()


def test_an_address_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        search = Search(tmp_path, RAY_ADDRESS=address)
        code = search.end(240)

    assert code == 4
    assert time.monotonic() - search.began < 240  # of its own; not for ever
    (line,) = (line for line in search.lines if line.startswith("error: "))
    assert f"Ray at {address} cannot be reached" in line
    assert "--address local" in line
    assert not (tmp_path / "runs").exists()


def test_sigterm_is_heard_while_ray_runs_and_after_it(tmp_path: Path) -> None:
    code = """
import os, signal, time
from raygen.cluster.connect import connected
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
with connected("local", lambda record: None):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(4)  # Ray's own handler aborts after three
os.kill(os.getpid(), signal.SIGTERM)
print(len(heard))
"""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": "/tmp"}
    process = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip

    assert (process.returncode, process.stdout) == (0, "2\n"), process.stderr
