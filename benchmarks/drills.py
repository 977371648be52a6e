"""uv run python benchmarks/drills.py [--quick]: kill a search again and again; what is lost?

A search of small VAEs is started as users start it, killed with SIGKILL at random moments, and
started again with the same command, until it is through. The same search runs once undisturbed.
The last line is one JSON object.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

SPACE = """
family: vae
data: {source: shapes, limit: 512}
objective: elbo
evaluation: {metrics: [bits_per_dim], samples: 64}
budget: {trials: 12, kimg: 2.7}
scheduler: {name: asha, grace_kimg: 0.3, reduction_factor: 3}
sampler: {name: random}
finalists: {count: 2, seeds: 2}
checkpoints: {every_minutes: 0.01}
seed: 1
space:
  model: {latent_dim: 4, width: 4, depth: 0}
  optimizer: {lr: {float: [1.0e-4, 1.0e-2], log: true}}
  batch_size: 32
"""
Record = dict[str, Any]


class Kill(NamedTuple):
    """One kill: after how many records, what the journal ended with, and what it cost."""

    records: int
    last: str
    running: int  # trials in the middle of their training
    lost: int  # records that were there before and are not after
    again_kimg: float  # trained since the last checkpoint, and so trained again


def read(journal: Path) -> list[Record]:
    """Return the whole records; a torn last line is none."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1] if line.strip()]


def start(folder: Path, name: str, *more: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the search with the command that also goes on with it."""
    space = folder / "space.yaml"
    space.write_text(SPACE)
    command = [sys.executable, "-m", "raygen", "tune", "--space", space, "--name", name]
    log = (folder / f"{name}.log").open("ab")
    return subprocess.Popen(
        [*command, "--storage", folder, *more], cwd=folder, env=env, stdout=log, stderr=log
    )


def kill_often(folder: Path, kills: int, env: dict[str, str], *more: str) -> list[Kill]:
    """Kill the driver `kills` times, each time some records after it went on; then let it end."""
    draw = random.Random(0)
    journal = folder / "killed" / "journal.jsonl"
    rows: list[Kill] = []
    before: list[Record] = []
    for _ in range(kills):
        driver = start(folder, "killed", *more, env=env)
        wanted = len(before) + draw.randint(2, 9)
        while driver.poll() is None and len(read(journal)) < wanted:
            time.sleep(0.02)
        time.sleep(draw.random() * 0.5)
        if driver.poll() is not None:
            raise RuntimeError(f"the search ended by itself with {driver.returncode}, see its log")
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        after = read(journal)
        lost = sum(a != b for a, b in zip(before, after, strict=False))
        lost += max(0, len(before) - len(after))
        rows.append(Kill(len(after), after[-1]["kind"], len(unfinished(after)), lost, 0.0))
        before = after
    driver = start(folder, "killed", *more, env=env)
    driver.wait()
    done = read(journal)
    return [row._replace(again_kimg=trained_again(done, row.records)) for row in rows]


def unfinished(records: list[Record]) -> set[int]:
    """Trials that had started and not ended."""
    ended = {r["trial"] for r in records if r["kind"] == "end"}
    return {r["trial"] for r in records if r["kind"] == "start"} - ended


def trained_again(records: list[Record], at: int) -> float:
    """Return the reported kimg that the trials running at record `at` trained once more."""
    again = 0.0
    for trial in unfinished(records[:at]):
        told = [r["kimg"] for r in records[:at] if r["kind"] == "report" and r["trial"] == trial]
        later = [r for r in records[at:] if r["kind"] == "start" and r["trial"] == trial]
        if later:
            again += max(0.0, max(told, default=0.0) - later[0]["kimg"])
    return again


def outcome(records: list[Record]) -> dict[str, Any]:
    """What a search found, without when and where: equal for equal searches.

    A replicate is named by its finalist and its seed: which trials reach the final, and so which
    number repeats which of them, depends on who reports first.
    """
    names = {
        r["trial"]: f"{r['of']} with seed {r['seed']}" if "of" in r else str(r["trial"])
        for r in records
        if r["kind"] == "suggest"
    }
    values = {
        f"{names[r['trial']]} at {r['kimg']:g}": r["metrics"]
        for r in records
        if r["kind"] == "report"
    }
    reports = sum(r["kind"] == "report" for r in records)
    trials = [r["trial"] for r in records if r["kind"] == "suggest"]
    return {
        "values": values,
        "doubled": reports - len(values) + len(trials) - len(set(trials)),
        "trials": len(trials),
        "unfinished": len(unfinished(records)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6 kills in place of 20")
    kills = 6 if parser.parse_args().quick else 20
    folder = Path(tempfile.mkdtemp(prefix="drill-"))
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    rows = kill_often(folder, kills, env)
    killed = time.monotonic() - began
    began = time.monotonic()
    start(folder, "whole", env=env).wait()
    whole = time.monotonic() - began
    found, expected = (outcome(read(folder / n / "journal.jsonl")) for n in ("killed", "whole"))
    print(f"{'kill':>4} {'records':>8} {'last':>11} {'running':>8} {'lost':>5} {'kimg again':>11}")
    for number, row in enumerate(rows, start=1):
        print(
            f"{number:>4} {row.records:>8} {row.last:>11} {row.running:>8} {row.lost:>5} "
            f"{row.again_kimg:>11.3f}"
        )
    shared = found["values"].keys() & expected["values"].keys()
    figures = {
        "kills": len(rows),
        "records_lost": sum(row.lost for row in rows),
        "reports_or_trials_doubled": found["doubled"],
        "trials": found["trials"],
        "trials_left_unfinished": found["unfinished"],
        "reported_kimg_trained_again": sum(row.again_kimg for row in rows),
        "values_compared": len(shared),
        "values_that_differ": sum(found["values"][k] != expected["values"][k] for k in shared),
        "seconds_killed": round(killed, 1),
        "seconds_undisturbed": round(whole, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
