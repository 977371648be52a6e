"""Searches over several nodes: raylets of their own on this machine, and storage that speaks S3."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raygen.data import load_data
from raygen.errors import ClusterError
from raygen.journal.records import Checkpoint, End, Report, Start
from raygen.journal.records import Record as JournalRecord
from raygen.notices import Machines, Notice, Phase
from raygen.results import load_results
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from raygen.storage import Storage, fetch
from raygen.study_folder import StudyFolder
from raygen.tuning.packing import settle
from raygen.tuning.run import run_study
from raygen.tuning.tuner import drive
from search.studies import make_study, written
from tune.test_faults import make, measured

pytestmark = [pytest.mark.ray, pytest.mark.slow]
STORE = 200_000_000  # bytes of object store of a node


class Nodes(NamedTuple):
    """A cluster of raylets, and how to add one."""

    cluster: Any
    add: Callable[..., Any]


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """A head without CPUs, and no node beside it."""
    import ray
    from ray.cluster_utils import Cluster

    from raygen.cluster.connect import RAY_SETTINGS

    ray.shutdown()  # the cluster of other tests: this one is another
    root = tempfile.mkdtemp(prefix="rg-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**RAY_SETTINGS, "RAY_AUTH_MODE": "disabled"}.items():
            patch.setenv(key, value)
        given = {"num_cpus": 0, "temp_dir": root, "object_store_memory": STORE}
        cluster = Cluster(True, head_node_args=given)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        ray.shutdown()
        cluster.shutdown()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def nodes(head: Any, tmp_path: Path, repository: Path) -> Iterator[Nodes]:
    """Workers are added by the test, each with a cache (its disk) of its own."""
    import ray

    def add(name: str, **resources: Any) -> Any:
        env = {"RAYGEN_CACHE": str(tmp_path / "disks" / name)}
        env["PYTHONPATH"] = str(repository / "benchmarks")
        return head.add_node(env_vars=env, object_store_memory=STORE, **resources)

    ray.init(head.address, log_to_driver=False, logging_level="ERROR")
    deadline = time.monotonic() + 600
    while sum(node["Alive"] for node in ray.nodes()) > 1:  # those of the test before
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield Nodes(head, add)
    ray.shutdown()
    for node in list(head.worker_nodes):
        head.remove_node(node)


def home_of(pid: int, raylets: dict[str, int]) -> str:
    """Return the worker whose raylet started a process."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return next(name for name, raylet in raylets.items() if raylet == parent)


def test_a_node_lost_in_the_middle_costs_what_came_after_its_last_checkpoint(
    nodes: Nodes, s3: str, tmp_path: Path
) -> None:
    workers = {name: nodes.add(name, num_cpus=1) for name in ("a", "b")}
    raylets = {n: w.all_processes["raylet"][0].process.pid for n, w in workers.items()}
    homes: dict[tuple[int, int], str] = {}  # by trial and attempt
    lost: list[str] = []

    def hear(record: JournalRecord | Notice) -> None:
        if isinstance(record, Start):
            homes[record.trial, record.attempt] = home_of(record.pid, raylets)
        if isinstance(record, Checkpoint) and record.role == "last" and not lost:
            lost.append(homes[record.trial, 1])
            nodes.cluster.remove_node(workers[lost[0]], allow_graceful=False)

    storage = Storage(f"{s3}/lost")
    folder = StudyFolder(tmp_path / "driver" / "lost")
    outcome = run_study(make(tmp_path), folder, {"command": "x"}, None, hear, storage=storage)

    records = written(fetch(storage.place) / "journal.jsonl")
    retry = next(r for r in records if r["kind"] == "retry")
    again = [r for r in records if r["kind"] == "start" and r["trial"] == retry["trial"]][-1]
    assert outcome.state == "finished"
    assert list(load_results(folder.root).trials["state"]) == ["completed"] * 2
    assert homes[retry["trial"], 1] != homes[retry["trial"], 2]  # on a disk that never saw it
    assert again["kimg"] >= retry["kimg"] > 0  # from its checkpoint, which came through S3
    measured(records)  # and nothing was told twice


def test_a_disk_that_the_nodes_do_not_share_is_refused_before_anything_starts(
    nodes: Nodes, tmp_path: Path
) -> None:
    told: list[JournalRecord | Notice] = []
    study = make(tmp_path, "resources.concurrent=2")  # no CPU is there: they are yet to come
    folder = StudyFolder(tmp_path / "study")

    with pytest.raises(ClusterError, match=r"is on a disk of this machine") as error:
        run_study(study, folder, {"command": "x"}, None, told.append)

    assert error.value.exit_code == 4
    assert {type(record) for record in told} == {Machines, Phase}
    assert not folder.root.exists()


def test_a_trial_of_two_workers_is_packed_onto_the_one_node_that_holds_both(
    nodes: Nodes, s3: str, tmp_path: Path
) -> None:
    from ray.util import placement_group_table

    spans: list[int] = []

    def hear(record: JournalRecord | Notice) -> None:
        if isinstance(record, Report):
            groups = [g for g in placement_group_table().values() if len(g["bundles"]) == 2]
            live = next(group for group in groups if group["state"] == "CREATED")
            spans.append(len(set(live["bundles_to_node_id"].values())))

    for name, cpus in (("a", 1), ("b", 1), ("c", 2)):
        nodes.add(name, num_cpus=cpus)
    study = make(tmp_path, "resources.workers=2", "budget.trials=1", "budget.kimg=0.5")
    folder = StudyFolder(tmp_path / "driver" / "packed")
    storage = Storage(f"{s3}/packed")
    outcome = run_study(study, folder, {"command": "x"}, None, hear, storage=storage)

    assert outcome.ended == {"completed": 1}
    assert set(spans) == {1}


def test_trials_of_half_a_gpu_share_one_and_a_node_that_joins_starts_those_that_wait(
    nodes: Nodes, tmp_path: Path
) -> None:
    from ray import tune

    from raygen.cluster.room import TrialSlots
    from raygen.journal.local import Journal
    from scale import Sleeper

    nodes.add("a", num_cpus=4, num_gpus=1)
    # Half a minute each: longer than two processes take to start on a busy machine.
    study = make_study(
        tmp_path, "resources={cpus: 1, gpus: 0.5}", "budget={trials: 6, kimg: 27}",
        "scheduler={name: none}",
    )  # fmt: skip
    told: list[Any] = []
    auto = study.spec.resources.model_copy(update={"gpus": "auto"})
    wanted = study._replace(spec=study.spec.model_copy(update={"resources": auto}))
    settled = settle(wanted, load_data(study.spec.data), told.append).spec.resources
    running: dict[int, str] = {}  # by trial: its GPU
    most = {1: 0, 2: 0}  # at once, by number of nodes with a GPU

    def hear(record: JournalRecord | Notice) -> None:
        if isinstance(record, Start):
            running[record.trial] = record.device
            nodes_now = 1 + ("b" in joined)
            most[nodes_now] = max(most[nodes_now], len(running))
        if isinstance(record, End):
            running.pop(record.trial)
            if not joined:
                nodes.add("b", num_cpus=4, num_gpus=1)
                joined.append("b")

    joined: list[str] = []
    with Journal(tmp_path / "journal.jsonl") as journal:
        sampler = Sampler(study, "test", None)
        controller = Controller(study, journal, sampler, hear)
        slots = TrialSlots(study.spec.resources)
        slots.EVERY = 0.5
        sleeper = tune.with_parameters(Sleeper, milestones=study.spec.milestones)
        drive(controller, sleeper, {"CPU": 1, "GPU": 0.5}, slots, tmp_path)

    ended = controller.ended()
    assert ended == {"completed": 6}
    assert most == {1: 2, 2: 4}
    # What Ray takes for GPUs are none: a measurement that fails leaves each trial a whole one.
    assert settled.gpus == 1
    assert "one trial could not be measured: " in told[-1].text
