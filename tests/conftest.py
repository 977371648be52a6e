"""What all tests share: a private cache, no threads beyond one, and at most one Ray cluster."""

import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

import object_store

# Before torch is imported: two cores are shared with browsers, Ray and other workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before Ray is imported, by whichever test is first: as raygen.tuning does it for its users.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
# Ray starts workers at niceness 15: beside another process of tests, which has 28 times their
# weight, a worker took 40 s to start instead of one.
os.environ.setdefault("RAY_worker_niceness", "0")

DEADLINE = pytest.StashKey[float]()
# Rooms in the order in which they start; what has no place in it, all that is short, starts at "".
# The longest start first, or one of them is left alone at the end; what starts last is skipped
# first on a slow machine.
ROOMS = ("hosts", "test_wholes", "ray", "test_inception", "", "test_recipes", "test_drills",
         "test_waiting")  # fmt: skip


@cache  # asked for every test
def room_of(file: Path) -> str:
    """What one process of `pytest -n 2` runs alone: a file, whose fixtures are then made once; all
    files that make hosts; all other files that need Ray, for one cluster."""
    if file.stem in ROOMS:
        return file.stem
    if "mark.ray" not in file.read_text(encoding="utf-8"):
        return str(file)
    return "hosts" if file.parent.name == "cluster" else "ray"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--within",
        type=float,
        metavar="MINUTES",
        help="start no test later than this; the rest is skipped, and says so",
    )


def pytest_configure(config: pytest.Config) -> None:
    within = config.getoption("--within")
    config.stash[DEADLINE] = float("inf") if within is None else time.monotonic() + 60 * within


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of garbage collection: a fifth of all CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if time.monotonic() > item.config.stash[DEADLINE]:
        pytest.skip(f"{item.config.getoption('--within'):g} minutes are over")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    class ByRoom(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return room_of(config.rootpath / nodeid.partition("::")[0])

    config.option.loadscopereorder = False  # in the order below
    return ByRoom(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In one of several processes: by room."""
    if hasattr(config, "workerinput"):
        order = {room: number for number, room in enumerate(ROOMS)}
        items.sort(key=lambda item: order.get(room_of(item.path), order[""]))


@pytest.fixture(scope="session", autouse=True)
def private_places() -> Iterator[None]:
    """Keep tests out of the user's cache and home."""
    root = tempfile.mkdtemp(prefix="rg-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGEN_CACHE", f"{root}/cache")
        patch.setenv("HOME", root)
        patch.delenv("RAY_ADDRESS", raising=False)
        # Where a cluster that somebody started on this machine would be found.
        patch.setenv("RAY_TMPDIR", root)
        Path(root, "ray").mkdir()
        yield
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[str]:
    """Where Ray keeps its files; what still runs there ends with the session."""
    # A short path: Ray's sockets live in it, and their names have a length limit.
    root = tempfile.mkdtemp(prefix="rg-", dir="/tmp")
    yield root
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(ray_folder: str) -> Iterator[None]:
    """One Ray cluster with two CPUs, which stays for the next module that needs it."""
    import ray

    from raygen.cluster.connect import RAY_SETTINGS

    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**RAY_SETTINGS, "RAY_AUTH_MODE": "disabled"}.items():
            patch.setenv(key, value)
        if not ray.is_initialized():
            ray.init(
                address="local",
                num_cpus=2,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=ray_folder,
                runtime_env={"env_vars": RAY_SETTINGS},
            )
        yield


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket on a server that speaks S3; the URI of a folder in it."""
    server = object_store.start()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in object_store.access(object_store.endpoint(server)).items():
            patch.setenv(key, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket="raygen-tests")
        yield "s3://raygen-tests/runs"
    server.stop()


@pytest.fixture(scope="module")
def gcs() -> Iterator[str]:
    """A bucket of an emulator of Google Cloud Storage; the URI of a folder in it."""
    server, settings = object_store.start_gcs("raygen-tests")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        yield "gs://raygen-tests/runs"
    server.stop()


@pytest.fixture
def repository() -> Path:
    """Return the folder that holds README.md and search_spaces/."""
    return Path(__file__).parents[1]
