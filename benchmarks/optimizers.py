"""Adam against AdamW, Adamax and Muon, each at its best of several rates.

    uv run python benchmarks/optimizers.py --data FOLDER --out benchmarks/results/optimizers.json

Small networks of recipes.py train for the same images with every optimiser, rate and seed. Of each
optimiser the rate with the best median counts, and its values are printed: one seed more or less
changes a GAN by more than most of these differences.
"""

import argparse
import datetime
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from raygen.data import DataSpec, ImageData, load_data
from raygen.training.loop import fit
from recipes import ADAM0, RECIPES, cpu_name, evaluator_of, metric_of, trial_of

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
OPTIMIZERS = ("adam", "adamw", "muon", "adamax")  # the last for VAEs only
MODELS = {
    "dcgan": ("dcgan", {}),
    "sngan": ("sngan", ADAM0),
    "style_gan": ("style_gan", {"beta1": 0.0, "beta2": 0.99}),
    "conv_vae": ("conv_vae", {}),
    "ladder_vae": ("ladder_vae", {"decay": "cosine"}),
    "bottleneck_vae": ("ladder_vae, bottleneck, skip", {"decay": "cosine"}),
}


def settings(model: str, name: str, rate: float) -> dict[str, Any]:
    """A recipe with another optimiser and rate; all else is the recipe's."""
    recipe, more = MODELS[model]
    base = RECIPES[recipe].settings
    rates = (
        {"lr": rate}
        if base["family"] == "vae"
        else {"generator_lr": rate, "discriminator_lr": rate}
    )
    decay = {"weight_decay": 0.01} if name == "adamw" else {}
    return {**base, "optimizer": {**more, **rates, **decay, "name": name}}


def train(
    model: str, name: str, rate: float, seed: int, data: ImageData, kimg: float, samples: int
) -> dict[str, Any]:
    """The best of four evaluations, and the seconds of training."""
    trial = trial_of(settings(model, name, rate))
    evaluator = evaluator_of(trial, data, samples)
    milestones = [round(kimg * part / 4, 6) for part in range(1, 5)]
    began, evaluating = time.monotonic(), 0.0
    values = []
    for progress in fit(trial, data, evaluator, milestones, seed):
        evaluating += progress.evaluation_seconds
        if metric_of(trial) in progress.scores:
            values.append(progress.scores[metric_of(trial)].value)
    return {
        "rate": rate, "seed": seed, "value": min(values, default=None),
        "seconds": time.monotonic() - began - evaluating,
    }  # fmt: skip


def best_rate(runs: list[dict[str, Any]]) -> tuple[float, list[float]]:
    """The rate with the smallest median, and its values."""
    groups: dict[float, list[float]] = {}
    for run in runs:
        value = run["value"]
        groups.setdefault(run["rate"], []).append(float("inf") if value is None else value)
    return min(groups.items(), key=lambda item: statistics.median(item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", help="a folder of photographs; without it drawn shapes")
    parser.add_argument("--kimg", type=float, default=3.0)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--optimizers", nargs="*", choices=OPTIMIZERS, default=OPTIMIZERS)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    data = load_data(DataSpec(source="shapes", path=chosen.data))
    report: dict[str, Any] = {
        "command": " ".join(["benchmarks/optimizers.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(), "machine": cpu_name(),
        "threads": torch.get_num_threads(), "data": data.name, "kimg": chosen.kimg, "runs": {},
    }  # fmt: skip
    for model in chosen.only:
        vae = RECIPES[MODELS[model][0]].settings["family"] == "vae"
        for name in (name for name in chosen.optimizers if vae or name != "adamax"):
            runs = [
                train(model, name, rate, seed, data, chosen.kimg, chosen.samples)
                for rate in chosen.rates
                for seed in chosen.seeds
            ]
            report["runs"][f"{model}, {name}"] = runs
            rate, values = best_rate(runs)
            seconds = statistics.median(run["seconds"] for run in runs)
            said = ", ".join(f"{value:.4g}" for value in values)
            print(f"{model:14} {name:7} rate {rate:g}: {said}  ({seconds:.0f} s)", flush=True)
            if chosen.out:
                chosen.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
