"""A real search by raygen and one by plain Ray Tune with Optuna, with the same wall time.

    uv run python benchmarks/live_search.py --data FOLDER --out benchmarks/results/live_search.json

Both search live_search.yaml on this machine with as many trials at once as it has cores, and train
by the same `fit`, once per seed. raygen is the command as it stands; the other is AsyncHyperBand
and OptunaSearch with a function trainable, as Ray's documentation has it. The configuration that
each recommends is trained again with new seeds, the same for all, and the mean of their best
values is what counts.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import torch

from raygen.config import Study
from raygen.config_file import load_space
from raygen.data import load_data
from raygen.metrics.evaluator import Evaluator, prepare
from raygen.space import sample
from raygen.training.loop import fit

SPACE = Path(__file__).parent / "live_search.yaml"
CPU = torch.device("cpu")


def run_raygen(
    name: str, data: str | None, settings: list[str], folder: Path, *words: str
) -> dict[str, Any]:
    """Search by the command; return what it recommends and what it did."""
    settings = [*settings, *([f"data.path={data}"] if data else [])]
    command = [
        str(Path(sys.executable).parent / "raygen"), "tune", "--space", str(SPACE), "-q",
        "--name", name, "--storage", str(folder), *words,
        *(part for setting in settings for part in ("--set", setting)),
    ]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    took = time.monotonic() - began
    from raygen.results import load_results, ranked

    results = load_results(folder / name)
    best = int(ranked(results).iloc[0]["trial"])
    return {
        "config": results.configs[best],
        "value": float(results.trials.set_index("trial")["value"][best]),
        "trials": len(results.trials),
        "kimg": results.spent("kimg"),
        "seconds": took,
    }


def raygen_search(data: str | None, seed: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Search by the command for so many seconds."""
    return run_raygen(f"live-{seed}", data, [f"seed={seed}"], folder, "--time", f"{seconds}s")


def ray_search(data: str | None, seed: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Search by Ray Tune with Optuna; return what it recommends and what it did."""
    import optuna
    import ray
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    study = the_study(data)
    spec = study.spec
    space = partial(configuration, study)

    def train(config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        bench = Bench(the_study(data))
        for progress in bench.fit(config["config"], seed):
            score = progress.scores.get(spec.objective)
            value = score.value if score else math.nan
            tune.report({"value": value, "kimg": progress.kimg})

    began = time.monotonic()
    ray.init(num_cpus=os.cpu_count(), log_to_driver=False, include_dashboard=False)
    search = OptunaSearch(space, "value", "min", sampler=optuna.samplers.TPESampler(seed=seed))
    scheduler: Any = AsyncHyperBandScheduler
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="value", mode="min", num_samples=-1, time_budget_s=seconds,
            search_alg=ConcurrencyLimiter(search, os.cpu_count() or 1),
            scheduler=scheduler("kimg", max_t=spec.budget.kimg, grace_period=spec.rungs[0],
                                reduction_factor=3),
        ),
        run_config=tune.RunConfig(storage_path=str(folder), name=f"ray-{seed}", verbose=0),
    )  # fmt: skip
    grid = tuner.fit()
    took = time.monotonic() - began
    ray.shutdown()
    best = grid.get_best_result("value", "min")
    kimg = [result.metrics.get("kimg", 0.0) for result in grid if result.metrics]
    assert best.config is not None
    assert best.metrics is not None
    return {
        "config": best.config["config"], "value": best.metrics["value"], "trials": len(grid),
        "kimg": float(sum(kimg)), "seconds": took,
    }  # fmt: skip


def configuration(study: Study, trial: Any) -> dict[str, Any]:
    """Ask an Optuna trial for one; a function of the module, since Ray pickles its searcher."""
    return {"config": sample(study.space, trial).config}


def the_study(data: str | None) -> Study:
    return load_space(SPACE, [f"data.path={data}"] if data else [])


class Bench:
    """Data and metrics, to train configurations with."""

    def __init__(self, study: Study) -> None:
        self.study, spec = study, study.spec
        self.data = load_data(spec.data)
        assets = prepare(spec.metrics, self.data, CPU)
        self.evaluator = Evaluator(spec.metrics, self.data, spec.evaluation.samples, CPU, assets)

    def fit(self, config: dict[str, Any], seed: int) -> Any:
        trial = self.study.trial(config)
        return fit(trial, self.data, self.evaluator, self.study.spec.milestones, seed)

    def best(self, config: dict[str, Any], seed: int) -> float:
        """The best value of a training that may break."""
        objective = self.study.spec.objective
        values = [p.scores[objective].value for p in self.fit(config, seed) if p.scores]
        return min(values, default=math.nan)


def compare(
    searches: Mapping[str, Callable[[int, Path], dict[str, Any]]],
    bench: Bench,
    arguments: argparse.Namespace,
    facts: dict[str, Any],
) -> None:
    """Search by each with every seed, train each winner again, and report: `facts` beside them."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in searches}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for name, search in searches.items():
                run = search(seed, Path(folder))
                run["again"] = [bench.best(run["config"], 1000 + k) for k in range(arguments.again)]
                runs[name].append(run)
                print(name, seed, {k: v for k, v in run.items() if k != "config"}, flush=True)
    report = {
        "mean": {name: mean(mean(run["again"]) for run in each) for name, each in runs.items()},
        "runs": runs,
        **facts,
        "data": "photographs" if arguments.data else "shapes",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }
    print(json.dumps(report["mean"]))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def make_parser(document: str | None) -> argparse.ArgumentParser:
    """The options of every comparison of searches."""
    parser = argparse.ArgumentParser(description=(document or "").partition("\n")[0])
    parser.add_argument("--data", help="images; default: drawn shapes")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each")
    parser.add_argument("--again", type=int, default=3, help="new seeds for each winner")
    parser.add_argument("--out", type=Path, help="also write the figures to this file")
    return parser


def path_of(arguments: argparse.Namespace) -> str | None:
    """Where the images are."""
    return str(Path(arguments.data).resolve()) if arguments.data else None


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=150, help="wall time of a search")
    arguments = parser.parse_args()
    data, seconds = path_of(arguments), arguments.seconds
    bench = Bench(the_study(data))  # also caches what the searches need
    searches = {
        "raygen": lambda seed, folder: raygen_search(data, seed, seconds, folder),
        "ray": lambda seed, folder: ray_search(data, seed, seconds, folder),
    }
    compare(searches, bench, arguments, {"seconds": seconds})


if __name__ == "__main__":
    main()
