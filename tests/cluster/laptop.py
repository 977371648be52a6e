"""The user's machine, from which clusters are started and searched."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.hosts import Network

SPACE = """
family: vae
data: {source: shapes, limit: 256}
objective: elbo
evaluation: {samples: 64, every_kimg: 1}
budget: {trials: 4, kimg: 8}
scheduler: {name: none}
sampler: {name: random}
finalists: {count: 0}
seed: 1
space:
  model: {latent_dim: 4, width: 8, depth: 1}
  optimizer: {lr: {float: [1.0e-3, 1.0e-2], log: true}}
  batch_size: 32
"""
BIN = Path(sys.executable).parent


class Laptop:
    """The user's machine: a folder with a space and the cluster file, and a home of its own."""

    def __init__(self, folder: Path, net: Network, access: dict[str, str], file: str) -> None:
        """`access`: environment variables with which it reaches S3."""
        self.folder, self.net, self.file = folder, net, file
        self.workers = net.hosts[1:]
        self.env = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "RAY_TMPDIR": str(folder / "tmp"),
            "RAYGEN_CACHE": str(folder / "cache"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # as in tests/conftest.py
            **access,
        }
        self.times: dict[str, float] = {}
        for name in ("home/.ray", "tmp"):
            (folder / name).mkdir(parents=True)
        (folder / "space.yaml").write_text(SPACE)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, cwd=self.folder, env=self.env, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command to its end and return what it printed, both streams."""
        with self.timed(" ".join(words[:2])):
            done = self.start(*words)
            out, err = done.communicate(timeout=600)
        assert done.returncode == code, f"{' '.join(words)}: {done.returncode}\n{out}\n{err}"
        return out + err

    def tune(self, name: str, *more: str) -> list[str]:
        words = ["raygen", "tune", "--space", "space.yaml", "--cluster", self.file]
        return [*words, "--storage", "s3://raygen/runs", "--name", name, *more]

    def records(self, name: str) -> list[dict[str, Any]]:
        """The journal of a study as it is on the storage now."""
        from raygen.storage import Storage

        lines = Storage(f"s3://raygen/runs/{name}").records()
        return [json.loads(line) for line in lines]

    def wait(self, name: str, seen: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 600
        while True:
            records = self.records(name)
            if seen(records):
                return records
            assert time.monotonic() < deadline, [r["kind"] for r in records]
            time.sleep(0.5)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self.times[what] = took
        print(f"\n{what}: {took:.1f} s", flush=True)
