"""A small classifier, trained once per data set: the features behind `fd_classifier`.

It needs no download. Its distances compare trials of the same data set and say nothing about
published FIDs. Of images without classes it learns by how many quarter turns they were turned
(Gidaris, Singh and Komodakis 2018).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raygen.cache import cached
from raygen.data import ImageData
from raygen.data.batches import Batches, to_model_range
from raygen.progress_bar import ticking

WIDTHS = (32, 64, 128, 128)
FEATURES = sum(WIDTHS)
EPOCHS = 5
BATCH = 128
PEAK_LR = 4e-3
MOST = 64  # pixels in a row
TURNS = 4
RECIPE = 2  # part of every cache key: raise it when the weights or the features change


class Classifier(nn.Module):
    """Images (n, c, h, w) in [-1, 1] -> logits (n, classes); above 64x64 they are made smaller."""

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _block(channels, WIDTHS[0], 4, 2), _block(WIDTHS[0], WIDTHS[1], 4, 2),
            _block(WIDTHS[1], WIDTHS[2], 4, 2), _block(WIDTHS[2], WIDTHS[3], 3, 1),
        )  # fmt: skip
        self.head = nn.Linear(WIDTHS[-1], classes)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def features(self, images: Tensor) -> Tensor:
        """Images -> the mean activation of every channel of all four blocks (n, 352).

        Of all blocks, because a label says nothing of colour or background: by the last block
        alone, a generator that knew one background colour scored as well as one that knew all.
        """
        pooled = [activation.mean(dim=(2, 3)) for activation in self._activations(images)]
        return torch.cat(pooled, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self._activations(images)[-1].mean(dim=(2, 3)))

    def _activations(self, images: Tensor) -> list[Tensor]:
        if images.shape[2] > MOST:
            images = F.avg_pool2d(images, images.shape[2] // MOST)
        # Channels last: 1.8 times the training speed of the default layout on two CPU cores.
        activations = [images.contiguous(memory_format=torch.channels_last)]
        for block in self.blocks:
            activations.append(block(activations[-1]))
        return activations[1:]


def load_classifier(data: ImageData, device: torch.device) -> dict[str, Any]:
    """Return the weights ("state") and test accuracy of a data set's classifier.

    Trained now, or taken from the cache.
    """

    def make() -> dict[str, Any]:
        trained = train_classifier(data, device)
        accuracy = _accuracy(trained, data, device)
        return {"state": trained.cpu().state_dict(), "accuracy": accuracy}

    task = "" if labelled(data) else "turns-"
    return cached(f"classifier-{RECIPE}-{task}{data.fingerprint}", make)


def labelled(data: ImageData) -> bool:
    """Whether there are classes to be told apart."""
    return len(data.classes) > 1


def restore(state: dict[str, Tensor], device: torch.device) -> Classifier:
    """Build the classifier that such weights belong to."""
    channels = state["blocks.0.0.weight"].shape[1]
    classifier = Classifier(len(state["head.bias"]), channels)
    classifier.load_state_dict(state)
    return classifier.to(device).eval().requires_grad_(False)


def train_classifier(
    data: ImageData, device: torch.device, steps: int | None = None, seed: int = 0
) -> Classifier:
    """Train on the labels (or turns) of the training split: one-cycle rate, a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classes = len(data.classes) if labelled(data) else TURNS
        classifier = Classifier(classes, data.image.channels).to(device)
    batches = Batches(data.train, BATCH, seed=seed, device=device)
    steps = steps or max(EPOCHS * len(data.train.labels) // BATCH, 100)
    # Fused: one kernel in place of dozens. On CPUs it would round otherwise than it always has.
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=PEAK_LR, weight_decay=0.01, fused=fused
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=steps)
    classifier.train()
    for step in ticking(range(steps), "training a classifier", steps):
        images, labels = batches.at(step * BATCH)
        if not labelled(data):
            images, labels = turned(images)
        loss = F.cross_entropy(classifier(images), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


def turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """Turn images (n, c, h, w) in turns, and return by how many quarter turns each was turned."""
    turns = torch.arange(len(images), device=images.device) % TURNS
    every = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(TURNS)], dim=1)
    return every[torch.arange(len(images), device=images.device), turns], turns


@torch.no_grad()
def _accuracy(classifier: Classifier, data: ImageData, device: torch.device) -> float:
    right, split = 0, data.test
    for images, labels in zip(split.images.split(1000), split.labels.split(1000), strict=True):
        if not labelled(data):
            images, labels = turned(images)
        logits = classifier(to_model_range(images.to(device)))
        right += int((logits.argmax(dim=1).cpu() == labels).sum())
    return right / len(split.labels)


def _block(channels: int, out: int, kernel: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())
