"""What one more suggestion costs, after so many trials.

    uv run python benchmarks/suggestion_cost.py --out benchmarks/results/suggestion_cost.json

The space is search_spaces/gan.yaml; trials are stopped at its rungs as a search of 1/9, 1/3 and the
full budget would. CPU milliseconds of one thread, the mean and the worst of 24 suggestions in a
row, each of them added as running; a fit of the hyperparameters is among the worst.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import torch

from raygen.config import Study
from raygen.config_file import load_space
from raygen.search.sampler import Sampler
from raygen.space import sample

SPACE = Path(__file__).parents[1] / "search_spaces" / "gan.yaml"
COUNTS = {"curve": (100, 300, 1000, 3000, 10_000), "tpe": (100, 300, 1000, 3000, 10_000)}
DRAWS = 24


def filled(study: Study, trials: int) -> Sampler:
    """A sampler that has seen so many trials end; values fall with training, at random levels."""
    sampler = Sampler(study, "cost", None)
    random = np.random.default_rng(0)
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rungs = study.spec.rungs
    for number in range(trials):
        params = sample(study.space, draws.ask()).parameters
        rate = np.log10(params["optimizer.generator_lr"])
        level = 20 + 30 * (rate + 3.7) ** 2 + 5 * random.random()
        sampler.add(number, params, "design" if number % 3 == 0 else "curve")
        last = 3 if number % 9 == 0 else 2 if number % 3 == 0 else 1
        values = [level * (1 + 0.3 * rungs[-1] / rung / 9) for rung in rungs[:last]]
        for rung, value in zip(rungs, values, strict=False):
            sampler.report(number, rung, [value], [value])
        sampler.finish(number, "completed" if last == 3 else "stopped", values[-1:])
    return sampler


def cost(study: Study, trials: int) -> dict[str, float]:
    """Milliseconds of the next suggestions: mean, worst, and of the first, which reads all."""
    sampler = filled(study, trials)
    times = []
    for number in range(trials, trials + DRAWS):
        began = time.process_time()
        draw, by, kernel = sampler.draw(number)
        times.append(1e3 * (time.process_time() - began))
        sampler.add(number, draw.parameters, by, kernel)
    return {"mean": float(np.mean(times[1:])), "worst": max(times[1:]), "first": times[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    report: dict[str, Any] = {"milliseconds": {}}
    for name, counts in COUNTS.items():
        study = load_space(SPACE, [f"sampler.name={name}"])
        report["milliseconds"][name] = costs = {}
        for trials in counts:
            costs[trials] = {key: round(ms, 1) for key, ms in cost(study, trials).items()}
            print(name, trials, costs[trials], flush=True)
    report |= {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine()}
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
