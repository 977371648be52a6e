"""Models that "generate" what a test wants, and checkpoints of tiny untrained ones."""

from pathlib import Path

import torch
from torch import Tensor

from raygen.data import ImageData, Split, fingerprint
from raygen.data.shapes import SHAPES, draw_shapes
from raygen.training.checkpoint import FORMAT, save
from raygen.training.loop import make_learner
from raygen.trial import parse_trial

TINY = {
    "dcgan": {"latent_dim": 8, "width": 4},
    "sngan": {"latent_dim": 8, "width": 4, "discriminator_width": 4},
    "biggan": {"latent_dim": 8, "width": 2, "discriminator_width": 2, "embedding_dim": 4},
    "r3gan": {"latent_dim": 8, "width": 4, "group_width": 4, "blocks": 1},
    "style_gan": {"latent_dim": 8, "width": 4},
    "conv_vae": {"latent_dim": 8, "width": 4, "depth": 0},
    "ladder_vae": {"width": 4, "latent_channels": 1, "layers": 1, "depth": 0},
}


def shapes(train: int = 400, test: int = 200) -> ImageData:
    splits = [
        Split(*(torch.from_numpy(each) for each in draw_shapes(count, seed=seed)))
        for count, seed in ((train, 0), (test, 1))
    ]
    return ImageData("shapes", tuple(SHAPES), *splits, fingerprint(*splits))


class Fixed:
    """Draws given images one after another, each with what noise is asked for."""

    device, latent_dim, parameters = torch.device("cpu"), 4, 0

    def __init__(self, images: Tensor, classes: int = 10, noise: int = 0) -> None:
        self.images, self.classes, self.noise, self.next = images, classes, noise, 0
        self.random = torch.Generator().manual_seed(0)

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        rows = (torch.arange(len(latents)) + self.next) % len(self.images)
        self.next += len(latents)
        drawn = self.images[rows].int()
        size = drawn.shape
        noise = torch.randint(-self.noise, self.noise + 1, size, generator=self.random)
        return (drawn + noise).clamp(0, 255).byte()


class Labelled(Fixed):
    """Draws an image of the class that is asked for, chosen by the latent."""

    def __init__(self, split: Split, classes: int) -> None:
        super().__init__(split.images, classes)
        self.labels = split.labels

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        rows = []
        for latent, label in zip(latents, labels, strict=True):
            of_class = (self.labels == label).nonzero().squeeze(1)
            rows.append(of_class[int(latent[0].abs() * 1000) % len(of_class)])
        return self.images[torch.stack(rows)]


def write_checkpoint(
    path: Path, name: str, data: ImageData, conditional: bool = False, full: bool = False
) -> Path:
    """Write a tiny untrained model as if it had been trained on `data`."""
    vae = name.endswith("vae")
    model = {"name": name, **TINY[name], **({} if vae else {"conditional": conditional})}
    trial = parse_trial({"family": "vae" if vae else "gan", "model": model, "batch_size": 16})
    learner = make_learner(trial, len(data.classes), torch.device("cpu"), seed=0)
    with torch.no_grad():  # untrained ones draw one grey image: their weights are too small
        for parameter in learner.average.network.parameters():
            if parameter.ndim > 1 and float(parameter.std()) > 0:
                fan_in = parameter.numel() / len(parameter)
                parameter.mul_(1.5 / (parameter.std() * fan_in**0.5))
    content = {
        "format": FORMAT,
        "trial": trial.model_dump(),
        "seed": 0,
        "data": data.summary(),
        "kimg": 1.5,
        "scores": {"fd_classifier": 41.25},
        "protocols": {"fd_classifier": {"metric": "fd_classifier", "samples": 16}},
        "learner": learner.state_dict() if full else learner.weights(),
        "loop": {} if full else None,
        "report": None,
    }
    save(path, content)
    return path
