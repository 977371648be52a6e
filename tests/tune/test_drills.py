"""Drills: whole searches, started as users start them, and what befalls them killed or cut off."""

import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drills import SPACE, kill_often, outcome, read, start
from raygen.config_file import load_space
from raygen.journal import read_study
from raygen.results import load_results
from raygen.search.verify import verify
from tune.test_faults import free_cpus

NO_FINALISTS = ("--set", "finalists.count=0")
FOUR = ("--trials", "4")
pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """What a driver needs to know; its own home, one thread, no token."""
    return {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def head(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """A cluster that outlives its drivers; the environment in which they find it."""
    script = (
        "import ray, sys\n"
        "ray.init(address='local', num_cpus=2, log_to_driver=False, logging_level='ERROR')\n"
        "print(ray.get_runtime_context().gcs_address, flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=env,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    yield {**env, "RAY_ADDRESS": process.stdout.readline().strip()}
    process.communicate()


def wait_for(records: Callable[[], list[dict[str, Any]]], kind: str, seconds: float = 600) -> None:
    """Wait until a journal holds a record of a kind."""
    deadline = time.monotonic() + seconds
    while not any(record["kind"] == kind for record in records()):
        assert time.monotonic() < deadline, f"no {kind} within {seconds} s"
        time.sleep(0.05)


def test_a_driver_killed_at_two_moments_loses_doubles_and_redoes_nothing(
    tmp_path: Path, head: dict[str, str]
) -> None:
    rows = kill_often(tmp_path, 2, head, *FOUR)  # benchmarks/drills.py: twenty, and 12 trials
    start(tmp_path, "whole", *FOUR, env=head).wait()
    killed, whole = (read(tmp_path / name / "journal.jsonl") for name in ("killed", "whole"))
    found, expected = outcome(killed), outcome(whole)

    print("\n".join(map(str, rows)))
    assert sum(row.lost for row in rows) == 0
    assert found["doubled"] == 0
    assert found["unfinished"] == 0
    assert killed[-1]["state"] == "finished"
    # The decisions are those of the rules on this journal, as on one that was never interrupted.
    (tmp_path / "space.yaml").write_text(SPACE)
    study = load_space(tmp_path / "space.yaml", ["budget.trials=4"])
    assert verify(study, read_study(tmp_path / "killed")).suggestions == 4
    # Every number is the one of the undisturbed search, so no step was lost or done twice.
    shared = found["values"].keys() & expected["values"].keys()
    assert len(shared) >= 4
    assert {key: found["values"][key] for key in shared} == {
        key: expected["values"][key] for key in shared
    }
    for trial in {r["trial"] for r in killed if r["kind"] == "start"}:
        saved = 0.0
        for record in killed:
            if record.get("trial") != trial:
                continue
            if record["kind"] == "start":
                assert record["kimg"] >= saved  # at most what came after the last checkpoint
            if record["kind"] == "checkpoint" and record["role"] == "last":
                saved = record["kimg"]


def go_on(folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the command that the log of a search printed last."""
    printed = (folder / "study.log").read_text().rpartition("resume with: ")[2].splitlines()[0]
    log = (folder / "study.log").open("ab")
    command = [sys.executable, "-m", *shlex.split(printed)]
    return subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)


def test_signals_end_a_search_in_order_and_the_printed_command_goes_on(
    tmp_path: Path, head: dict[str, str]
) -> None:
    journal = tmp_path / "study" / "journal.jsonl"
    page = tmp_path / "reports" / "study.html"
    driver = start(tmp_path, "study", *FOUR, *NO_FINALISTS, env=head)
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)):
        before = len(read(journal))
        wait_for(lambda before=before: read(journal)[before:], "report")
        driver.send_signal(number)

        assert driver.wait(timeout=600) == code
        last = read(journal)[-1]
        assert (last["kind"], last["state"]) == ("close", "interrupted")
        page.unlink()  # it was made
        driver = go_on(tmp_path, head)

    # A second signal ends at once, and loses nothing that was reported.
    before = len(read(journal))
    wait_for(lambda: read(journal)[before:], "report")
    driver.send_signal(signal.SIGINT)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(timeout=300) in (130, 143)
    written = read(journal)
    assert go_on(tmp_path, head).wait() == 0
    records = read(journal)
    assert records[: len(written)] == written
    assert page.exists()
    assert outcome(records)["unfinished"] == 0
    assert outcome(records)["doubled"] == 0


def test_a_full_disk_ends_the_search_and_with_room_it_goes_on(
    tmp_path: Path, env: dict[str, str]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a disk")
    try:
        words = (*FOUR, *NO_FINALISTS, "--storage", str(disk))
        driver = start(tmp_path, "study", *words, env=env)
        assert driver.wait() == 4
        log = (tmp_path / "study.log").read_text()
        assert "No space left on device" in log
        assert "Traceback" not in log
        assert "resume with: " in log
        before = read(disk / "study" / "journal.jsonl")
        assert any(record["kind"] == "report" for record in before)

        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        assert start(tmp_path, "study", *words, env=env).wait() == 0
        after = read(disk / "study" / "journal.jsonl")
        assert after[: len(before)] == before
        assert outcome(after)["unfinished"] == 0
        assert outcome(after)["doubled"] == 0
    finally:
        subprocess.run(["umount", str(disk)], check=False)


COMMON = (
    inspect.getsource(free_cpus)
    + """
import json, sys
from pathlib import Path
import ray
from raygen.config_file import load_space
from raygen.study_folder import StudyFolder
from raygen.journal.records import Report, Start
from raygen.cluster.connect import RAY_SETTINGS
from raygen.tuning.run import run_study
root, settings = Path(sys.argv[1]), sys.argv[2:]
def search(disturb):
    study = load_space(root / "space.yaml", settings)
    facts = {"command": "drill", "space_file": "x"}
    outcome = run_study(study, StudyFolder(root / "study"), facts, None, disturb)
    print(json.dumps({"state": outcome.state, "ended": outcome.ended,
                      "cpus": free_cpus()}))
runtime_env = {"env_vars": RAY_SETTINGS}
"""
)
NOTICE = """
import threading, time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ray.cluster_utils import Cluster
from raygen.journal.records import Retry
from raygen.notices import Alive
going = {"/0": threading.Event(), "/1": threading.Event()}
class Metadata(BaseHTTPRequestHandler):  # of EC2, version 2: a place for each node
    def answer(self, code, text=""):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())
    def do_PUT(self):
        self.answer(200, "a-token")
    def do_GET(self):
        allowed = self.headers["X-aws-ec2-metadata-token"] == "a-token"
        ends = datetime.fromtimestamp(time.time() + 120, timezone.utc)
        action = {"action": "terminate", "time": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
        planned = going[self.path[:2]].is_set() and allowed
        self.answer(*(200, json.dumps(action)) if planned else (404,))
    def log_message(self, *words):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
threading.Thread(target=server.serve_forever, daemon=True).start()
place = f"http://127.0.0.1:{server.server_port}"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = {
    path: cluster.add_node(
        num_cpus=1, env_vars={"AWS_EC2_METADATA_SERVICE_ENDPOINT": place + path}
    )
    for path in going
}
ray.init(address=cluster.address, runtime_env=runtime_env, log_to_driver=False)
runs = {}
if "max" in " ".join(settings):  # a trial that grows starts beside somebody else's task
    @ray.remote(num_cpus=1)
    class Neighbour:
        def here(self):
            return True
    neighbour = Neighbour.remote()
    ray.get(neighbour.here.remote())
else:
    neighbour = None
def disturb(record):
    if isinstance(record, Report) and neighbour is not None and record.kimg < 0.5:
        ray.kill(neighbour)
    if isinstance(record, Start):
        stat = Path(f"/proc/{record.pid}/stat").read_text()
        runs["raylet"] = int(stat.rpartition(")")[2].split()[1])
    if isinstance(record, Alive) and "left" not in runs:
        runs["seen"] = record.images
    if isinstance(record, Retry):
        runs["left"] = record.time
        (root / "notice.json").write_text(json.dumps(runs))
    if isinstance(record, Alive) and record.images > 3000 and "told" not in runs:
        runs["told"] = time.time()
        for path, node in nodes.items():
            if node.all_processes["raylet"][0].process.pid == runs["raylet"]:
                going[path].set()
search(disturb)
"""
NO_DASHBOARD = """
ray.init(address="local", num_cpus=2, include_dashboard=False, runtime_env=runtime_env,
         log_to_driver=False)
search(lambda record: None)
"""

DYING = """
import os, signal, threading, time
from raygen.journal.records import Retry
ray.init(address="local", num_cpus=2, include_dashboard=False, runtime_env=runtime_env,
         log_to_driver=False)
retried = threading.Event()
def kill_workers():
    while not retried.wait(0.1):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ours = b"GLOO_SOCKET_IFNAME=nowhere0" in (process / "environ").read_bytes()
                name = (process / "cmdline").read_bytes()
                if ours and name.startswith(b"ray::RayTrainWorker"):
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:  # it ended meanwhile
                continue
threading.Thread(target=kill_workers, daemon=True).start()
def disturb(record):
    if isinstance(record, Retry):
        retried.set()
search(disturb)
"""


def run_script(folder: Path, script: str, *settings: str, env: dict[str, str]) -> dict[str, Any]:
    (folder / "space.yaml").write_text(SPACE)
    done = subprocess.run(
        [sys.executable, "-c", COMMON + script, str(folder), *settings],
        env=env, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    # Where a node was killed, Ray prints about it to stdout, too, and exits with 1 in the end.
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"state"')]
    assert len(lines) == 1, done.stderr
    return json.loads(lines[0])


GOING = ("its machine is to go in 1 min", "its machine is to go in 2 min")
LONG = (
    "budget.trials=1", "budget.kimg=12", "finalists.count=0", "scheduler.name=none",
    "checkpoints.every_minutes=10", "recovery.retries=0", "evaluation.every_kimg=6",
)  # fmt: skip


def test_a_spot_notice_moves_trials_with_nothing_lost_and_elastic_ones_change_their_size(
    tmp_path: Path, env: dict[str, str]
) -> None:
    single, elastic = tmp_path / "single", tmp_path / "elastic"
    more = ("resources.workers={min: 1, max: 2}", "budget.dollars=9", "resources.prices={CPU: 36}")
    for folder, settings in ((single, LONG), (elastic, (*LONG, *more))):
        folder.mkdir()
        found = run_script(folder, NOTICE, *settings, env=env)
        assert found["ended"] == {"completed": 1}

    records = read(single / "study" / "journal.jsonl")
    notice = json.loads((single / "notice.json").read_text())
    (retry,) = (record for record in records if record["kind"] == "retry")
    first, second = (record for record in records if record["kind"] == "start")
    assert retry["moved"]
    assert retry["reason"].startswith(GOING)
    # What goes on is what was saved when the notice came: nothing that was heard of is lost.
    assert first["kimg"] == 0
    assert second["kimg"] * 1000 >= max(notice["seen"], 3000)
    assert retry["time"] - notice["told"] < 90  # of 120
    assert outcome(records)["unfinished"] == 0

    resized = read(elastic / "study" / "journal.jsonl")
    grew, left = (record["reason"] for record in resized if record["kind"] == "retry")
    assert [r["workers"] for r in resized if r["kind"] == "start"] == [1, 2, 1]
    assert grew == "there is room for 2 workers"
    assert left.startswith(GOING)
    # Same batches, same numbers: those of a training by one worker, up to rounding.
    alone, together = (
        {at: values["bits_per_dim"] for at, values in outcome(each)["values"].items()}
        for each in (records, resized)
    )
    assert together == pytest.approx(alone, rel=1e-3)
    # A cent for each second of a worker, of whom there were two in the middle.
    study = load_results(elastic / "study")
    cents = 100 * study.trials["dollars"].sum()
    assert study.spent("seconds") < cents < 2 * study.spent("seconds")


def test_early_stops_of_ddp_trials_give_everything_back_without_a_dashboard(
    tmp_path: Path, env: dict[str, str]
) -> None:
    settings = ("resources.workers=2", "budget.trials=4", "finalists.count=0")
    found = run_script(tmp_path, NO_DASHBOARD, *settings, env=env)

    records = read(tmp_path / "study" / "journal.jsonl")
    # One group of workers for all trials.
    assert len({record["pid"] for record in records if record["kind"] == "start"}) == 1
    assert found["state"] == "finished"
    assert found["ended"].get("stopped", 0) >= 1
    assert sum(found["ended"].values()) == 4
    assert found["cpus"] == 2


def test_workers_that_die_as_they_start_or_cannot_reach_each_other_end_a_trial_as_lost(
    tmp_path: Path, env: dict[str, str]
) -> None:
    settings = ("resources.workers=2", "budget.trials=1", "finalists.count=0", "recovery.retries=1")
    wrong = {**env, "GLOO_SOCKET_IFNAME": "nowhere0"}
    found = run_script(tmp_path, DYING, *settings, env=wrong)

    retried, ended = (
        [record["reason"] for record in read(tmp_path / "study" / "journal.jsonl")
         if record["kind"] == kind]
        for kind in ("retry", "end")
    )  # fmt: skip
    assert found["ended"] == {"lost": 1}
    assert found["cpus"] == 2
    assert len(retried) == len(ended) == 1
    assert "nowhere0" not in retried[0]
    assert "nowhere0" in ended[0]
