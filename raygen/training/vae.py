"""One VAE in training: network, likelihood, optimiser, and the average of the first two."""

from collections.abc import Hashable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raygen.compute import Compute, compile_if, tf32
from raygen.data.batches import Batches, to_model_range, to_pixels
from raygen.distributed import data_parallel, rank, unshared, world_size
from raygen.image_shape import CIFAR10, ImageShape
from raygen.losses.elbo import LIKELIHOODS, gaussian_kl, log_importance
from raygen.models import VaeNet
from raygen.schedules import value_at
from raygen.seeds import numbered
from raygen.training.average import Average, Averaged
from raygen.training.optimizer import FusedAdam, make_optimizer, rates_at, set_rates
from raygen.training.rate import used
from raygen.training.skip import Skip
from raygen.training.step_graph import Scalars, StepGraph, weak
from raygen.trial import VaeTrial


class Vae(nn.Module):
    """Network and likelihood as one module, so that one DDP wrapper and one average hold them."""

    def __init__(self, trial: VaeTrial, image: ImageShape = CIFAR10) -> None:
        super().__init__()
        self.likelihood = LIKELIHOODS[trial.loss.likelihood](image.channels)
        net = trial.model.build(image, self.likelihood.outputs)
        assert net.to_parameters.bias is not None
        with torch.no_grad():
            net.to_parameters.bias.copy_(torch.tensor(self.likelihood.start))
        self.net: VaeNet = net

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Images and noise (n, latent_dim) -> log p(x | z) (n,) and KL (n, layers).

        Autocast, if any, is that of the network: both results are computed in float32.
        """
        output, shift, log_ratio = self.net(images, noise)
        with torch.autocast(images.device.type, enabled=False):
            log_prob = self.likelihood.log_prob(images, output)
            return log_prob, gaussian_kl(shift, log_ratio, self.net.layers)


class VaeStepInputs(NamedTuple):
    """All that changes from step to step, of this rank's n images."""

    images: Tensor  # (n, c, h, w) uint8
    noise: Tensor  # (n, latent_dim)
    kl_weight: Tensor  # () of the divergence
    free_bits: Tensor  # () of each layer
    ema: Tensor  # () how far the average moves


class VaeLearner(Averaged):
    """Network, optimiser and average of one VAE trial; a step is a function of its position."""

    def __init__(
        self,
        trial: VaeTrial,
        classes: int,
        device: torch.device,
        seed: int,
        compute: Compute | None = None,
        budget: float | None = None,
        image: ImageShape = CIFAR10,
    ) -> None:
        """`budget`: images at the end of training, of which schedules take their share."""
        self.share = trial.batch_size // world_size()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            vae = Vae(trial, image)
        self.trial, self.classes, self.device, self.seed = trial, classes, device, seed
        self.budget = budget
        self.arithmetic = (compute or Compute()).on(device)
        self.vae: Vae = self.arithmetic.layout(vae.to(device))  # pyright: ignore[reportAttributeAccessIssue]
        self.latent_dim = vae.net.latent_dim
        self.average = Average(self.vae, trial.ema, self.arithmetic.tensors)
        self.shared = data_parallel(self.vae)
        ((lr, betas),) = rates_at(trial.optimizer, 0.0)
        self.optimizer = make_optimizer(
            trial.optimizer, self.vae, lr, betas, self.arithmetic.tensors
        )
        self.skip = None
        if trial.optimizer.skip:
            self.skip = Skip(self.vae, trial.optimizer.skip, 1 + len(vae.net.layers), device)
        self.random, self.scalars = torch.Generator(device), Scalars(device)
        self.run = StepGraph(weak(self._compute), self.arithmetic.graph)
        self.use_compiled(self.arithmetic.compiled)

    def use_compiled(self, compiled: bool) -> None:
        """Run the compiled network from the next step on, or the network as it is."""
        self.compiled = compiled
        self.parallel = compile_if(compiled, self.shared)
        self.run.forget()

    @property
    def shape(self) -> Hashable:
        """Equal for trials that run the same compiled code."""
        trial = self.trial
        part = trial.batch_size // trial.accumulate
        return trial.model, trial.loss.likelihood, part, self.arithmetic

    @property
    def images_per_step(self) -> int:
        """Images shown in one step, over all ranks."""
        return self.trial.batch_size

    def step(self, batches: Batches, position: int) -> dict[str, Tensor]:
        """Train on the images from `position` on; return the losses as tensors on the device.

        "kl" is the whole divergence in nats per image, without free bits; "kl_1" is that of the
        topmost of several layers. With `accumulate`, the gradient is the mean over equal parts of
        the batch; free bits then look at the mean divergence of each part, not of the batch.
        "skipped", where `optimizer.skip` is set, is 1 for a step that updated nothing, else 0.
        """
        set_rates(self.trial.optimizer, [self.optimizer], used(position, self.budget))
        return self.run(self._inputs(batches, position))

    def _inputs(self, batches: Batches, position: int) -> VaeStepInputs:
        """Draw what a step needs; nothing is read back from the device."""
        self.random.manual_seed(numbered(self.seed, position))
        images, _ = batches.pixels_at(position)
        size = (self.trial.batch_size, self.latent_dim)
        noise = torch.randn(size, generator=self.random, device=self.device)
        noise = noise[rank() * self.share : (rank() + 1) * self.share]
        loss, share, step = self.trial.loss, used(position, self.budget), self.images_per_step
        weights = (
            loss.weight(position, share),
            value_at(loss.free_bits, share),
            self.average.weight(position + step, step, share),
        )
        return VaeStepInputs(self.arithmetic.layout(images), noise, *self.scalars(*weights))

    def _compute(self, inputs: tuple[Tensor, ...], _: Hashable) -> dict[str, Tensor]:
        """One step on tensors alone."""
        step = VaeStepInputs(*inputs)
        self.vae.train()
        with tf32(self.arithmetic.tf32):
            images = to_model_range(step.images)
            if self.skip is not None:
                self.skip.begin()
            log_prob, kl = self._accumulate(images, step)
            log_prob, kl, skipped = self._update(log_prob, kl)
        # Also after a skipped step: the average is one over images, and these were shown.
        self.average.update(self.vae, step.ema)
        losses = {"log_prob": log_prob, "kl": kl.sum()}
        if len(kl) > 1:
            losses |= {f"kl_{number}": part for number, part in enumerate(kl, start=1)}
        return losses if skipped is None else {**losses, "skipped": skipped}

    def _update(self, log_prob: Tensor, kl: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Follow the gradient that is left, or skip it; return the losses, and whether skipped."""
        clip, parameters = self.trial.optimizer.clip, list(self.vae.parameters())
        norm = nn.utils.clip_grad_norm_(parameters, clip) if clip else None
        if self.skip is None:
            self.optimizer.step()
            return log_prob, kl, None
        if norm is None:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        assert isinstance(self.optimizer, FusedAdam)
        # The gradient is that of all ranks' images by now: they agree.
        losses = torch.cat([log_prob.unsqueeze(0), kl])
        losses, skipped = self.skip.step(self.optimizer, norm, losses)
        return losses[0], losses[1:], skipped

    def _accumulate(self, images: Tensor, step: VaeStepInputs) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the batch; return the means of log p(x | z) and KL (layers,)."""
        parts = self.trial.accumulate
        log_probs, kls = [], []
        self.optimizer.zero_grad()
        turns = zip(images.chunk(parts), step.noise.chunk(parts), strict=True)
        for number, turn in enumerate(turns, start=1):
            with nullcontext() if number == parts else unshared(self.parallel):
                with self.arithmetic.autocast():
                    log_prob, kl = self.parallel(*turn)
                log_prob, kl = log_prob.mean(), kl.mean(dim=0)
                divergence = self.trial.loss.divergence(kl, step.free_bits)
                loss = step.kl_weight * divergence - log_prob
                (loss / parts).backward()
            log_probs.append(log_prob.detach())
            kls.append(kl.detach())
        return torch.stack(log_probs).mean(), torch.stack(kls).mean(dim=0)

    @torch.no_grad()
    @tf32(False)
    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Latents (n, latent_dim) -> uint8 images: the mean of the decoder's likelihood."""
        vae = self._averaged()
        return to_pixels(vae.likelihood.mean(vae.net.decode(latents)))

    @torch.no_grad()
    @tf32(False)
    def reconstruct(self, images: Tensor) -> Tensor:
        """Uint8 images -> uint8: the mean of the likelihood at the posterior mean."""
        vae = self._averaged()
        noise = torch.zeros(len(images), self.latent_dim, device=self.device)
        return to_pixels(vae.likelihood.mean(vae.net(to_model_range(images), noise).output))

    @torch.no_grad()
    @tf32(False)
    def elbo(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Uint8 images -> ELBO in nats per image (n,), at beta = 1 on the 256 levels."""
        rate, distortion = self.rate_distortion(images, random)
        return -distortion - rate

    @torch.no_grad()
    @tf32(False)
    def rate_distortion(self, images: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uint8 images -> KL and -log p(x | z) in nats per image (n,), on the 256 levels."""
        vae, scaled = self._averaged(), to_model_range(images)
        output, shift, log_ratio = vae.net(scaled, self._noise(len(images), random))
        kl = gaussian_kl(shift, log_ratio, vae.net.layers).sum(dim=1)
        return kl, -vae.likelihood.log_mass(scaled, output)

    @torch.no_grad()
    @tf32(False)
    def log_weights(self, images: Tensor, random: torch.Generator, count: int) -> Tensor:
        """Uint8 images -> log p(x, z) - log q(z | x) of posterior samples: (count, n).

        On the 256 levels, in nats per image.
        """
        vae, scaled = self._averaged(), to_model_range(images)
        weights = []
        for _ in range(count):
            noise = self._noise(len(images), random)
            output, shift, log_ratio = vae.net(scaled, noise)
            log_mass = vae.likelihood.log_mass(scaled, output)
            weights.append(log_mass + log_importance(shift, log_ratio, noise))
        return torch.stack(weights)

    @torch.no_grad()
    @tf32(False)
    def shift(self, images: Tensor) -> Tensor:
        """Uint8 images -> posterior means in units of the prior (n, latent_dim).

        Each given the means of the layers above.
        """
        noise = torch.zeros(len(images), self.latent_dim, device=self.device)
        return self._averaged().net(to_model_range(images), noise).shift

    def _averaged(self) -> Vae:
        return self.average.network  # pyright: ignore[reportReturnType]

    def _noise(self, count: int, random: torch.Generator) -> Tensor:
        return torch.randn(count, self.latent_dim, generator=random, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """Everything that training needs to go on as if it had not stopped."""
        state = {
            **self.weights(),
            "vae": self.vae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        return state if self.skip is None else {**state, "skip": self.skip.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore everything."""
        self.load_weights(state)
        self.vae.load_state_dict(state["vae"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.skip is not None:
            self.skip.load_state_dict(state["skip"])
        self.run.forget()
