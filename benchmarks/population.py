"""Population based training against ASHA, with as many training images.

    uv run python benchmarks/population.py --data FOLDER --out benchmarks/results/population.json

Both search live_search.yaml by `raygen tune` until `--kimg` thousand images have been trained on: a
population whose size times the budget of a trial is that, and ASHA with as many trials as fit. What
each recommends, for PBT with the schedule of its whole past, is trained again with new seeds, the
same for both.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from live_search import SPACE, Bench, the_study
from raygen.results import load_results, ranked


def search(name: str, settings: list[str], folder: Path) -> dict[str, Any]:
    """Search by the command; return what it recommends and what it did."""
    command = [
        str(Path(sys.executable).parent / "raygen"), "tune", "--space", str(SPACE), "-q",
        "--name", name, "--storage", str(folder),
        *(part for setting in settings for part in ("--set", setting)),
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    results = load_results(folder / name)
    best = int(ranked(results).iloc[0]["trial"])
    return {
        "config": results.configs[best],
        "value": float(results.trials.set_index("trial")["value"][best]),
        "trials": len(results.trials),
        "kimg": round(float((results.trials["kimg"] - results.trials["from_kimg"]).sum()), 6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", help="images; default: drawn shapes")
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="searches of each")
    parser.add_argument("--again", type=int, default=3, help="new seeds for each winner")
    parser.add_argument("--out", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    data = str(Path(arguments.data).resolve()) if arguments.data else None
    study = the_study(data)
    total = arguments.population * study.spec.budget.kimg
    bench = Bench(study)  # also caches what the searches need
    schedulers = {
        "asha": ["sampler.name=curve", f"budget.total_kimg={total:g}"],
        "pbt": [
            "scheduler={name: pbt}", "sampler.name=quasi_random",
            f"budget.trials={arguments.population}",
        ],
    }  # fmt: skip
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in schedulers}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for name, settings in schedulers.items():
                given = [f"seed={seed}", *([f"data.path={data}"] if data else []), *settings]
                run = search(f"{name}-{seed}", given, Path(folder))
                run["again"] = [bench.best(run["config"], 1000 + k) for k in range(arguments.again)]
                runs[name].append(run)
                print(name, seed, {k: v for k, v in run.items() if k != "config"}, flush=True)
    report = {
        "mean": {name: mean(mean(run["again"]) for run in each) for name, each in runs.items()},
        "runs": runs,
        "population": arguments.population,
        "data": "photographs" if data else "shapes",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }
    print(json.dumps(report["mean"]))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
