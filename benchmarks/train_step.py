"""uv run python benchmarks/train_step.py [--quick]: images a second, raygen against a plain loop.

The plain loop is what one writes first: a DataLoader over PIL images with ToTensor, flip and
Normalize, float32, Adam with its defaults, a loop over parameters for the average, and `.item()` of
the losses in every step; the networks and the losses are the same. Both train in turns, and each
pair of turns gives one ratio. On CUDA, for every batch size (--batches), so do raygen graphed and
one operation after another, the plain loop, and the loop that a good engineer would write: data on
the device, bfloat16, fused Adam, no `.item()`; raygen and the last one compiled, too (--compiled).
Then, in the same way, every fast path against raygen's plain arithmetic, and every number of
threads against one. `shares` are parts of a step's time, and an evaluation of 1,000 samples in
steps; `of_ceiling` is the rate of multiplications and additions in convolutions and matrix products
over that of one large matrix product on the same device, type and threads, and the rate of bytes
that the step's operations read and write over that of a large copy. The last line is one JSON
object: `ratio_<recipe>` is {"median", "min", "max"} of raygen's images a second over the plain
loop's.
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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from raygen.compute import Compute, best_device, compile_if
from raygen.data import DataSpec, ImageData, load_data
from raygen.data.batches import Batches
from raygen.image_shape import CIFAR10
from raygen.losses.adversarial import ADVERSARIAL
from raygen.metrics.evaluator import Evaluator
from raygen.schedules import value_at
from raygen.training.loop import Learner, make_learner
from raygen.trial import GanTrial, Trial, VaeTrial, parse_trial
from recipes import RECIPES, cpu_name

LAZY_R1 = {"penalty": "r1", "penalty_weight": 0.01, "penalty_interval": 16}
R1_R2 = {"name": "relativistic", "penalty": "r1_r2", "penalty_weight": 0.05}
# At the size of their papers, for a GPU; on a CPU those of recipes.py, about a tenth as wide.
FULL: dict[str, dict[str, Any]] = {
    "dcgan": {"family": "gan", "model": {"name": "dcgan"}},
    "sngan": {"family": "gan", "model": {"name": "sngan"}, "loss": {"name": "hinge"}},
    "biggan": {"family": "gan", "model": {"name": "biggan"}, "loss": {"name": "hinge"}},
    "r3gan": {"family": "gan", "model": {"name": "r3gan"}, "loss": R1_R2},
    "style_gan": {"family": "gan", "model": {"name": "style_gan"}, "loss": LAZY_R1},
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


def endless(data: ImageData, batch: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the plain loop."""
    loader = DataLoader(Pictures(data), batch, shuffle=True, drop_last=True, num_workers=workers)
    while True:
        yield from loader


def resident(data: ImageData, batch: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the good engineer: bytes on the device, drawn and flipped there."""
    images, labels = data.train.images.to(device), data.train.labels.to(device)
    while True:
        chosen = torch.randint(len(images), (batch,), device=device)
        real = images[chosen].float().div_(127.5).sub_(1)
        flipped = torch.rand(batch, 1, 1, 1, device=device) < 0.5
        yield torch.where(flipped, real.flip(3), real), labels[chosen]


def plain_gan(
    trial: GanTrial,
    classes: int,
    data: Any,
    device: torch.device,
    engineered: bool = False,
    compiled: bool = False,
) -> Callable[[], int]:
    """Return one step of the plain loop of a GAN, or of the good engineer's."""
    nets = trial.model.build(CIFAR10, classes)
    bare, critic = nets.generator.to(device), nets.discriminator.to(device)
    average = copy.deepcopy(bare)
    generator, discriminator = (compile_if(compiled, net) for net in (bare, critic))
    loss = ADVERSARIAL[trial.loss.name]
    settings = trial.optimizer
    betas = value_at(settings.beta1, 0.0), value_at(settings.beta2, 0.0)
    adams = [
        torch.optim.Adam(net.parameters(), value_at(lr, 0.0), betas, fused=engineered)
        for net, lr in ((bare, settings.generator_lr), (critic, settings.discriminator_lr))
    ]
    penalty_weight = value_at(trial.loss.penalty_weight or 0.0, 0.0)

    def step() -> int:
        real, labels = (part.to(device) for part in next(data))
        noise = torch.randn(len(real), trial.model.latent_dim, device=device)
        with bfloat16(device, engineered):
            fake = generator(noise, labels)
            logits = discriminator(real, labels), discriminator(fake.detach(), labels)
        adams[1].zero_grad()
        lost = loss.discriminator(*logits)
        if penalty_weight:
            lost = lost + penalty_weight * penalty(critic, real, fake, labels)
        lost.backward()
        adams[1].step()
        adams[0].zero_grad()
        with bfloat16(device, engineered):
            scores = discriminator(real, labels).detach() if loss.pairs else lost
            fooled = loss.generator(scores, discriminator(fake, labels))
        fooled.backward()
        adams[0].step()
        (follow if engineered else update)(average, bare)
        if not engineered:
            _ = lost.item(), fooled.item()
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


def plain_vae(
    trial: VaeTrial,
    learner: Any,
    data: Any,
    device: torch.device,
    engineered: bool = False,
    compiled: bool = False,
) -> Callable[[], int]:
    """Return one step of the plain loop of a VAE, or of the good engineer's."""
    bare = copy.deepcopy(learner.vae).to(device)
    average = copy.deepcopy(bare)
    vae = compile_if(compiled, bare)
    lr = value_at(trial.optimizer.lr, 0.0)
    adam = torch.optim.Adam(bare.parameters(), lr, fused=engineered)

    def step() -> int:
        images, _ = (part.to(device) for part in next(data))
        noise = torch.randn(len(images), learner.latent_dim, device=device)
        with bfloat16(device, engineered):
            log_prob, kls = vae(images, noise)
        likelihood, kl = log_prob.mean(), kls.sum(dim=1).mean()
        adam.zero_grad()
        (kl - likelihood).backward()
        nn.utils.clip_grad_norm_(bare.parameters(), trial.optimizer.clip)
        adam.step()
        (follow if engineered else update)(average, bare)
        if not engineered:
            _ = likelihood.item(), kl.item()
        return len(images)

    return step


@torch.no_grad()
def update(average: nn.Module, source: nn.Module) -> None:
    """The average as a loop over parameters."""
    for mine, other in zip(average.parameters(), source.parameters(), strict=True):
        mine.mul_(0.999).add_(other, alpha=0.001)


@torch.no_grad()
def follow(average: nn.Module, source: nn.Module) -> None:
    """The average in one launch."""
    torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
        list(average.parameters()), list(source.parameters()), 0.001
    )


def bfloat16(device: torch.device, enabled: bool) -> Any:
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


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
    weight = torch.full((), learner.average.weight(10_000, BATCH, 0.0), device=device)
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


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return result


def of_ceiling(learner: Learner, batches: Batches, device: torch.device) -> dict[str, float]:
    """Return operations a second of a step, of a large matrix product, and their ratio."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Untracked()  # pyright: ignore[reportAttributeAccessIssue]
    learner.run.wanted, wanted = False, learner.run.wanted
    with counter:
        learner.step(batches, 0)
    learner.run.wanted = wanted
    operations = counter.get_total_flops()
    seconds = clocked(lambda at: learner.step(batches, at * learner.images_per_step), 20, device)
    size = 8192 if device.type == "cuda" else 2048
    kind = torch.bfloat16 if learner.arithmetic.bfloat16 else torch.float32
    matrix = torch.randn(size, size, device=device, dtype=kind)
    product = clocked(lambda _: matrix @ matrix, 10, device)
    reached, ceiling = operations / seconds / 1e9, 2 * size**3 / product / 1e9
    learner.run.wanted, wanted = False, learner.run.wanted  # a graph shows no operations
    with Traffic() as traffic:
        learner.step(batches, 0)
    learner.run.wanted = wanted
    large = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device)
    copied = 2 * large.nbytes / clocked(lambda _: large.clone(), 10, device) / 1e9
    moved = traffic.bytes / seconds / 1e9
    return {
        "gigaflops": round(reached, 1),
        "matrix_product_gigaflops": round(ceiling, 1),
        "share": round(reached / ceiling, 4),
        # Above 1: caches and fused kernels spare memory what each operation by itself would move.
        "gigabytes": round(moved, 1),
        "copy_gigabytes": round(copied, 1),
        "share_of_copy": round(moved / copied, 4),
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
    plain = plain_loop(trial, learner, data, device)
    found = versus(ours(learner, batches), plain, turns, seconds, device)
    found["parameters"] = learner.parameters
    found["of_ceiling"] = of_ceiling(learner, batches, device)
    return found | shares(learner, batches, data, device)


def plain_loop(
    trial: Trial,
    learner: Learner,
    data: ImageData,
    device: torch.device,
    engineered: bool = False,
    compiled: bool = False,
) -> Callable[[], int]:
    """Return one step of the loop that one writes first, or of a good engineer's."""
    if engineered:
        source = resident(data, trial.batch_size, device)
    else:
        source = endless(data, trial.batch_size, workers=0 if device.type == "cpu" else 8)
    if isinstance(trial, GanTrial):
        classes = len(data.classes)
        return plain_gan(trial, classes, source, device, engineered, compiled)
    assert isinstance(trial, VaeTrial)
    return plain_vae(trial, learner, source, device, engineered, compiled)


def loops(
    trial: Trial,
    data: ImageData,
    device: torch.device,
    turns: int,
    seconds: float,
    compiled: bool,
) -> dict[str, Any]:
    """Images a second of every way to run a step of one recipe, in turns."""
    learner = make_learner(trial, len(data.classes), device, seed=0)
    ways = {
        "graphed": steps(trial, data, device, Compute(compile=False)),
        "one by one": steps(trial, data, device, Compute(compile=False, graph="off")),
        "plain loop": plain_loop(trial, learner, data, device),
        "engineer's loop": plain_loop(trial, learner, data, device, engineered=True),
    }
    if compiled:
        ways |= {
            "graphed, compiled": steps(trial, data, device, Compute(compile=True)),
            "engineer's loop, compiled": plain_loop(trial, learner, data, device, True, True),
        }
    for step in ways.values():
        for _ in range(8):  # compiles, and captures
            step()
    speeds = {name: list[float]() for name in ways}
    for _ in range(turns):
        for name, step in ways.items():
            speeds[name].append(speed(step, seconds, device))
    return {name: spread(values) for name, values in speeds.items()}


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
    parser.add_argument("--seconds", type=float, help="of a turn")
    parser.add_argument("--out", type=Path, help="also write the figures and the machine here")
    parser.add_argument("--recipes", nargs="*", default=list(FULL))
    parser.add_argument("--no-paths", action="store_true", help="only against the plain loop")
    parser.add_argument("--batches", nargs="*", type=int, default=[64, 128, 256], help="on CUDA")
    parser.add_argument("--compiled", nargs="*", default=list(FULL), help="recipes, on CUDA")
    chosen = parser.parse_args()
    device = best_device()
    data = load_data(DataSpec(source="shapes"))
    turns, seconds = (3, 3.0) if chosen.quick else (5, 6.0)
    seconds = chosen.seconds or seconds
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
        if device.type == "cuda":
            found["loops"] = {
                str(batch): loops(
                    parse_trial({**settings, "batch_size": batch}), data, device, turns, seconds,
                    name in chosen.compiled and batch == BATCH,
                )
                for batch in chosen.batches
            }  # fmt: skip
            print(json.dumps(found["loops"]), flush=True)
        if not chosen.no_paths:
            compiled = device.type == "cuda" or name in COMPILED
            found["paths"] = fast_paths(trial, data, device, turns, seconds, compiled)
            if device.type == "cpu":
                found["threads"] = thread_counts(trial, data, turns, seconds)
            print(json.dumps({key: found[key] for key in ("paths", "threads") if key in found}))
        if chosen.out:
            write(figures, device, chosen.out)  # so far, if it is cut off
    print(json.dumps(ratios(figures)))


def ratios(figures: dict[str, Any]) -> dict[str, Any]:
    return {f"ratio_{name}": found["ratio"] for name, found in figures.items()}


def write(figures: dict[str, Any], device: torch.device, out: Path) -> None:
    """Write the figures of the recipes, and of what machine they are."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
    machine = {"device": name, "cpus": os.cpu_count(), "torch": torch.__version__}
    machine["threads"] = torch.get_num_threads()
    when = datetime.date.today().isoformat()
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = {"date": when, "machine": machine, "recipes": figures, **ratios(figures)}
    out.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
