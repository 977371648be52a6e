"""One GAN in training: two networks, two optimisers, and the average of the generator."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raygen.compute import Compute, compile_if, tf32
from raygen.data.augmentation import Policy
from raygen.data.batches import Batches, to_model_range, to_pixels
from raygen.distributed import data_parallel, rank, unshared, world_size
from raygen.image_shape import CIFAR10, ImageShape
from raygen.losses.adversarial import ADVERSARIAL, PENALTIES, Penalty, load_tangents
from raygen.models.layers import spectral_layers
from raygen.schedules import value_at
from raygen.seeds import numbered
from raygen.training.ada import AdaptiveProbability
from raygen.training.average import Average, Averaged
from raygen.training.optimizer import make_optimizer, rates_at, set_rates
from raygen.training.rate import used
from raygen.training.step_graph import Scalars, StepGraph, weak
from raygen.trial import Adaptive, GanTrial


class GanStepInputs(NamedTuple):
    """All that changes from step to step: images, labels, random numbers and weights.

    Of each of the k steps of the discriminator, over this rank's n images; the last one's noise and
    images are those of the generator's step, too.
    """

    real: Tensor  # (k, n, 3, 32, 32) uint8
    labels: Tensor  # (k, n)
    noise: Tensor  # (k, n, latent_dim)
    changes: Tensor  # (k, 2, n, numbers of the augmentation): of real and of generated images
    mix: Tensor  # (k, n, 1) where between them a penalty is taken; (k, n, 0) without one
    generator_changes: Tensor  # (2, n, numbers): of generated and of real images
    ema: Tensor  # () how far the average moves
    penalty_weight: Tensor  # ()
    augment_p: Tensor  # () the probability of each change, unless it adapts


class GanLearner(Averaged):
    """Networks, optimisers and average of one GAN trial; a step is a function of its position."""

    def __init__(
        self,
        trial: GanTrial,
        classes: int,
        device: torch.device,
        seed: int,
        compute: Compute | None = None,
        budget: float | None = None,
        image: ImageShape = CIFAR10,
    ) -> None:
        """`budget`: images at the end of training, of which schedules take their share."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator, discriminator = trial.model.build(image, classes)
        self.trial, self.classes, self.device, self.seed = trial, classes, device, seed
        self.budget = budget
        self.latent_dim = trial.model.latent_dim
        self.arithmetic = (compute or Compute()).on(device)
        self.generator = self.arithmetic.layout(generator.to(device))
        self.discriminator = self.arithmetic.layout(discriminator.to(device))
        self.average = Average(self.generator, trial.ema, self.arithmetic.tensors)
        # Wrapped for DDP, where gradients are shared.
        self.shared_generator = data_parallel(self.generator)
        self.shared_discriminator = data_parallel(self.discriminator)
        if trial.loss.penalty:
            load_tangents()
        self.run = StepGraph(weak(self._compute), self.arithmetic.graph)
        self.use_compiled(self.arithmetic.compiled)
        self.generator_optimizer, self.discriminator_optimizer = (
            make_optimizer(trial.optimizer, network, lr, betas, self.arithmetic.tensors)
            for network, (lr, betas) in zip(
                (self.generator, self.discriminator), rates_at(trial.optimizer, 0.0), strict=True
            )
        )
        self.loss = ADVERSARIAL[trial.loss.name]
        self.policy = Policy(trial.augment, always=trial.augment_p == 1)
        self.adaptive = None
        if isinstance(trial.augment_p, Adaptive):
            self.adaptive = AdaptiveProbability(trial.augment_p, trial.batch_size, device)
        self.generator_spectral = spectral_layers(self.generator)
        self.discriminator_spectral = spectral_layers(self.discriminator)
        self.random, self.scalars = torch.Generator(device), Scalars(device)

    def use_compiled(self, compiled: bool) -> None:
        """Run compiled networks from the next step on, or the networks as they are."""
        self.compiled = compiled
        self.fast_generator = compile_if(compiled, self.generator)
        self.fast_discriminator = compile_if(compiled, self.discriminator)
        self.parallel_generator, self.parallel_discriminator = (
            fast if shared is network else compile_if(compiled, shared)
            for network, shared, fast in (
                (self.generator, self.shared_generator, self.fast_generator),
                (self.discriminator, self.shared_discriminator, self.fast_discriminator),
            )
        )
        name = self.trial.loss.penalty
        self.penalty = compile_if(compiled, _penalty(name, self.discriminator)) if name else None
        self.run.forget()

    @property
    def shape(self) -> Hashable:
        """Equal for trials that run the same compiled code."""
        trial = self.trial
        part = trial.batch_size // trial.accumulate
        return trial.model, trial.loss.penalty, part, self.arithmetic

    @property
    def conditional(self) -> bool:
        """Whether images follow the label."""
        return self.trial.model.conditional

    @property
    def images_per_step(self) -> int:
        """Real images shown to the discriminator in one step, over all ranks."""
        return self.trial.batch_size * self.trial.optimizer.discriminator_steps

    def step(self, batches: Batches, position: int) -> dict[str, Tensor]:
        """Train on the images from `position` on; return the losses as tensors on the device.

        What is returned is overwritten by the next step.
        """
        optimizers = self.generator_optimizer, self.discriminator_optimizer
        set_rates(self.trial.optimizer, optimizers, used(position, self.budget))
        starts = range(position, position + self.images_per_step, self.trial.batch_size)
        interval = self.trial.loss.penalty_interval
        lazy = tuple(start // self.trial.batch_size % interval != 0 for start in starts)
        return self.run(self._inputs(batches, starts), lazy)

    def _inputs(self, batches: Batches, starts: range) -> GanStepInputs:
        """Draw what a step needs; nothing is read back from the device."""
        # Seeded by position: a resumed run draws the same noise, and every rank its part of it.
        self.random.manual_seed(numbered(self.seed, starts[0]))
        images = [batches.pixels_at(start) for start in starts]
        noise = [self._noise(self.latent_dim) for _ in starts]
        changes, mix = [], []
        for _ in starts:
            changes.append(torch.stack([self._changes(), self._changes()]))
            mix.append(self._noise(int(self.penalty is not None), uniform=True))
        generator_changes = self._changes()
        real_changes = self._changes() if self.loss.pairs else generator_changes
        trial, share, step = self.trial, used(starts[0], self.budget), self.images_per_step
        p = 1.0 if isinstance(trial.augment_p, Adaptive) else value_at(trial.augment_p, share)
        weights = (
            self.average.weight(starts[0] + step, step, share),
            value_at(trial.loss.penalty_weight or 0.0, share),
            p,
        )
        return GanStepInputs(
            _stack([self.arithmetic.layout(real) for real, _ in images]),
            _stack([labels for _, labels in images]),
            _stack(noise),
            _stack(changes),
            _stack(mix),
            torch.stack([generator_changes, real_changes]),
            *self.scalars(*weights),
        )

    def _compute(self, inputs: tuple[Tensor, ...], lazy: Hashable) -> dict[str, Tensor]:
        """One step on tensors alone; `lazy`: in which steps of the discriminator no penalty is."""
        step = GanStepInputs(*inputs)
        assert isinstance(lazy, tuple)
        self.generator.train()
        self.discriminator.train().requires_grad_(True)
        with tf32(self.arithmetic.tf32):
            for layer in self.generator_spectral:
                layer.iterate()
            drawn = None
            if self.trial.accumulate == 1:
                # Both networks learn from the same images, with their graph, since the generator
                # does not move in between: drawing others would take a fifth of a step.
                with self.arithmetic.autocast():
                    drawn = self.parallel_generator(step.noise[-1], step.labels[-1])
            last = len(lazy) - 1
            losses = [
                self._train_discriminator(step, k, drawn if k == last else None, skip)
                for k, skip in enumerate(lazy)
            ]
            self.discriminator.requires_grad_(False)
            generator_loss = self._train_generator(step, drawn)
        self.average.update(self.generator, step.ema)
        losses = _means(losses) | {"generator_loss": generator_loss}
        return losses | ({"augment_p": self.adaptive.p} if self.adaptive is not None else {})

    def _train_discriminator(
        self, step: GanStepInputs, k: int, drawn: Tensor | None, lazy: bool
    ) -> dict[str, Tensor]:
        real, labels, noise = to_model_range(step.real[k]), step.labels[k], step.noise[k]
        self.discriminator_optimizer.zero_grad()
        p = step.augment_p if self.adaptive is None else self.adaptive.p
        for layer in self.discriminator_spectral:
            layer.iterate()
        parts, signs = [], []
        for part, context in self._micro_batches(len(real), self.parallel_discriminator):
            with context:
                if drawn is None:
                    with torch.no_grad(), self.arithmetic.autocast():
                        fake = self.fast_generator(noise[part], labels[part])
                else:
                    fake = drawn.detach()
                seen = self.policy(real[part], step.changes[k, 0][part], p)
                fake = self.policy(fake, step.changes[k, 1][part], p)
                penalty = None
                if self.penalty is not None and not lazy:
                    penalty = self.penalty(seen, fake, labels[part], step.mix[k][part])
                real_logits, fake_logits = self._score(seen, fake, labels[part], penalty)
                loss = self.loss.discriminator(real_logits, fake_logits)
                losses = {"discriminator_loss": loss.detach()}
                if self.penalty is not None:
                    losses["penalty"] = torch.zeros_like(losses["discriminator_loss"])
                if penalty is not None:
                    # As often as it is rare, so that its mean over the steps is what it was.
                    value = self.trial.loss.penalty_interval * penalty.value
                    loss = loss + step.penalty_weight * value
                    losses["penalty"] = value.detach()
                (loss / self.trial.accumulate).backward()
                parts.append(losses)
                if self.adaptive is not None:
                    signs.append(real_logits.detach().sign().mean())
        self._clip(self.discriminator)
        self.discriminator_optimizer.step()
        if self.adaptive is not None:
            self.adaptive.update(torch.stack(signs).mean())
        return _means(parts)

    def _score(
        self, real: Tensor, fake: Tensor, labels: Tensor, penalty: Penalty | None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of both; where a penalty has scored images, they are not run again."""
        # DDP shares the gradients of what went through its own wrapper only.
        scored = penalty if penalty is not None and world_size() == 1 else None
        real_logits = scored.real_logits if scored is not None else None
        fake_logits = scored.fake_logits if scored is not None else None
        with self.arithmetic.autocast():
            if real_logits is None:
                real_logits = self.parallel_discriminator(real, labels)
            if fake_logits is None:
                fake_logits = self.parallel_discriminator(fake, labels)
        return real_logits, fake_logits

    def _train_generator(self, step: GanStepInputs, drawn: Tensor | None) -> Tensor:
        real, labels, noise = to_model_range(step.real[-1]), step.labels[-1], step.noise[-1]
        changes, real_changes = step.generator_changes
        self.generator_optimizer.zero_grad()
        p = step.augment_p if self.adaptive is None else self.adaptive.p
        parts = []
        for part, context in self._micro_batches(len(labels), self.parallel_generator):
            with context:
                with self.arithmetic.autocast():
                    fake = drawn
                    if fake is None:  # drawn again from the same noise, for the memory of a part
                        fake = self.parallel_generator(noise[part], labels[part])
                    seen = self.policy(fake, changes[part], p)
                    fake_logits = self.fast_discriminator(seen, labels[part])
                    real_logits = fake_logits
                    if self.loss.pairs:
                        shown = self.policy(real[part], real_changes[part], p)
                        real_logits = self.fast_discriminator(shown, labels[part])
                loss = self.loss.generator(real_logits, fake_logits)
                (loss / self.trial.accumulate).backward()
                parts.append({"generator_loss": loss.detach()})
        self._clip(self.generator)
        self.generator_optimizer.step()
        return _means(parts)["generator_loss"]

    def _micro_batches(
        self, count: int, network: nn.Module
    ) -> Iterator[tuple[slice, AbstractContextManager[None]]]:
        """Yield equal parts of this rank's batch; only the last backward shares gradients."""
        size = count // self.trial.accumulate
        for start in range(0, count, size):
            last = start + size == count
            yield slice(start, start + size), nullcontext() if last else unshared(network)

    def _clip(self, network: nn.Module) -> None:
        if self.trial.optimizer.clip:
            nn.utils.clip_grad_norm_(network.parameters(), self.trial.optimizer.clip)

    def _changes(self) -> Tensor:
        """Draw the random numbers of the augmentation for one batch."""
        return self._noise(self.policy.numbers, uniform=True)

    def _noise(self, width: int, uniform: bool = False) -> Tensor:
        """Draw the noise of the global batch and return this rank's rows of it."""
        draw = torch.rand if uniform else torch.randn
        noise = draw(self.trial.batch_size, width, generator=self.random, device=self.device)
        share = self.trial.batch_size // world_size()
        return noise[rank() * share : (rank() + 1) * share]

    @torch.no_grad()
    @tf32(False)
    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Latents (n, latent_dim) and labels (n,) -> uint8 images, by the averaged weights."""
        return to_pixels(self.average.network(latents, labels))

    def state_dict(self) -> dict[str, Any]:
        """Everything that training needs to go on as if it had not stopped."""
        return {
            **self.weights(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            **({"adaptive": self.adaptive.state_dict()} if self.adaptive is not None else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore everything."""
        self.load_weights(state)
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        if self.adaptive is not None:
            self.adaptive.load_state_dict(state["adaptive"])
        self.run.forget()


def _penalty(name: str, discriminator: nn.Module) -> Callable[..., Penalty]:
    """The bare network in float32: its weights' gradients are shared by the loss's backward.

    A function that torch.func differentiates may not change buffers: a pass of the discriminators
    that penalties accept changes none.
    """

    def penalty(real: Tensor, fake: Tensor, labels: Tensor, mix: Tensor) -> Penalty:
        def critic(images: Tensor) -> Tensor:  # real and generated ones at once, or one of them
            return discriminator(images, labels.repeat(len(images) // len(labels)))

        return PENALTIES[name](critic, real, fake, mix)

    return penalty


def _stack(parts: list[Tensor]) -> Tensor:
    """Along a new first dimension, without a copy if there is only one, and in its layout."""
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)


def _means(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    if len(parts) == 1:
        return parts[0]
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
