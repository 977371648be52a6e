"""What a metric needs of a model; the learners of raygen.train satisfy it."""

from typing import Protocol

import torch
from torch import Tensor

CHUNK = 250  # images generated at once, and the unit in which ranks share an evaluation
MAX_LATENT = 1024


class Generative(Protocol):
    """A model that makes images from latents."""

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


def draw_latents(model: Generative, seed: int, index: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the latents (count, latent_dim) and labels of chunk `index` of a seed's stream.

    Models with different latent sizes get the same numbers as far as they go, so that their
    pictures can be compared.
    """
    random = torch.Generator().manual_seed(seed * 1_000_003 + index)
    width = max(MAX_LATENT, model.latent_dim)
    latents = torch.randn(count, width, generator=random)[:, : model.latent_dim]
    labels = torch.arange(index * CHUNK, index * CHUNK + count) % model.classes
    return latents.to(model.device), labels.to(model.device)
