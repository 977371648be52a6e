"""uv run python benchmarks/weak_scaling.py: images a second of DDP with 1, 2, 4 ... workers.

Every worker has the same batch, one CPU thread (or one GPU); the efficiency is the speed of k
workers over k times that of one. Weak scaling in turns: each turn starts every group once. The last
line is one JSON object.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raygen.data import DataSpec, load_data
from raygen.data.batches import Batches
from raygen.training.loop import make_learner
from raygen.trial import parse_trial
from recipes import RECIPES, cpu_name

BATCH = 64  # of each worker
CHOSEN = ("dcgan", "sngan", "conv_vae", "ladder_vae, mixture, free bits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=3, help="used by this script itself")
    chosen = parser.parse_args()
    if chosen.worker:
        rank, workers, folder = chosen.worker
        worker(int(rank), int(workers), Path(folder), chosen.seconds)
        return
    places = torch.cuda.device_count() if torch.cuda.is_available() else os.cpu_count() or 1
    sizes = [2**k for k in range(10) if 2**k <= places]
    found: dict[str, dict[int, list[float]]] = {name: {k: [] for k in sizes} for name in CHOSEN}
    for _ in range(chosen.turns):
        for size in sizes:
            for name, images in group(size, chosen.seconds).items():
                found[name][size].append(images)
    report: dict[str, Any] = {}
    for name, speeds in found.items():
        one = statistics.median(speeds[1])
        report[name] = {
            str(size): {
                "images_per_second": [round(value) for value in values],
                "efficiency": round(statistics.median(values) / size / one, 3),
            }
            for size, values in speeds.items()
        }
        print(f"{name:34} {report[name]}")
    cuda = torch.cuda.is_available()
    machine = {"device": torch.cuda.get_device_name() if cuda else cpu_name(), "places": places}
    result = {"date": datetime.date.today().isoformat(), "machine": machine, "recipes": report}
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def group(size: int, seconds: float) -> dict[str, float]:
    """Images a second over all workers of a group, by recipe."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--seconds", str(seconds), "--worker"]
        workers = [
            subprocess.Popen([*command, str(rank), str(size), folder]) for rank in range(size)
        ]
        try:
            assert [each.wait() for each in workers] == [0] * size
        finally:
            for each in workers:
                each.kill()
        return json.loads((Path(folder) / "speeds.json").read_text())


def worker(rank: int, size: int, folder: Path, seconds: float) -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    torch.set_num_threads(1)
    if size > 1:
        meet = f"file://{folder}/meet"
        dist.init_process_group("nccl" if cuda else "gloo", meet, rank=rank, world_size=size)
    data = load_data(DataSpec(source="shapes"))
    speeds = {}
    for name in CHOSEN:
        trial = parse_trial({**RECIPES[name].settings, "batch_size": BATCH * size})
        learner = make_learner(trial, len(data.classes), device, seed=0)
        batches = Batches(data.train, trial.batch_size, 0, device)
        steps = count_steps(learner, batches, device, seconds)
        speeds[name] = steps
    if rank == 0:
        (folder / "speeds.json").write_text(json.dumps(speeds))
    if size > 1:
        dist.destroy_process_group()


def count_steps(learner: Any, batches: Batches, device: torch.device, seconds: float) -> float:
    """Images a second over all workers: as many steps on each, agreed on beforehand."""
    position = 0

    def step() -> int:
        nonlocal position
        learner.step(batches, position)
        position += learner.images_per_step
        return learner.images_per_step

    step()
    began = time.perf_counter()
    for _ in range(3):
        step()
    each = torch.tensor([(time.perf_counter() - began) / 3])
    if dist.is_initialized():
        each = each.to(device)
        dist.all_reduce(each, dist.ReduceOp.MAX)
    count = max(3, int(seconds / float(each)))
    began = time.perf_counter()
    images = sum(step() for _ in range(count))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return images / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
