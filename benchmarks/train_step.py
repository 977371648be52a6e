"""uv run python benchmarks/train_step.py [--quick]: images a second, raygen against a plain loop.

The plain loop is what one writes first: a DataLoader over PIL images with ToTensor, flip and
Normalize, float32, Adam with its defaults, a loop over parameters for the average, and `.item()` of
the losses in every step; the networks and the losses are the same. Both train in turns, and each
pair of turns gives one ratio. The last line is one JSON object: `ratio_<recipe>` is {"median",
"min", "max"} of raygen's images a second over the plain loop's.
"""

import argparse
import copy
import datetime
import json
import os
import platform
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
from torchvision import transforms

from raygen.config import GanTrial, Trial, VaeTrial, parse_trial
from raygen.data import DataSpec, ImageData, load_data
from raygen.data.batches import Batches
from raygen.losses.adversarial import ADVERSARIAL
from raygen.losses.elbo import gaussian_kl
from raygen.metrics.evaluate import Evaluator
from raygen.train.loop import Learner, make_learner

RECIPES: dict[str, dict[str, Any]] = {
    "dcgan": {"family": "gan", "model": {"name": "dcgan"}},
    "sngan": {"family": "gan", "model": {"name": "sngan"}, "loss": {"name": "hinge"}},
    "conv_vae": {"family": "vae", "model": {"name": "conv_vae"}},
}
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
        lost.backward()
        adams[1].step()
        adams[0].zero_grad()
        fooled = generator_loss(loss, discriminator, fake, labels, real)
        fooled.backward()
        adams[0].step()
        update(average, generator)
        lost.item(), fooled.item()
        return len(real)

    return step


def generator_loss(
    loss: Any, discriminator: nn.Module, fake: Tensor, labels: Tensor, real: Tensor
) -> Tensor:
    """The generator's side; losses without pairs ignore the real logits."""
    return loss.generator(real.new_empty(0), discriminator(fake, labels))


def plain_vae(trial: VaeTrial, learner: Any, data: Any, device: torch.device) -> Callable[[], int]:
    """Return one step of the plain loop of a VAE."""
    vae = copy.deepcopy(learner.vae).to(device)
    average = copy.deepcopy(vae)
    adam = torch.optim.Adam(vae.parameters(), trial.optimizer.lr)

    def step() -> int:
        images, _ = (part.to(device) for part in next(data))
        mean, logvar = vae.encoder(images)
        output = vae.decoder(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean))
        likelihood = vae.likelihood.log_prob(images, output).mean()
        kl = gaussian_kl(mean, logvar).mean()
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
    """Return the seconds of a step, of its parts, and of an evaluation of 1,000 samples."""
    parts = {
        "step": lambda at: learner.step(batches, at * learner.images_per_step),
        "data": lambda at: batches.at(at * BATCH),
        "average": lambda at: learner.average.update(trained(learner), 10_000, BATCH),
    }
    found = {}
    for name, part in parts.items():
        part(0)
        wait(device)
        began, count = time.perf_counter(), 20
        for at in range(count):
            part(at)
        wait(device)
        found[name] = (time.perf_counter() - began) / count
    metrics = ("elbo",) if isinstance(learner.trial, VaeTrial) else ("fd_classifier",)
    evaluator = Evaluator(metrics, data, 1000, device)
    began = time.perf_counter()
    evaluator(learner)
    return {**found, "evaluation_of_1000": time.perf_counter() - began}


def trained(learner: Any) -> nn.Module:
    """The network whose average is kept."""
    return learner.generator if hasattr(learner, "generator") else learner.vae


def measure(trial: Trial, data: ImageData, device: torch.device, turns: int, seconds: float) -> Any:
    """Return the ratios and speeds of one recipe, both loops in turns."""
    learner = make_learner(trial, len(data.classes), device, seed=0)
    batches = Batches(data.train, trial.batch_size, 0, device, trial.flip)
    source = endless(data, workers=0 if device.type == "cpu" else 8)
    if isinstance(trial, GanTrial):
        plain = plain_gan(trial, len(data.classes), source, device)
    else:
        plain = plain_vae(trial, learner, source, device)
    mine = ours(learner, batches)
    for step in (mine, plain):
        speed(step, seconds / 4, device)
    pairs = [(speed(mine, seconds, device), speed(plain, seconds, device)) for _ in range(turns)]
    ratios = [one / other for one, other in pairs]
    return {
        "ratio": spread(ratios),
        "raygen": spread([one for one, _ in pairs]),
        "plain": spread([other for _, other in pairs]),
        "parameters": learner.parameters,
        "seconds": {
            name: round(value, 5) for name, value in shares(learner, batches, data, device).items()
        },
    }


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
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = load_data(DataSpec(source="shapes"))
    turns, seconds = (3, 4.0) if chosen.quick else (7, 8.0)
    figures: dict[str, Any] = {}
    for name in chosen.recipes:
        trial = parse_trial({**RECIPES[name], "batch_size": BATCH})
        found = measure(trial, data, device, turns, seconds)
        figures[name] = found
        print(
            f"{name:12} {found['parameters'] / 1e6:6.2f} M  raygen {found['raygen']['median']:8.0f}"
            f"  plain {found['plain']['median']:8.0f} images/s  ratio {found['ratio']}"
        )
    result = {f"ratio_{name}": found["ratio"] for name, found in figures.items()}
    if chosen.out:
        name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
        machine = {"device": name or "cpu", "cpus": os.cpu_count(), "torch": torch.__version__}
        machine["threads"] = torch.get_num_threads()
        when = datetime.date.today().isoformat()
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        whole = {"date": when, "machine": machine, "recipes": figures, **result}
        chosen.out.write_text(json.dumps(whole, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
