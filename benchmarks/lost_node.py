"""uv run python benchmarks/lost_node.py [--out FILE]: a node goes, with notice and without.

One trial trains on one of two nodes (Ray's, on this machine). In the middle of it that node is
drained, as a spot notice, Kubernetes or `ray drain-node` does, or killed without a word; the trial
goes on on the other. Seconds of training are lost where images that it had seen are trained again:
without notice, all of them since its last checkpoint, here its last milestone, as
`checkpoints.every_minutes` is too long to matter.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import ray
from ray.cluster_utils import Cluster

from drills import SPACE, read
from raygen.cluster.connect import RAY_SETTINGS
from raygen.cluster.preemption import Notice as Going
from raygen.cluster.preemption import drain
from raygen.config_file import load_space
from raygen.journal.records import Record, Retry, Start
from raygen.notices import Alive, Notice
from raygen.study_folder import StudyFolder
from raygen.tuning.run import run_study

SETTINGS = [
    "budget.trials=1", "budget.kimg=24", "finalists.count=0", "scheduler.name=none",
    "checkpoints.every_minutes=60", "evaluation.every_kimg=12",
]  # fmt: skip
AT = 18_000  # images seen when the node goes: in the middle between two milestones


def lose(folder: Path, notice: bool) -> dict[str, Any]:
    """Run the search and lose the node of its trial; what that cost."""
    (folder / "space.yaml").write_text(SPACE)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(cluster.address, runtime_env={"env_vars": RAY_SETTINGS}, log_to_driver=False)
    seen: list[tuple[float, int]] = []  # when, and how many images
    times: dict[str, float] = {}

    def hear(record: Record | Notice) -> None:
        now = time.monotonic()
        if isinstance(record, Start):
            stat = Path(f"/proc/{record.pid}/stat").read_text()
            times["raylet"] = int(stat.rpartition(")")[2].split()[1])
            if "goes" in times:
                times["again"] = now
        if isinstance(record, Retry):
            times["noticed"] = now
        if isinstance(record, Alive):
            if "again" in times:
                times.setdefault("trains", now)
            if "goes" not in times:
                seen.append((now, record.images))
                if record.images > AT:
                    times["goes"] = now
                    (home,) = (
                        node
                        for node in nodes
                        if node.all_processes["raylet"][0].process.pid == times["raylet"]
                    )
                    if notice:
                        drain(home.node_id, Going("it is to go", 120))
                    else:
                        cluster.remove_node(home, allow_graceful=False)

    try:
        study = load_space(folder / "space.yaml", SETTINGS)
        outcome = run_study(study, StudyFolder(folder / "study"), {}, None, hear)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert outcome.state == "finished"
    records = read(folder / "study" / "journal.jsonl")
    _, again = (record["kimg"] for record in records if record["kind"] == "start")
    since = [point for point in seen if point[1] >= 12_000]
    rate = (since[-1][1] - since[0][1]) / (since[-1][0] - since[0][0])
    return {
        "images_seen": seen[-1][1],
        "goes_on_at": round(1000 * again),
        "seconds_lost": round(max(0.0, seen[-1][1] - 1000 * again) / rate, 1),
        "seconds_until_it_left": round(times["noticed"] - times["goes"], 1),
        "seconds_until_it_trains_again": round(times["trains"] - times["goes"], 1),
        "images_per_second": round(rate),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for name in ("with notice", "without"):
        with tempfile.TemporaryDirectory(prefix="rg-") as place:
            figures[name] = lose(Path(place), notice=name == "with notice")
        print(name, figures[name], flush=True)
    figures |= {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine()}
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
