"""A training loop of the user's, driven one step at a time, so that raygen can measure between."""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raygen.compute import Compute, tf32
from raygen.data.batches import Batches, to_pixels
from raygen.errors import InputError, RaygenError
from raygen.image_shape import CIFAR10, ImageShape
from raygen.seeds import numbered
from raygen.training.average import Average, Averaged
from raygen.training.rate import used
from raygen.trial import OwnTrial

ended: Any = object()  # what a loop yields that has come to its end


class Stateful(Protocol):
    """A module, an optimiser, a schedule: what training changes."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class Run:
    """What `TrainerSpec.fit` works with."""

    def __init__(
        self, generator: nn.Module, device: torch.device, seed: int, classes: int, image: ImageShape
    ) -> None:
        self.generator, self.device, self.seed = generator, device, seed
        self.classes, self.image = classes, image
        self.budget: float | None = None  # images at the end of training, if that is known
        self.kept: dict[str, Stateful] = {}
        self.earlier: dict[str, Any] | None = None  # states of a checkpoint
        self.weights: dict[str, Any] | None = None  # of the generator, in that checkpoint
        self.feed: tuple[Batches, int] | None = None

    def keep(self, **parts: Stateful) -> None:
        """Save these with every checkpoint; of a trial that goes on, restore them now.

        The generator is kept already.

        Raises:
            InputError: a part has no state, or the checkpoint is of a trainer that kept others.
        """
        for name, part in parts.items():
            if not hasattr(part, "state_dict") or not hasattr(part, "load_state_dict"):
                kind = type(part).__name__
                raise InputError(f"run.keep({name}=…): a {kind} has no state_dict")
            self.kept[name] = part
            if self.earlier is not None:
                if name not in self.earlier:
                    names = ", ".join(self.earlier) or "nothing"
                    raise InputError(f"run.keep({name}=…): the checkpoint holds {names}")
                part.load_state_dict(self.earlier[name])

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (batch_size, c, h, w) in [-1, 1] and labels, one batch for each `yield`.

        torch's random numbers are seeded with each, so that a trial that was interrupted goes on
        as if it had not been.

        Raises:
            RaygenError: a second batch is taken before a `yield`.
        """
        if self.weights is not None:  # whatever fit did to it on its way here
            self.generator.load_state_dict(self.weights)
            self.weights = None
        while True:
            if self.feed is None:
                raise RaygenError("fit took two batches without a yield between them")
            batches, position = self.feed
            self.feed = None
            torch.manual_seed(numbered(self.seed, position))
            yield batches.at(position)


class OwnLearner(Averaged):
    """The generator, its average and the loop of one trial; a step is one `yield` of `fit`."""

    def __init__(
        self,
        trial: OwnTrial,
        classes: int,
        device: torch.device,
        seed: int,
        compute: Compute | None = None,
        budget: float | None = None,
        image: ImageShape = CIFAR10,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = trial.model.build(image, classes)
        self.trial, self.classes, self.device, self.seed = trial, classes, device, seed
        self.latent_dim, self.conditional = trial.model.latent_dim, trial.model.conditional
        arithmetic = (compute or Compute()).on(device)
        self.arithmetic = arithmetic._replace(compiled=False, compiled_if_worth=False, graph=False)
        self.compiled = False
        self.run = SimpleNamespace(path="eager")  # how steps are run, as of a StepGraph
        self.generator = network.to(device)
        self.average = Average(self.generator, trial.ema, self.arithmetic.tensors)
        self.loop = Run(self.generator, device, seed, classes, image)
        self.loop.budget = budget
        self.steps: Iterator[Mapping[str, Tensor | float]] | None = None

    @property
    def images_per_step(self) -> int:
        return self.trial.batch_size

    @property
    def shape(self) -> object:
        return self.trial.model, self.trial.batch_size, self.arithmetic

    def use_compiled(self, compiled: bool) -> None:
        """Nothing: what is compiled in it is its author's choice."""

    def step(self, batches: Batches, position: int) -> dict[str, Tensor]:
        """Let `fit` train on the images from `position` on; return its losses.

        Raises:
            RaygenError: it ended, or took no batch.
        """
        self.loop.feed = batches, position
        if self.steps is None:
            torch.manual_seed(self.seed)  # for what it makes before its first batch
            self.steps = iter(self.trial.model.fit(self.loop))
        with torch.enable_grad(), tf32(self.arithmetic.tf32):
            losses = next(self.steps, ended)
        if losses is ended:
            raise RaygenError(f"fit ended after {position} images, before its budget")
        if self.loop.feed is not None:
            raise RaygenError("fit yielded without taking a batch")
        if not isinstance(losses, Mapping) or not losses:
            raise RaygenError('fit must yield its losses by name, such as {"loss": loss}')
        step, share = self.images_per_step, used(position, self.loop.budget)
        weight = self.average.weight(position + step, step, share)
        self.average.update(self.generator, torch.full((), weight, device=self.device))
        return {name: self._scalar(name, value) for name, value in losses.items()}

    def _scalar(self, name: str, value: Tensor | float) -> Tensor:
        loss = torch.as_tensor(value, dtype=torch.float32, device=self.device).detach()
        if loss.numel() != 1:
            raise RaygenError(f"fit yielded {name} of shape {tuple(loss.shape)}, not one number")
        return loss.reshape(())

    @torch.no_grad()
    @tf32(False)
    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Latents (n, latent_dim) and labels (n,) -> uint8 images, by the averaged weights."""
        return to_pixels(self.average.network(latents, labels))

    def state_dict(self) -> dict[str, Any]:
        """Everything that training needs to go on as if it had not stopped."""
        kept = {name: part.state_dict() for name, part in self.loop.kept.items()}
        return {**self.weights(), "generator": self.generator.state_dict(), "kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore everything; what `fit` keeps once it says what that is."""
        self.load_weights(state)
        self.generator.load_state_dict(state["generator"])
        self.loop.earlier, self.loop.weights = state["kept"], state["generator"]
        self.steps = None
