"""The averaged network of a model as one module: latents and labels to pixels."""

import copy

import torch
from torch import Tensor, nn

from raygen.training.loop import Learner
from raygen.training.vae import Vae


class GeneratorImages(nn.Module):
    """Latents (n, d) and labels (n,) -> images (n, 3, 32, 32) in [-1, 1]."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.generator(latents, labels)


class VaeImages(nn.Module):
    """The same of a VAE: the mean of its likelihood. Labels change nothing."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.vae.likelihood.mean(self.vae.net.decode(latents))


class Pixels(nn.Module):
    """What an exported file computes: float32 in [0, 1], or uint8; `labels` only if they count."""

    def __init__(self, images: nn.Module, uint8: bool) -> None:
        super().__init__()
        self.images, self.uint8 = images, uint8

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is None:
            labels = torch.zeros_like(latents[:, 0], dtype=torch.long)
        images = (self.images(latents, labels).clamp(-1, 1) + 1) / 2
        return (images * 255).round().to(torch.uint8) if self.uint8 else images


class Unlabelled(nn.Module):
    """The same from latents alone."""

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, latents: Tensor) -> Tensor:
        return self.pixels(latents)


def network_of(learner: Learner) -> nn.Module:
    """A copy of the averaged network, for evaluation: nothing of it is trained."""
    average = copy.deepcopy(learner.average.network).eval().requires_grad_(False)
    return VaeImages(average) if isinstance(average, Vae) else GeneratorImages(average)
