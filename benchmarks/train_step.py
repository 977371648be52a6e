"""uv run python benchmarks/train_step.py [--quick]: images a second, raygen against a plain loop.

The plain loop is what one writes first: a DataLoader over PIL images with ToTensor, flip and
Normalize, float32, Adam with its defaults, a loop over parameters for the average, and `.item()` of
the losses in every step; the networks and the losses are the same. Both train in turns, and each
pair of turns gives one ratio. Then, in the same way, every fast path against raygen's plain
arithmetic, and every number of threads against one. `shares` are parts of a step's time, and an
evaluation of 1,000 samples in steps; `of_ceiling` is the rate of multiplications and additions in
convolutions and matrix products over that of one large matrix product on the same device, type and
threads. The last line is one JSON object: `ratio_<recipe>` is {"median", "min", "max"} of raygen's
images a second over the plain loop's.
"""

import argparse
import copy
import datetime
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from raygen.compute import Compute, best_device
from raygen.config import GanTrial, Trial, VaeTrial, parse_trial
from raygen.data import DataSpec, ImageData, load_data
from raygen.data.batches import Batches
from raygen.losses.adversarial import ADVERSARIAL
from raygen.metrics.evaluator import Evaluator
from raygen.train.loop import Learner, make_learner
from recipes import RECIPES, cpu_name

R1_R2 = {"name": "relativistic", "penalty": "r1_r2", "penalty_weight": 0.05}
# At the size of their papers, for a GPU; on a CPU those of recipes.py, about a tenth as wide.
FULL: dict[str, dict[str, Any]] = {
    "dcgan": {"family": "gan", "model": {"name": "dcgan"}},
    "sngan": {"family": "gan", "model": {"name": "sngan"}, "loss": {"name": "hinge"}},
    "biggan": {"family": "gan", "model": {"name": "biggan"}, "loss": {"name": "hinge"}},
    "r3gan": {"family": "gan", "model": {"name": "r3gan"}, "loss": R1_R2},
    "conv_vae": {"family": "vae", "model": {"name": "conv_vae"}},
    "ladder_vae": {
        "family": "vae",
        "model": {"name": "ladder_vae"},
        "loss": {"likelihood": "discretised_logistic_mixture"},
    },
}
COMPILED = ("dcgan", "conv_vae")  # on a CPU: the others take minutes to compile
BATCH = 64


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 gives them: PIL, then transforms."""

    def __init__(self, data: ImageData) -> None:
        self.images = data.train.images.permute(0, 2, 3, 1).numpy()
        self.labels = data.train.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Any = self.transform(Image.fromarray(np.asarray(self.images[index])))
        return image, self.labels[index]


def endless(data: ImageData, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the plain loop."""
    loader = DataLoader(Pictures(data), BATCH, shuffle=True, drop_last=True, num_workers=workers)
    while True:
        yield from loader


def plain_gan(trial: GanTrial, classes: int, data: Any, device: torch.device) -> Callable[[], int]:
    """Return one step of the plain loop of a GAN."""
    nets = trial.model.build(classes)
    generator, discriminator = nets.generator.to(device), nets.discriminator.to(device)
    average = copy.deepcopy(generator)
    loss = ADVERSARIAL[trial.loss.name]
    rates = trial.optimizer
    adams = [
        torch.optim.Adam(net.parameters(), lr, (rates.beta1, rates.beta2))
        for net, lr in (
            (generator, rates.generator_lr),
            (discriminator, rates.discriminator_lr),
        )
    ]

    def step() -> int:
        real, labels = (part.to(device) for part in next(data))
        noise = torch.randn(len(real), trial.model.latent_dim, device=device)
        fake = generator(noise, labels)
        adams[1].zero_grad()
        lost = loss.discriminator(discriminator(real, labels), discriminator(fake.detach(), labels))
        if trial.loss.penalty:
            lost = lost + trial.loss.penalty_weight * penalty(discriminator, real, fake, labels)
        lost.backward()
        adams[1].step()
        adams[0].zero_grad()
        scores = discriminator(real, labels).detach() if loss.pairs else lost
        fooled = loss.generator(scores, discriminator(fake, labels))
        fooled.backward()
        adams[0].step()
        update(average, generator)
        lost.item(), fooled.item()
        return len(real)

    return step


def penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, labels: Tensor) -> Tensor:
    """R1 and R2 as one writes them, with autograd differentiated twice."""
    total = torch.zeros((), device=real.device)
    for images in (real, fake.detach()):
        images = images.clone().requires_grad_()
        scores = discriminator(images, labels).sum()
        (slope,) = torch.autograd.grad(scores, images, create_graph=True)
        total = total + 0.5 * slope.square().sum(dim=(1, 2, 3)).mean()
    return total


def plain_vae(trial: VaeTrial, learner: Any, data: Any, device: torch.device) -> Callable[[], int]:
    """Return one step of the plain loop of a VAE."""
    vae = copy.deepcopy(learner.vae).to(device)
    average = copy.deepcopy(vae)
    adam = torch.optim.Adam(vae.parameters(), trial.optimizer.lr)

    def step() -> int:
        images, _ = (part.to(device) for part in next(data))
        noise = torch.randn(len(images), learner.latent_dim, device=device)
        log_prob, kls = vae(images, noise)
        likelihood, kl = log_prob.mean(), kls.sum(dim=1).mean()
        adam.zero_grad()
        (kl - likelihood).backward()
        nn.utils.clip_grad_norm_(vae.parameters(), trial.optimizer.clip)
        adam.step()
        update(average, vae)
        likelihood.item(), kl.item()
        return len(images)

    return step


@torch.no_grad()
def update(average: nn.Module, source: nn.Module) -> None:
    """The average as a loop over parameters."""
    for mine, other in zip(average.parameters(), source.parameters(), strict=True):
        mine.mul_(0.999).add_(other, alpha=0.001)


def ours(learner: Learner, batches: Batches) -> Callable[[], int]:
    """Return one step of raygen, with the loop's sums of the losses."""
    state: dict[str, Any] = {"position": 0, "sums": {}}

    def step() -> int:
        for name, value in learner.step(batches, state["position"]).items():
            state["sums"][name] = state["sums"].get(name, 0) + value
        state["position"] += learner.images_per_step
        return learner.images_per_step

    return step


def speed(step: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Images a second over at least `seconds`."""
    wait(device)
    images, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        images += step()
    wait(device)
    return images / (time.perf_counter() - began)


def wait(device: torch.device) -> None:
    """Let the device finish what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def shares(learner: Learner, batches: Batches, data: ImageData, device: torch.device) -> Any:
    """Return the seconds of a step, the share of its parts, and an evaluation of 1,000 in steps."""
    weight = torch.full((), learner.average.weight(10_000, BATCH), device=device)
    adams = [part for part in vars(learner).values() if isinstance(part, torch.optim.Adam)]
    parts = {
        "step": lambda at: learner.step(batches, at * learner.images_per_step),
        "data": lambda at: batches.at(at * BATCH),
        "optimiser": lambda at: [adam.step() for adam in adams],
        "average": lambda at: learner.average.update(trained(learner), weight),
    }
    seconds = {name: clocked(part, 20, device) for name, part in parts.items()}
    step = seconds.pop("step")
    found = {name: round(value / step, 4) for name, value in seconds.items()}
    metrics = ("elbo",) if isinstance(learner.trial, VaeTrial) else ("fd_classifier",)
    evaluator = Evaluator(metrics, data, 1000, device)
    evaluation = clocked(lambda _: evaluator(learner), 1, device)
    return {
        "seconds_per_step": round(step, 5),
        "shares": {"forward_backward": round(1 - sum(found.values()), 4), **found},
        "evaluation_of_1000_in_steps": round(evaluation / step, 1),
    }


def clocked(part: Callable[[int], Any], count: int, device: torch.device) -> float:
    """Seconds of one call, after one that is not counted."""
    part(0)
    wait(device)
    began = time.perf_counter()
    for at in range(count):
        part(at)
    wait(device)
    return (time.perf_counter() - began) / count


class Untracked:
    """In the place of the counter's tracker of modules, whose hooks torch.func.grad refuses."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End."""


def of_ceiling(learner: Learner, batches: Batches, device: torch.device) -> dict[str, float]:
    """Return operations a second of a step, of a large matrix product, and their ratio."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Untracked()  # pyright: ignore[reportAttributeAccessIssue]
    with counter:
        learner.step(batches, 0)
    operations = counter.get_total_flops()
    seconds = clocked(lambda at: learner.step(batches, at * learner.images_per_step), 20, device)
    size = 8192 if device.type == "cuda" else 2048
    kind = torch.bfloat16 if learner.arithmetic.bfloat16 else torch.float32
    matrix = torch.randn(size, size, device=device, dtype=kind)
    product = clocked(lambda _: matrix @ matrix, 10, device)
    reached, ceiling = operations / seconds / 1e9, 2 * size**3 / product / 1e9
    return {
        "gigaflops": round(reached, 1),
        "matrix_product_gigaflops": round(ceiling, 1),
        "share": round(reached / ceiling, 4),
    }


def trained(learner: Any) -> nn.Module:
    """The network whose average is kept."""
    return learner.generator if hasattr(learner, "generator") else learner.vae


def steps(trial: Trial, data: ImageData, device: torch.device, compute: Compute) -> Callable:
    """Return raygen's step of a fresh learner."""
    learner = make_learner(trial, len(data.classes), device, seed=0, compute=compute)
    return ours(learner, Batches(data.train, trial.batch_size, 0, device, trial.flip))


def versus(
    one: Callable[[], int], other: Callable[[], int], turns: int, seconds: float, device: Any
) -> dict[str, Any]:
    """Both in turns, after a warm-up: the ratio of each pair of turns, and the speeds."""
    for step in (one, other):
        step()  # compiles, where it is compiled
        speed(step, seconds / 4, device)
    pairs = [(speed(one, seconds, device), speed(other, seconds, device)) for _ in range(turns)]
    return {
        "ratio": spread([a / b for a, b in pairs]),
        "images_per_second": spread([a for a, _ in pairs]),
        "of_the_other": spread([b for _, b in pairs]),
    }


def measure(trial: Trial, data: ImageData, device: torch.device, turns: int, seconds: float) -> Any:
    """Return the ratios and speeds of one recipe, both loops in turns."""
    learner = make_learner(trial, len(data.classes), device, seed=0)
    batches = Batches(data.train, trial.batch_size, 0, device, trial.flip)
    source = endless(data, workers=0 if device.type == "cpu" else 8)
    if isinstance(trial, GanTrial):
        plain = plain_gan(trial, len(data.classes), source, device)
    else:
        plain = plain_vae(trial, learner, source, device)
    found = versus(ours(learner, batches), plain, turns, seconds, device)
    found["parameters"] = learner.parameters
    found["of_ceiling"] = of_ceiling(learner, batches, device)
    return found | shares(learner, batches, data, device)


PATHS = {
    "channels_last": Compute(precision="float32", channels_last=True, graph="off"),
    "bfloat16": Compute(precision="bfloat16", channels_last=False, graph="off"),
    "bfloat16, channels_last": Compute(precision="bfloat16", channels_last=True, graph="off"),
    "compiled": Compute(
        precision="float32", channels_last=False, tf32=False, compile=True, graph="off"
    ),
    "bfloat16, channels_last, compiled": Compute(
        precision="bfloat16", channels_last=True, compile=True, graph="off"
    ),
}
# On CUDA only: a step as one graph, alone and with all of the above.
GRAPHS = {
    "graph": Compute(precision="float32", channels_last=False, tf32=False, graph="on"),
    "as shipped": Compute(),
    "as shipped, compiled": Compute(compile=True),
}
PLAIN = Compute(precision="float32", channels_last=False, tf32=False, graph="off")


def fast_paths(
    trial: Trial,
    data: ImageData,
    device: torch.device,
    turns: int,
    seconds: float,
    compiled: bool,
) -> dict[str, Any]:
    """Every fast path against the plain arithmetic, in turns."""
    found = {}
    paths = {**PATHS, **GRAPHS} if device.type == "cuda" else PATHS
    for name, compute in paths.items():
        if compute.compile and not compiled:
            continue
        torch.compiler.reset()
        fast, plain = (steps(trial, data, device, c) for c in (compute, PLAIN))
        found[name] = versus(fast, plain, turns, seconds, device)["ratio"]
    return found


def thread_counts(trial: Trial, data: ImageData, turns: int, seconds: float) -> dict[str, Any]:
    """Images a second on the CPU with 1, 2, 4 ... threads, up to as many as there are cores."""
    device, before = torch.device("cpu"), torch.get_num_threads()
    counts = [2**k for k in range(10) if 2**k <= (os.cpu_count() or 1)]
    step = steps(trial, data, device, Compute())
    found: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(turns):
        for count in counts:
            torch.set_num_threads(count)
            found[count].append(speed(step, seconds, device))
    torch.set_num_threads(before)
    return {str(count): spread(values) for count, values in found.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short turns")
    parser.add_argument("--out", type=Path, help="also write the figures and the machine here")
    parser.add_argument("--recipes", nargs="*", default=list(FULL))
    parser.add_argument("--no-paths", action="store_true", help="only against the plain loop")
    chosen = parser.parse_args()
    device = best_device()
    data = load_data(DataSpec(source="shapes"))
    turns, seconds = (3, 3.0) if chosen.quick else (5, 6.0)
    figures: dict[str, Any] = {}
    for name in chosen.recipes:
        settings = FULL[name] if device.type == "cuda" else RECIPES[name].settings
        trial = parse_trial({**settings, "batch_size": BATCH})
        found = figures[name] = measure(trial, data, device, turns, seconds)
        ours, theirs = (found[key]["median"] for key in ("images_per_second", "of_the_other"))
        millions = found["parameters"] / 1e6
        print(
            f"{name:12} {millions:6.2f} M  {ours:8.0f} against {theirs:8.0f} images/s  "
            f"ratio {found['ratio']}",
            flush=True,
        )
        if chosen.no_paths:
            continue
        compiled = device.type == "cuda" or name in COMPILED
        found["paths"] = fast_paths(trial, data, device, turns, seconds, compiled)
        if device.type == "cpu":
            found["threads"] = thread_counts(trial, data, turns, seconds)
        print(json.dumps({key: found[key] for key in ("paths", "threads") if key in found}))
    result = {f"ratio_{name}": found["ratio"] for name, found in figures.items()}
    if chosen.out:
        name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
        machine = {"device": name, "cpus": os.cpu_count(), "torch": torch.__version__}
        machine["threads"] = torch.get_num_threads()
        when = datetime.date.today().isoformat()
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        whole = {"date": when, "machine": machine, "recipes": figures, **result}
        chosen.out.write_text(json.dumps(whole, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
