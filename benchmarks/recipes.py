"""uv run python benchmarks/recipes.py [--data FOLDER]: do recipes learn, do bad ones end?

Every recipe, small enough for a CPU, trains for a short budget; its distance (or bits per
dimension) is measured before and after. Then settings that are bad on purpose train for four times
as long: each must end early, with the right reason, and no good one may. The last line is one JSON
object.
"""

import argparse
import datetime
import json
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from raygen.data import DataSpec, ImageData, load_data
from raygen.failure import why_useless
from raygen.metrics import METRICS
from raygen.metrics.evaluator import Evaluator
from raygen.training.loop import fit, make_learner
from raygen.trial import Trial, parse_trial

EMA = {"half_life_kimg": 0.5}
FAST = {"generator_lr": 1e-3, "discriminator_lr": 1e-3}
ADAM0 = {**FAST, "beta1": 0.0, "beta2": 0.9}
GAN = {"family": "gan", "ema": EMA, "batch_size": 32}
VAE = {"family": "vae", "ema": EMA, "batch_size": 32}
DCGAN = {"name": "dcgan", "width": 16, "latent_dim": 64}
CONV = {"name": "conv_vae", "width": 16, "latent_dim": 64}
STYLE = {"name": "style_gan", "width": 32, "latent_dim": 64}
STYLE_ADAM = {"generator_lr": 2.5e-3, "discriminator_lr": 2.5e-3, "beta1": 0.0, "beta2": 0.99}
LADDER = {"name": "ladder_vae", "width": 24, "latent_channels": 4, "layers": 1}


class Recipe(NamedTuple):
    """A configuration, and by how much it must improve within 1.5 kimg: before over after."""

    settings: dict[str, Any]
    factor: float


RECIPES = {
    "dcgan": Recipe({**GAN, "model": DCGAN, "optimizer": FAST}, 1.2),
    "dcgan, spectral norm, hinge": Recipe(
        {
            **GAN,
            "model": {**DCGAN, "discriminator_norm": "spectral"},
            "loss": {"name": "hinge"},
            "optimizer": FAST,
        },
        1.2,
    ),
    "dcgan, gradient penalty": Recipe(
        {
            **GAN,
            "model": {**DCGAN, "discriminator_norm": "layer"},
            "loss": {"name": "wasserstein", "penalty": "gradient_penalty", "penalty_weight": 10.0},
            "optimizer": {**ADAM0, "discriminator_steps": 2},
        },
        1.2,
    ),
    "dcgan, lazy R1, DiffAugment": Recipe(
        {
            **GAN,
            "model": {**DCGAN, "conditional": True},
            "loss": {"penalty": "r1", "penalty_weight": 1.0, "penalty_interval": 4},
            "augment": "color,translation,cutout",
            "optimizer": FAST,
        },
        1.2,
    ),
    "sngan": Recipe(
        {
            **GAN,
            "model": {"name": "sngan", "width": 32, "discriminator_width": 32},
            "loss": {"name": "hinge"},
            "optimizer": ADAM0,
        },
        5.0,
    ),
    "biggan": Recipe(
        {
            **GAN,
            "model": {
                "name": "biggan",
                "width": 8,
                "discriminator_width": 16,
                "embedding_dim": 32,
                "conditional": True,
            },
            "loss": {"name": "hinge"},
            "optimizer": ADAM0,
        },
        2.0,
    ),
    "r3gan": Recipe(
        {
            **GAN,
            "batch_size": 8,  # its blocks begin as identities: it needs steps more than images
            "model": {"name": "r3gan", "width": 32, "group_width": 8, "blocks": 1},
            "loss": {"name": "relativistic", "penalty": "r1_r2", "penalty_weight": 0.05},
            "optimizer": {**ADAM0, "beta2": 0.99, "decay": "cosine"},
        },
        1.1,
    ),
    "style_gan": Recipe(
        {
            **GAN,
            "model": STYLE,
            "loss": {"penalty": "r1", "penalty_weight": 0.01, "penalty_interval": 16},
            "optimizer": STYLE_ADAM,
        },
        1.5,
    ),
    "conv_vae": Recipe({**VAE, "model": CONV}, 1.1),
    "conv_vae, gaussian": Recipe({**VAE, "model": CONV, "loss": {"likelihood": "gaussian"}}, 1.03),
    "ladder_vae": Recipe({**VAE, "model": LADDER, "optimizer": {"decay": "cosine"}}, 1.05),
    "ladder_vae, mixture, free bits": Recipe(
        {
            **VAE,
            "model": LADDER,
            "loss": {
                "likelihood": "discretised_logistic_mixture",
                "free_bits": 1.0,
                "warmup_kimg": 1.0,
            },
        },
        1.04,
    ),
    "ladder_vae, bottleneck, skip": Recipe(
        {
            **VAE,
            "model": {**LADDER, "width": 48, "layers": 2, "block": "bottleneck"},
            "loss": {"likelihood": "discretised_logistic_mixture"},
            "optimizer": {"skip": 1.2e6},
        },
        1.04,
    ),
}


class Bad(NamedTuple):
    """Settings that cannot work, and how the reason to end them begins: any of these."""

    settings: dict[str, Any]
    reasons: tuple[str, ...]


NOT_FINITE = ("discriminator loss is", "generator loss is", "penalty is", "the objective is")
HOT = {"generator_lr": 2e-2, "discriminator_lr": 2e-2}
HOTTER = {"generator_lr": 0.1, "discriminator_lr": 0.1}
BAD = {
    "gan: generator rate 2e-6, 5 steps of the other": Bad(
        {
            **GAN,
            "model": DCGAN,
            "optimizer": {
                "generator_lr": 2e-6,
                "discriminator_lr": 1e-3,
                "discriminator_steps": 5,
            },
        },
        ("discriminator wins",),
    ),
    "gan: wasserstein, rates 0.02, no penalty": Bad(
        {**GAN, "model": DCGAN, "loss": {"name": "wasserstein"}, "optimizer": HOT},
        ("collapse", *NOT_FINITE),
    ),
    "gan: gradient penalty of weight 1e10": Bad(
        {
            **GAN,
            "model": DCGAN,
            "loss": {"name": "wasserstein", "penalty": "gradient_penalty", "penalty_weight": 1e10},
            "optimizer": HOT,
        },
        ("collapse", *NOT_FINITE),
    ),
    "gan: generator rate 0.2": Bad(
        {
            **GAN,
            "model": DCGAN,
            "optimizer": {"generator_lr": 0.2, "discriminator_lr": 2e-4},
        },
        ("collapse",),
    ),
    "style_gan: both rates 0.1": Bad(
        {**GAN, "model": STYLE, "optimizer": HOTTER}, ("discriminator wins", "collapse")
    ),
    "vae: beta 10,000": Bad({**VAE, "model": CONV, "loss": {"beta": 1e4}}, ("posterior collapse",)),
    "vae: rate 1": Bad(
        {**VAE, "model": CONV, "optimizer": {"lr": 1.0, "clip": 0.0}},
        ("log prob is", "kl is", "the objective is"),
    ),
    "ladder_vae: rate 1": Bad(
        {**VAE, "model": LADDER, "optimizer": {"lr": 1.0, "clip": 0.0}},
        ("log prob is", "kl is", "the objective is"),
    ),
}
# Broken within a budget that is too short for a sign in training: the ranking and the page tell.
BROKEN = {
    "gan: both rates 1000": {
        **GAN,
        "model": DCGAN,
        "optimizer": {"generator_lr": 1000.0, "discriminator_lr": 1000.0},
    },
    "gan: both rates 0.5": {
        **GAN,
        "model": DCGAN,
        "optimizer": {"generator_lr": 0.5, "discriminator_lr": 0.5},
    },
    "vae: rate 100": {**VAE, "model": CONV, "optimizer": {"lr": 100.0, "clip": 0.0}},
}
EVALUATIONS = 12  # of a budget
LONGEST = 0.5  # of its budget, for a bad one to be found out


def trial_of(settings: dict[str, Any]) -> Trial:
    return parse_trial(settings)


def metric_of(trial: Trial) -> str:
    return "fd_classifier" if trial.family == "gan" else "bits_per_dim"


def evaluator_of(trial: Trial, data: ImageData, samples: int) -> Evaluator:
    return Evaluator((metric_of(trial),), data, samples, torch.device("cpu"))


def learn(
    trial: Trial,
    data: ImageData,
    kimg: float,
    samples: int,
    seed: int,
    evaluations: int = EVALUATIONS,
) -> dict[str, Any]:
    """Train with an evaluation at equal parts of the budget; what came of it."""
    evaluator = evaluator_of(trial, data, samples)
    fresh = make_learner(trial, len(data.classes), torch.device("cpu"), seed)
    before = evaluator(fresh)[metric_of(trial)].value
    milestones = [round(kimg * k / evaluations, 6) for k in range(1, evaluations + 1)]
    began = time.perf_counter()
    found = list(fit(trial, data, evaluator, milestones, seed))
    scores = [progress.scores.get(metric_of(trial)) for progress in found]
    after = min((score.value for score in scores if score), default=float("nan"))
    best = next((p for p, s in zip(found, scores, strict=True) if s and s.value == after), None)
    guess = METRICS[metric_of(trial)].value_of_guess(data.image)
    return {
        # As a ranking and the page judge it, whatever training said.
        "useless": best is None or bool(why_useless(trial.family, best.variation, after, guess)),
        "variation": None if best is None else best.variation,
        "metric": metric_of(trial),
        "before": before,
        "after": after,
        "factor": before / after,
        "diverged": found[-1].diverged,
        "spent": found[-1].kimg / kimg,
        "million_parameters": fresh.parameters / 1e6,
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a folder of images; without it drawn shapes")
    parser.add_argument("--kimg", type=float, default=6.0, help="budget of the good recipes")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--only", nargs="*", help="these recipes or bad settings")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    data = load_data(DataSpec(source="shapes", path=chosen.data))
    report: dict[str, Any] = {"good": {}, "bad": {}}
    for name, recipe in RECIPES.items():
        if chosen.only and name not in chosen.only:
            continue
        found = learn(trial_of(recipe.settings), data, chosen.kimg, chosen.samples, seed=0)
        report["good"][name] = {**found, "needed": recipe.factor}
        print(f"{name:46} {_line(found)}", flush=True)
    for name, bad in BAD.items():
        if chosen.only and name not in chosen.only:
            continue
        report["bad"][name] = []
        for seed in (0, 1):
            found = learn(trial_of(bad.settings), data, 4 * chosen.kimg, chosen.samples, seed)
            report["bad"][name].append({**found, "expected": bad.reasons, "seed": seed})
            print(f"{name:46} {_line(found)}", flush=True)
    report["broken"] = {}
    for name, settings in BROKEN.items():
        if chosen.only and name not in chosen.only:
            continue
        found = learn(trial_of(settings), data, 0.75, chosen.samples, seed=0)
        report["broken"][name] = found
        print(f"{name:46} {_line(found)}  useless: {found['useless']}", flush=True)
    report["data"] = data.name
    report["kimg"] = chosen.kimg
    report["machine"] = {"device": cpu_name(), "threads": torch.get_num_threads()}
    report["date"] = datetime.date.today().isoformat()
    if chosen.out:
        chosen.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))


def cpu_name() -> str:
    """What the machine calls its processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "cpu"


def _line(found: dict[str, Any]) -> str:
    return (
        f"{found['million_parameters']:7.3f} M  {found['metric']:13} "
        f"{found['before']:9.4g} -> {found['after']:9.4g} ({found['factor']:.2f} x)  "
        f"{found['spent']:4.0%}  {found['seconds']:5.1f} s  {found['diverged'] or ''}"
    )


if __name__ == "__main__":
    main()
