"""The evidence lower bound of held-out images, and the same in bits per dimension."""

import math

import torch
from torch import Tensor

from raygen.distributed import all_reduce_sum, rank, world_size
from raygen.metrics.model import Autoencoder

CHUNK = 250


@torch.no_grad()
def test_elbo(model: Autoencoder, images: Tensor, seed: int) -> float:
    """Mean ELBO in nats per image at beta = 1 under a discretised likelihood, over all ranks.

    One posterior sample per image, its noise seeded by the chunk that the image is in, so that
    ranks share the work and agree on the result. `images` is uint8 (n, 3, 32, 32).
    """
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    for index, chunk in enumerate(images.split(CHUNK)):
        if index % world_size() == rank():
            random = torch.Generator(model.device).manual_seed(seed * 1_000_003 + index)
            total += model.elbo(chunk.to(model.device), random).double().sum()
    return float(all_reduce_sum(total)) / len(images)


def bits_per_dim(elbo: float, dims: int) -> float:
    """Nats per image -> bits per dimension (channel of a pixel)."""
    return -elbo / (dims * math.log(2))
