"""uv run python benchmarks/packing.py: images a second of 1, 2, 4 trials that share one device.

Each trial is a process of its own, as under Ray. On a GPU all are on the first one (as with
`resources.gpus=0.5` or `0.25`), taking turns and under NVIDIA's MPS, where that can be had; on a
CPU they divide its threads (as with `resources.cpus`). They
start each recipe together and train for the same seconds; the gain is the sum of their speeds over
the speed of one trial that has the device to itself. Every turn measures every number of trials.
The last line is one JSON object.
"""

import argparse
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raygen.cluster import mps
from raygen.compute import Compute
from raygen.data import DataSpec, load_data
from raygen.trial import parse_trial
from recipes import RECIPES, cpu_name
from train_step import FULL, steps, wait

TOGETHER = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one turn of two seconds, two recipes")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=4, help="used by this script itself")
    chosen = parser.parse_args()
    turns, seconds = (1, 2.0) if chosen.quick else (3, 5.0)
    names = ["dcgan", "conv_vae"] if chosen.quick else list(FULL)
    if chosen.worker:
        rank, trials, folder, sharing = chosen.worker
        print(json.dumps(worker(int(rank), int(trials), folder, sharing, names, seconds)))
        return
    cuda = torch.cuda.is_available()
    report: dict[str, Any] = {}
    for sharing in ("in turns", "by MPS") if cuda else ("of threads",):
        speeds = {name: {k: list[float]() for k in TOGETHER} for name in names}
        megabytes: dict[int, float] = {}
        refused = ""
        for _ in range(turns):
            for trials in TOGETHER:
                answers = group(trials, sharing, chosen.quick)
                for name in names:
                    speeds[name][trials].append(sum(each["speeds"][name] for each in answers))
                megabytes[trials] = sum(each["megabytes"] for each in answers)
                refused = answers[0]["refused"]
        rows = {name: gains(of_recipe) for name, of_recipe in speeds.items()}
        sizes = {str(trials): round(value) for trials, value in megabytes.items()}
        report[sharing] = {"recipes": rows, "megabytes": sizes, "refused": refused}
        for name, row in rows.items():
            print(f"{sharing}: {name:12} {row}")
    name = torch.cuda.get_device_name() if cuda else cpu_name()
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"device": name, "cpus": os.cpu_count(), "torch": torch.__version__},
        "sharing": report,
    }
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def gains(speeds: dict[int, list[float]]) -> dict[str, Any]:
    """Speed of all trials together, and how many times that of one, turn by turn."""
    rows = {}
    for trials, values in speeds.items():
        ratios = [value / one for value, one in zip(values, speeds[1], strict=True)]
        rows[str(trials)] = {
            "images_per_second": round(statistics.median(values)),
            "gain": {
                "median": round(statistics.median(ratios), 3),
                "min": round(min(ratios), 3),
                "max": round(max(ratios), 3),
            },
        }
    return rows


def group(trials: int, sharing: str, quick: bool) -> list[dict[str, Any]]:
    """Run so many trials at once; what each of them measured."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *["--quick"] * quick, "--worker"]
        workers = [
            subprocess.Popen(
                [*command, str(rank), str(trials), folder, sharing],
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(trials)
        ]
        try:
            told = [each.communicate()[0] for each in workers]
            assert [each.returncode for each in workers] == [0] * trials
        finally:
            for each in workers:
                each.kill()
        return [json.loads(text.splitlines()[-1]) for text in told]


def worker(
    rank: int, trials: int, folder: str, sharing: str, names: list[str], seconds: float
) -> dict[str, Any]:
    refused = mps.join("packing") if sharing == "by MPS" else ""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // trials))
    data = load_data(DataSpec(source="shapes"))
    meeting = dist.FileStore(str(Path(folder) / "meet"), trials)  # pyright: ignore
    speeds = {}
    for name in names:
        full = FULL[name]
        trial = parse_trial({**(full if cuda else RECIPES[name].settings), "batch_size": 64})
        step = steps(trial, data, device, Compute(compile=False))
        for _ in range(8):  # warm-up, capture
            step()
        wait(device)
        meeting.add(name, 1)
        while meeting.add(name, 0) < trials:
            time.sleep(0.01)
        images, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            images += step()
            wait(device)  # a queue of steps would go on after the others have stopped
        speeds[name] = images / (time.perf_counter() - began)
    peak = torch.cuda.max_memory_reserved() / 2**20 if cuda else 0.0
    peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"speeds": speeds, "megabytes": peak, "refused": refused}


if __name__ == "__main__":
    main()
