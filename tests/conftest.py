"""What all tests share: a private cache, no threads beyond one, and at most one Ray cluster."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported: two cores are shared with browsers, Ray and other workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before Ray is imported, by whichever test is first: as raygen.tune does it for its users.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")


@pytest.fixture(scope="session", autouse=True)
def private_places() -> Iterator[None]:
    """Keep tests out of the user's cache and home."""
    root = tempfile.mkdtemp(prefix="rg-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGEN_CACHE", f"{root}/cache")
        patch.setenv("HOME", root)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One Ray cluster with two CPUs, started once for all tests that need it."""
    import ray

    from raygen.tune.cluster import RAY_SETTINGS

    # A short path: Ray's sockets live in it, and their names have a length limit.
    root = tempfile.mkdtemp(prefix="rg-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**RAY_SETTINGS, "RAY_AUTH_MODE": "disabled"}.items():
            patch.setenv(key, value)
        ray.init(
            address="local",
            num_cpus=2,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=root,
            runtime_env={"env_vars": RAY_SETTINGS},
        )
        yield
        ray.shutdown()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def repository() -> Path:
    """Return the folder that holds README.md and search_spaces/."""
    return Path(__file__).parents[1]
