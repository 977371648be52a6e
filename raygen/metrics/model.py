"""What a metric needs of a model; the learners of raygen.training satisfy it."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from raygen.seeds import numbered

CHUNK = 250  # images generated at once, and the unit in which ranks share an evaluation
MAX_LATENT = 1024


class Generative(Protocol):
    """A model that makes images from latents.

    One whose images follow the label says so by an attribute `conditional`, which is True.
    """

    device: torch.device
    latent_dim: int
    classes: int

    @property
    def parameters(self) -> int:
        """Numbers that the network learnt, for sampling."""
        ...

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Latents (n, latent_dim) and labels (n,) -> uint8 images (n, 3, 32, 32)."""
        ...


class Autoencoder(Generative, Protocol):
    """A model that also bounds the likelihood of images."""

    def elbo(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Uint8 images (n, 3, 32, 32) -> ELBO in nats per image (n,)."""
        ...

    def rate_distortion(self, images: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uint8 images -> KL and -log p(x | z) in nats per image (n,): minus the ELBO in two."""
        ...

    def log_weights(self, images: Tensor, random: torch.Generator, count: int) -> Tensor:
        """Uint8 images -> log p(x, z) - log q(z | x) of `count` posterior samples: (count, n)."""
        ...

    def shift(self, images: Tensor) -> Tensor:
        """Uint8 images -> posterior means in units of the prior (n, latent_dim)."""
        ...


def draw_latents(
    model: Generative, seed: int, index: int, count: int, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the latents (count, latent_dim) and labels of chunk `index` of a seed's stream.

    Models with different latent sizes get the same numbers as far as they go, so that their
    pictures can be compared. `labels` (n,) are those of the whole stream, such as
    `labels_in_shares`; by default the classes take turns.
    """
    random = torch.Generator().manual_seed(numbered(seed, index))
    width = max(MAX_LATENT, model.latent_dim)
    latents = torch.randn(count, width, generator=random)[:, : model.latent_dim]
    start = index * CHUNK
    if labels is None:
        chosen = torch.arange(start, start + count) % model.classes
    else:
        chosen = labels[start : start + count]
    return _sent(latents, model.device), _sent(chosen, model.device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; one that computes by itself is not waited for."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def labels_in_shares(counts: Tensor, total: int) -> Tensor:
    """Labels (total,) int64 in the shares of `counts` (classes,), so mixed that every prefix is.

    In no prefix is a class a whole image off its share. Tijdeman 1980, "The chairman assignment
    problem": of the classes that are behind, the one that will be off by a whole image first. No
    chance: it depends on nothing but the shares. With equal ones the classes take turns, and a
    class without images never comes.

    Raises:
        ValueError: no class has an image.
    """
    share = counts.cpu().numpy().astype(np.int64)
    whole = int(share.sum())
    if whole == 0:
        raise ValueError("no class has an image")
    period = whole // int(np.gcd.reduce(share))  # then each class has had its share exactly
    share, whole = share * period // whole, period
    labels = np.empty(min(total, period), np.int64)
    classes = int((share > 0).sum())
    # In units of 1 / (period * slack): how far each class is behind, and where it may go up to.
    slack = max(2 * classes - 2, 1)
    behind = np.zeros(len(share), np.int64)
    rate = np.where(share > 0, share, 1)
    for position in range(len(labels)):
        behind += share * slack
        urgency = np.where(behind >= whole, (whole * (slack - 1) - behind) / rate, np.inf)
        labels[position] = chosen = int(urgency.argmin())
        behind[chosen] -= whole * slack
    return torch.from_numpy(np.resize(labels, total))


def even(counts: Tensor) -> bool:
    """Whether all classes have as many images as each other, as far as their total allows."""
    least, most = int(counts.min()), int(counts.max())
    return least > 0 and most - least <= 1
