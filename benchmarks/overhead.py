"""uv run python benchmarks/overhead.py [--quick]: what one more trial and one more report cost.

Five ways to run trials one after another, in one run on one cluster: a plain Ray Tune function with
a fresh and with a reused actor, Ray's documented nesting of a TorchTrainer in a Tune function, and
raygen with one and with two workers per trial. Ray's trials do nothing; raygen's train a very small
VAE, evaluate it and write its checkpoints, and the seconds that the trial itself counts are taken
off. The first trial of each way, which starts processes, is not counted.
The last line is one JSON object; values are {"median", "min", "max"} in seconds.
"""

import argparse
import datetime
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from raygen.cluster.connect import RAY_SETTINGS
from raygen.config_file import load_space
from raygen.journal import read_records
from raygen.journal.records import End, Report
from raygen.study_folder import StudyFolder
from raygen.tuning.run import run_study

REPORTS = 6
SPACE = """
family: vae
data: {{source: shapes, limit: 256}}
objective: elbo
evaluation: {{samples: 16, every_kimg: 0.032}}
budget: {{trials: {trials}, kimg: 0.192}}
scheduler: {{name: none}}
finalists: {{count: 0}}
resources: {{workers: {workers}, concurrent: 1}}
space:
  model: {{latent_dim: 4, width: 4, depth: 0}}
  optimizer: {{lr: {{float: [1.0e-4, 1.0e-2], log: true}}}}
  batch_size: 32
"""
Figures = dict[str, float]


def spread(values: list[float]) -> Figures:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


class Ends(tune.Callback):
    """When each trial ended, and when each result arrived."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.results: dict[str, list[float]] = {}

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
    ) -> None:
        self.results.setdefault(trial.trial_id, []).append(time.monotonic())

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self.ends.append(time.monotonic())


def nothing(config: dict[str, Any]) -> None:
    """Report and do nothing else."""
    for step in range(REPORTS):
        tune.report({"loss": config["lr"] + step})


def nothing_in_a_worker(config: dict[str, Any]) -> None:
    """As `nothing`, in a worker of Ray Train."""
    for step in range(REPORTS):
        ray.train.report({"loss": config["lr"] + step})


def nested(config: dict[str, Any]) -> None:
    """Ray's guide "Hyperparameter Tuning with Ray Tune": a TorchTrainer in a Tune function."""
    TorchTrainer(
        nothing_in_a_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            name=tune.get_context().get_trial_id(), callbacks=[TuneReportCallback()]
        ),
    ).fit()


def plain_ray(function: Any, trials: int, reuse: bool) -> tuple[list[float], list[float]]:
    """Seconds per extra trial and per report of a plain Ray Tune search."""
    ends = Ends()
    search = ConcurrencyLimiter(OptunaSearch(metric="loss", mode="min", seed=0), max_concurrent=1)
    tuner = tune.Tuner(
        function,
        param_space={"lr": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(search_alg=search, num_samples=trials, reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0, callbacks=[ends]),
    )
    tuner.fit()
    reports = [b - a for times in list(ends.results.values())[1:] for a, b in pairwise(times)]
    return [b - a for a, b in pairwise(ends.ends)], reports


def raygen(trials: int, workers: int) -> tuple[list[float], list[float]]:
    """As plain_ray, without the seconds that the trials themselves count."""
    root = Path(tempfile.mkdtemp())
    (root / "space.yaml").write_text(SPACE.format(trials=trials, workers=workers))
    folder = StudyFolder(root / "study")
    facts = {"command": "benchmarks/overhead.py", "space_file": "overhead"}
    run_study(load_space(root / "space.yaml"), folder, facts, None, lambda record: None)
    records = read_records(folder.journal)
    seconds: dict[int, float] = {}
    reports: list[float] = []
    last: dict[int, tuple[float, float]] = {}
    for record in records:
        if isinstance(record, Report):
            trial, now = record.trial, (record.time or 0.0, record.seconds)
            seconds[trial] = now[1]
            if trial in last and trial > 0:
                reports.append(now[0] - last[trial][0] - (now[1] - last[trial][1]))
            last[trial] = now
    ends = [(r.trial, r.time or 0.0) for r in records if isinstance(r, End)]
    return [b - a - seconds[trial] for (_, a), (trial, b) in pairwise(ends)], reports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    parser.add_argument("--out", type=Path, help="also write the figures and the machine here")
    chosen = parser.parse_args()
    few, many = (3, 6) if chosen.quick else (5, 20)
    os.environ.update(RAY_SETTINGS)
    # Four logical CPUs: a driver and two workers, whatever the machine has.
    ray.init(address="local", num_cpus=4, log_to_driver=False, logging_level=logging.ERROR)
    ways = {
        "ray_function_fresh": lambda: plain_ray(nothing, many, reuse=False),
        "ray_function_reused": lambda: plain_ray(nothing, many, reuse=True),
        "ray_train_nested": lambda: plain_ray(nested, few, reuse=False),
        "raygen_single": lambda: raygen(many, workers=1),
        "raygen_ddp": lambda: raygen(many, workers=2),
    }
    trials, reports = {}, {}
    for name, way in ways.items():
        extra, each = way()
        trials[name], reports[name] = spread(extra), spread(each)
        print(
            f"{name:22} one more trial {trials[name]['median']:8.3f} s, "
            f"one more report {reports[name]['median']:7.3f} s"
        )
    ray.shutdown()
    figures = {"seconds_per_extra_trial": trials, "seconds_per_report": reports}
    if chosen.out:
        machine = {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "ray": ray.__version__,
        }
        when = datetime.date.today().isoformat()
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps({"date": when, "machine": machine, **figures}, indent=2))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
