"""One VAE in training: encoder, decoder, likelihood, Adam, and the average of all three."""

from typing import Any

import torch
from torch import Tensor, nn

from raygen.config import VaeTrial
from raygen.data.batches import Batches, to_model_range, to_pixels
from raygen.distributed import data_parallel, rank, world_size
from raygen.losses.elbo import LIKELIHOODS, gaussian_kl
from raygen.train.average import Average


class Vae(nn.Module):
    """The three parts as one module, so that one DDP wrapper and one average hold them."""

    def __init__(self, trial: VaeTrial) -> None:
        super().__init__()
        self.likelihood = LIKELIHOODS[trial.loss.likelihood]()
        nets = trial.model.build(self.likelihood.channels)
        self.encoder, self.decoder = nets.encoder, nets.decoder
        last = nets.decoder.to_parameters
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        with torch.no_grad():
            last.bias.copy_(torch.tensor(self.likelihood.start))

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images and noise (n, latent_dim) -> output (n, c, 32, 32), log p(x | z) and KL (n,)."""
        mean, logvar = self.encoder(images)
        output = self.decoder(mean + torch.exp(0.5 * logvar) * noise)
        return output, self.likelihood.log_prob(images, output), gaussian_kl(mean, logvar)


class VaeLearner:
    """Network, optimiser and average of one VAE trial; a step is a function of its position."""

    def __init__(self, trial: VaeTrial, classes: int, device: torch.device, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.vae = Vae(trial).to(device)
        self.trial, self.classes, self.device, self.seed = trial, classes, device, seed
        self.latent_dim = trial.model.latent_dim
        self.average = Average(self.vae, trial.ema)
        self.parallel = data_parallel(self.vae)
        settings = trial.optimizer
        betas = (settings.beta1, settings.beta2)
        self.adam = torch.optim.Adam(self.vae.parameters(), settings.lr, betas, fused=True)
        self.random = torch.Generator(device)

    @property
    def parameters(self) -> int:
        """Numbers in the averaged weights, those of sampling."""
        return sum(parameter.numel() for parameter in self.average.network.parameters())

    @property
    def images_per_step(self) -> int:
        """Images shown in one step, over all ranks."""
        return self.trial.batch_size

    def step(self, batches: Batches, position: int) -> dict[str, Tensor]:
        """Train on the images from `position` on; return the losses as tensors on the device."""
        self.random.manual_seed(self.seed * 1_000_003 + position)
        self.vae.train()
        images, _ = batches.at(position)
        size = (self.trial.batch_size, self.latent_dim)
        noise = torch.randn(size, generator=self.random, device=self.device)
        share = self.trial.batch_size // world_size()
        _, log_prob, kl = self.parallel(images, noise[rank() * share : (rank() + 1) * share])
        log_prob, kl = log_prob.mean(), kl.mean()
        self.adam.zero_grad()
        (self.trial.loss.beta * kl - log_prob).backward()
        if self.trial.optimizer.clip:
            nn.utils.clip_grad_norm_(self.vae.parameters(), self.trial.optimizer.clip)
        self.adam.step()
        self.average.update(self.vae, position + self.images_per_step, self.images_per_step)
        return {"log_prob": log_prob.detach(), "kl": kl.detach()}

    @torch.no_grad()
    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Latents (n, latent_dim) -> uint8 images: the mean of the decoder's likelihood."""
        vae: Vae = self.average.network  # pyright: ignore[reportAssignmentType]
        return to_pixels(vae.likelihood.mean(vae.decoder(latents)))

    @torch.no_grad()
    def elbo(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Uint8 images -> ELBO in nats per image (n,), at beta = 1 on the 256 levels."""
        vae: Vae = self.average.network  # pyright: ignore[reportAssignmentType]
        scaled = to_model_range(images)
        noise = torch.randn(len(images), self.latent_dim, generator=random, device=self.device)
        output, _, kl = vae(scaled, noise)
        return vae.likelihood.log_mass(scaled, output) - kl

    def weights(self) -> dict[str, Any]:
        """What sampling needs."""
        return {"average": self.average.network.state_dict()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that training needs to go on as if it had not stopped."""
        return {**self.weights(), "vae": self.vae.state_dict(), "adam": self.adam.state_dict()}

    def load_weights(self, state: dict[str, Any]) -> None:
        """Restore what sampling needs."""
        self.average.network.load_state_dict(state["average"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore everything."""
        self.load_weights(state)
        self.vae.load_state_dict(state["vae"])
        self.adam.load_state_dict(state["adam"])
