"""When does a distance that rises say that a GAN is lost?

    uv run python benchmarks/rises.py --data FOLDER --out benchmarks/results/rises.json

Small GANs of random rates, losses and norms train to their end, evaluated 24 times, and no sign
ends them. Then raygen.training.health judges their curves, with one limit after another: how many
trainings would each have ended, and how many of these improved on their best value later.
"""

import argparse
import datetime
import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from raygen.data import DataSpec, ImageData, load_data
from raygen.training import health
from raygen.training.loop import fit
from recipes import DCGAN, GAN, cpu_name, evaluator_of, metric_of, trial_of

KIMG = 12.0
EVALUATIONS = 24
RULES = ((1.5, 2), (1.5, 3), (1.5, 4), (1.75, 2), (2.0, 2), (health.RISE, health.LASTING))


def draw(generator: random.Random) -> dict[str, Any]:
    """Settings of a small GAN."""
    loss = generator.choice([
        {},
        {"name": "hinge"},
        {"name": "least_squares"},
        {"penalty": "r1", "penalty_weight": 1.0, "penalty_interval": 4},
    ])  # fmt: skip
    norm = "layer" if "penalty" in loss else generator.choice(["layer", "spectral", "none"])
    half_life = generator.choice([0.1, 0.5, 2])
    generator_lr, discriminator_lr = (
        math.exp(generator.uniform(math.log(2e-4), math.log(1e-2))) for _ in range(2)
    )
    return {
        **GAN,
        "model": {**DCGAN, "discriminator_norm": norm},
        "loss": loss,
        "ema": {"half_life_kimg": half_life},
        "optimizer": {
            "generator_lr": generator_lr, "discriminator_lr": discriminator_lr,
            "beta1": generator.choice([0.0, 0.5]),
        },
        "augment": generator.choice(["none", "color,translation,cutout"]),
    }  # fmt: skip


def curve(settings: dict[str, Any], data: ImageData, seed: int) -> list[float]:
    """The objective at each evaluation, whatever happens; nan where there is none."""
    for limit in ("PATIENCE", "LASTING"):
        setattr(health, limit, math.inf)
    trial = trial_of(settings)
    milestones = [round(KIMG * k / EVALUATIONS, 6) for k in range(1, EVALUATIONS + 1)]
    evaluator = evaluator_of(trial, data, 500)
    scores = [p.scores.get(metric_of(trial)) for p in fit(trial, data, evaluator, milestones, seed)]
    return [math.nan if score is None else score.value for score in scores]


def ended_at(values: list[float], rise: float, lasting: int) -> int | None:
    """The evaluation at which a trial ends, whose distance alone is a sign."""
    health.RISE, health.LASTING = rise, lasting
    samples = torch.arange(2, dtype=torch.uint8).view(2, 1, 1, 1)  # as varied as real images
    watch = health.Health(True, samples)
    signs = (watch.evaluation(value, samples, health.YOUNG, {}) for value in values)
    return next((place for place, sign in enumerate(signs) if sign is not None), None)


def judged(curves: list[list[float]]) -> Iterator[dict[str, Any]]:
    """What each rule makes of the curves."""
    for rise, lasting in RULES:
        ends = [(values, ended_at(values, rise, lasting)) for values in curves]
        ended = [(values[:at], values[at:]) for values, at in ends if at is not None]
        improved = sum(min(after) < min(before) for before, after in ended)
        yield {"rise": rise, "lasting": lasting, "ended": len(ended), "improved_later": improved}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", help="a folder of photographs; without it drawn shapes")
    parser.add_argument("--count", type=int, default=60, help="of GANs")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    data = load_data(DataSpec(source="shapes", path=chosen.data))
    generator = random.Random(5)
    report: dict[str, Any] = {
        "command": " ".join(["benchmarks/rises.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(), "machine": cpu_name(),
        "threads": torch.get_num_threads(), "data": data.name, "curves": [],
    }  # fmt: skip
    for seed in range(chosen.count):
        settings = draw(generator)
        values = curve(settings, data, seed)
        report["curves"].append({"settings": settings, "values": values})
        print(seed, " ".join(f"{value:.0f}" for value in values), file=sys.stderr, flush=True)
        report["rules"] = list(judged([each["values"] for each in report["curves"]]))
        if chosen.out:
            chosen.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for rule in report["rules"]:
        print(
            f"above {rule['rise']:g} times the best, {rule['lasting']} times in a row: "
            f"{rule['ended']} of {chosen.count} ended, {rule['improved_later']} improved later"
        )


if __name__ == "__main__":
    main()
