"""Seeded, sharded batches from a split that lives on the device as uint8."""

import torch
from torch import Tensor

from raygen.data import Split
from raygen.distributed import rank, world_size
from raygen.seeds import numbered


class Batches:
    """An endless stream of training batches that is a pure function of (seed, position).

    The stream is one shuffled epoch after another. Position counts images over all ranks, so a
    resumed run continues exactly where it stopped, and two ranks with batches of 32 see the same
    images in each step as one rank with a batch of 64.
    """

    def __init__(
        self, split: Split, batch_size: int, seed: int, device: torch.device, flip: bool = True
    ) -> None:
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.share = batch_size // world_size()
        self.seed, self.device, self.flip = seed, device, flip
        self._epochs: dict[int, tuple[Tensor, Tensor]] = {}

    def at(self, position: int) -> tuple[Tensor, Tensor]:
        """Return this rank's images (share, 3, 32, 32) in [-1, 1] and labels (share,)."""
        images, labels = self.pixels_at(position)
        return to_model_range(images), labels

    def pixels_at(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the same with the images as uint8: a quarter of the bytes to copy."""
        epoch, offset = divmod(position + rank() * self.share, len(self.labels))
        order, mirrored = self._epoch(epoch)
        order, mirrored = (
            order[offset : offset + self.share],
            mirrored[offset : offset + self.share],
        )
        while len(order) < self.share:  # across the end of an epoch, or of several tiny ones
            epoch += 1
            missing = self.share - len(order)
            more, more_mirrored = self._epoch(epoch)
            order = torch.cat([order, more[:missing]])
            mirrored = torch.cat([mirrored, more_mirrored[:missing]])
        images = self.images[order]
        if self.flip:
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        return images, self.labels[order]

    def _epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        if epoch not in self._epochs:
            self._epochs = {k: v for k, v in self._epochs.items() if k >= epoch - 1}
            # Drawn on the CPU, so that every device type sees the same order.
            random = torch.Generator().manual_seed(numbered(self.seed, epoch))
            order = torch.randperm(len(self.labels), generator=random)
            mirrored = torch.rand(len(self.labels), generator=random) < 0.5
            self._epochs[epoch] = order.to(self.device), mirrored.to(self.device)
        return self._epochs[epoch]


def to_model_range(images: Tensor) -> Tensor:
    """uint8 {0..255} -> float32 [-1, 1]."""
    return images.float() / 127.5 - 1.0


def to_pixels(images: Tensor) -> Tensor:
    """Float [-1, 1] -> uint8, rounded to the nearest level."""
    return ((images.float().clamp(-1, 1) + 1.0) * 127.5).round().byte()
