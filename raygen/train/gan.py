"""One GAN in training: two networks, two Adams, and the average of the generator."""

from typing import Any

import torch
from torch import Tensor

from raygen.config import GanTrial
from raygen.data.batches import Batches, to_pixels
from raygen.distributed import data_parallel, rank, world_size
from raygen.losses.adversarial import ADVERSARIAL, PENALTIES
from raygen.train.average import Average


class GanLearner:
    """Networks, optimisers and average of one GAN trial; a step is a function of its position."""

    def __init__(self, trial: GanTrial, classes: int, device: torch.device, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nets = trial.model.build(classes)
        self.trial, self.classes, self.device, self.seed = trial, classes, device, seed
        self.latent_dim = trial.model.latent_dim
        self.generator = nets.generator.to(device)
        self.discriminator = nets.discriminator.to(device)
        self.average = Average(self.generator, trial.ema)
        self.parallel_generator = data_parallel(self.generator)
        self.parallel_discriminator = data_parallel(self.discriminator)
        settings = trial.optimizer
        betas = (settings.beta1, settings.beta2)
        self.generator_adam = torch.optim.Adam(
            self.generator.parameters(), settings.generator_lr, betas, fused=True
        )
        self.discriminator_adam = torch.optim.Adam(
            self.discriminator.parameters(), settings.discriminator_lr, betas, fused=True
        )
        self.loss = ADVERSARIAL[trial.loss.name]
        self.penalty = PENALTIES[trial.loss.penalty] if trial.loss.penalty else None
        self.penalty_weight = trial.loss.penalty_weight or 0.0
        self.random = torch.Generator(device)

    @property
    def parameters(self) -> int:
        """Numbers in the averaged weights, those of sampling."""
        return sum(parameter.numel() for parameter in self.average.network.parameters())

    @property
    def images_per_step(self) -> int:
        """Real images shown to the discriminator in one step, over all ranks."""
        return self.trial.batch_size * self.trial.optimizer.discriminator_steps

    def step(self, batches: Batches, position: int) -> dict[str, Tensor]:
        """Train on the images from `position` on; return the losses as tensors on the device."""
        # Seeded by position: a resumed run draws the same noise, and every rank its part of it.
        self.random.manual_seed(self.seed * 1_000_003 + position)
        self.generator.train()
        self.discriminator.train().requires_grad_(True)
        losses: dict[str, Tensor] = {}
        starts = range(position, position + self.images_per_step, self.trial.batch_size)
        turns = [batches.at(start) for start in starts]
        for images, labels in turns:
            losses = self._train_discriminator(images, labels)
        self.discriminator.requires_grad_(False)
        losses["generator_loss"] = self._train_generator(turns[-1][1])
        seen = position + self.images_per_step
        self.average.update(self.generator, seen, self.images_per_step)
        return losses

    def _train_discriminator(self, real: Tensor, labels: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self.generator(self._noise(self.latent_dim), labels)
        real_logits = self.parallel_discriminator(real, labels)
        fake_logits = self.parallel_discriminator(fake, labels)
        loss = self.loss.discriminator(real_logits, fake_logits)
        losses = {"discriminator_loss": loss.detach()}
        if self.penalty is not None:
            mix = self._noise(1, uniform=True)
            # The bare network: only its weights' gradients are shared, by the backward below.
            penalty = self.penalty(lambda x: self.discriminator(x, labels), real, fake, mix)
            loss = loss + self.penalty_weight * penalty
            losses["penalty"] = penalty.detach()
        self.discriminator_adam.zero_grad()
        loss.backward()
        self.discriminator_adam.step()
        return losses

    def _train_generator(self, labels: Tensor) -> Tensor:
        fake = self.parallel_generator(self._noise(self.latent_dim), labels)
        loss = self.loss.generator(self.discriminator(fake, labels))
        self.generator_adam.zero_grad()
        loss.backward()
        self.generator_adam.step()
        return loss.detach()

    def _noise(self, width: int, uniform: bool = False) -> Tensor:
        """Draw the noise of the global batch and return this rank's rows of it."""
        draw = torch.rand if uniform else torch.randn
        noise = draw(self.trial.batch_size, width, generator=self.random, device=self.device)
        share = self.trial.batch_size // world_size()
        return noise[rank() * share : (rank() + 1) * share]

    @torch.no_grad()
    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Latents (n, latent_dim) and labels (n,) -> uint8 images, by the averaged weights."""
        return to_pixels(self.average.network(latents, labels))

    def weights(self) -> dict[str, Any]:
        """What sampling needs."""
        return {"average": self.average.network.state_dict()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that training needs to go on as if it had not stopped."""
        return {
            **self.weights(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_adam": self.generator_adam.state_dict(),
            "discriminator_adam": self.discriminator_adam.state_dict(),
        }

    def load_weights(self, state: dict[str, Any]) -> None:
        """Restore what sampling needs."""
        self.average.network.load_state_dict(state["average"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore everything."""
        self.load_weights(state)
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_adam.load_state_dict(state["generator_adam"])
        self.discriminator_adam.load_state_dict(state["discriminator_adam"])
