"""fit: the one training loop. It knows neither Ray, nor the loss, nor who stops it."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raygen.compute import Compute
from raygen.data import ImageData
from raygen.data.batches import Batches
from raygen.distributed import agree
from raygen.image_shape import CIFAR10, ImageShape
from raygen.losses.adversarial import ADVERSARIAL
from raygen.metrics import METRICS, Score, protocol_hash
from raygen.metrics.evaluator import Evaluator
from raygen.metrics.model import draw_latents
from raygen.training.compilation import AutoCompile
from raygen.training.gan import GanLearner
from raygen.training.health import Health
from raygen.training.own import OwnLearner
from raygen.training.vae import VaeLearner
from raygen.training.views import views
from raygen.trial import GanTrial, OwnTrial, Trial

GRID = 64
GRID_SEED = 7
# Losses stay on the device; reading them waits for it, so they are looked at every so often.
CHECK_EVERY = 25

Learner = GanLearner | VaeLearner | OwnLearner
LEARNERS: dict[str, type[Learner]] = {"gan": GanLearner, "vae": VaeLearner, "own": OwnLearner}


class Position(NamedTuple):
    """Where training stands between two milestones, and all that going on from there needs."""

    images: int
    learner: Learner
    state: Callable[[], dict[str, Any]]  # of the loop; its tensors are on the device


class Progress(NamedTuple):
    """What one milestone brought."""

    kimg: float
    seconds: float  # of this trial so far, evaluation included
    evaluation_seconds: float  # of this milestone
    images_per_second: float  # training only, since the last milestone
    scores: dict[str, Score]  # empty if the trial broke before it could be evaluated
    losses: dict[str, float]  # means since the last milestone
    samples: Tensor  # uint8 (64, 3, 32, 32), from the same latents at every milestone
    views: dict[str, Tensor]  # more such pictures, by name; none of a trial that broke
    variation: float | None  # of the samples over that of real images; None if it broke
    diverged: str | None  # why the trial must not go on
    best: bool  # whether the objective is the best of the trial so far
    last: bool
    learner: Learner
    state: dict[str, Any]  # of the loop, for a checkpoint
    path: str  # how steps are run: "graph" or "eager" (": " and why no graph), or compiled so

    def report(self) -> dict[str, Any]:
        """Return what a caller elsewhere needs to know of it: plain values only."""
        return {
            "kimg": self.kimg,
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "images_per_second": self.images_per_second,
            "metrics": {name: score.value for name, score in self.scores.items()},
            "sd": {name: s.sd for name, s in self.scores.items() if s.sd is not None},
            "protocols": {name: score.protocol for name, score in self.scores.items()},
            "losses": self.losses,
            "variation": self.variation,
            "diverged": self.diverged,
            "best": self.best,
            "last": self.last,
            "path": self.path,
        }


def make_learner(
    trial: Trial,
    classes: int,
    device: torch.device,
    seed: int,
    compute: Compute | None = None,
    budget: float | None = None,
    image: ImageShape = CIFAR10,
) -> Learner:
    """Build the learner of a trial's family; `budget` (images) is where its rates decay to."""
    kind = LEARNERS[trial.family]
    return kind(trial, classes, device, seed, compute or Compute(), budget, image)  # pyright: ignore[reportArgumentType]


def fit(
    trial: Trial,
    data: ImageData,
    evaluator: Evaluator,
    milestones: Sequence[float],
    seed: int,
    resume: dict[str, Any] | None = None,
    pulse: Callable[[Position], bool] | None = None,
    compute: Compute | None = None,
    samples_at: Callable[[float], int] | None = None,
) -> Iterator[Progress]:
    """Train, and yield at each milestone (kimg, ascending), the last of which is the budget.

    With `resume` (a checkpoint of the same trial), continue bit for bit as if never stopped.
    `pulse` is called every few steps; training ends where it returns true, on all ranks at once.
    `samples_at` says how many samples a milestone is measured with, instead of the evaluator.
    """
    device = evaluator.device
    budget = milestones[-1] * 1000
    learner = make_learner(trial, len(data.classes), device, seed, compute, budget, data.image)
    compiling = AutoCompile(learner, budget) if learner.arithmetic.compiled_if_worth else None
    batches = Batches(data.train, trial.batch_size, seed, device, trial.flip)
    objective = evaluator.metrics[0]
    health = _health(trial, objective, data)
    images, earlier, stretch = 0, 0.0, None
    if resume is not None:
        learner.load_state_dict(resume["learner"])
        health.load_state_dict(resume["loop"]["health"])
        images, earlier = resume["loop"]["images"], resume["loop"]["seconds"]
        stretch = resume["loop"].get("stretch")
        milestones = _milestones_left(milestones, resume)
    started = time.monotonic()

    def state(images: int) -> dict[str, Any]:
        seconds = earlier + time.monotonic() - started
        return {"images": images, "seconds": seconds, "health": health.state_dict()}

    def beat(images: int, stretch: Callable[[], dict[str, Any]]) -> bool:
        if pulse is None:
            return False
        return pulse(Position(images, learner, lambda: {**state(images), "stretch": stretch()}))

    for kimg in milestones:
        trained = _train_to(learner, batches, images, kimg, health, beat, stretch, compiling)
        if trained is None:
            return
        images, stretch = trained.images, None
        evaluating = time.monotonic()
        samples = learner.sample(*draw_latents(learner, GRID_SEED, 0, GRID)).cpu()
        diverged, scores, pictures, best = trained.diverged, {}, {}, False
        last = kimg == milestones[-1]
        if diverged is None:
            scores = evaluator(learner, samples_at(kimg)) if samples_at else evaluator(learner)
            before = health.best
            diverged = _diagnose(health, scores[objective], samples, learner, trained, last)
            best = health.best != before
            pictures = views(learner, data.test.images)
        reached = state(images)
        speed = trained.added / max(trained.seconds, 1e-9)
        yield Progress(
            kimg, reached["seconds"], time.monotonic() - evaluating, speed, scores,
            trained.losses, samples, pictures, health.variation if scores else None, diverged,
            best, last, learner, reached, _path(learner),
        )  # fmt: skip
        if diverged is not None:
            return


def _milestones_left(milestones: Sequence[float], resume: dict[str, Any]) -> Sequence[float]:
    """Those behind a checkpoint: of a milestone itself, or of a position between two."""
    loop = resume["loop"]
    if loop.get("stretch") is not None:
        return [kimg for kimg in milestones if kimg * 1000 > loop["images"]]
    return [kimg for kimg in milestones if kimg > resume["kimg"]]


def _path(learner: Learner) -> str:
    """How steps are run now, for `Progress.path`."""
    return f"compiled {learner.run.path}" if learner.compiled else learner.run.path


def _diagnose(
    health: Health,
    score: Score,
    samples: Tensor,
    learner: Learner,
    trained: "_Stretch",
    last: bool,
) -> str | None:
    """Why training ends at this milestone; None: it does not."""
    health.measured_by(protocol_hash(score.protocol))
    if not trained.added and math.isfinite(score.value):
        health.evaluated_again(score.value, samples)
        return None
    steps = trained.images // learner.images_per_step
    diverged = health.evaluation(score.value, samples, steps, trained.losses)
    # With a value at the last milestone nothing is left to save: it has trained to the end.
    return None if last and math.isfinite(score.value) else diverged


def _health(trial: Trial, objective: str, data: ImageData) -> Health:
    metric, real = METRICS[objective], data.train.images[:512]
    minimise = metric.direction == "minimize"
    if isinstance(trial, GanTrial):
        return Health(minimise, real, chance=ADVERSARIAL[trial.loss.name].chance)
    if isinstance(trial, OwnTrial):
        return Health(minimise, real)
    return Health(minimise, real, diversity=0.0, guess=metric.value_of_guess(data.image))


class _Stretch(NamedTuple):
    images: int
    added: int
    seconds: float
    losses: dict[str, float]
    diverged: str | None


def _train_to(
    learner: Learner,
    batches: Batches,
    images: int,
    kimg: float,
    health: Health,
    beat: Callable[[int, Callable[[], dict[str, Any]]], bool],
    resumed: dict[str, Any] | None,
    compiling: AutoCompile | None,
) -> _Stretch | None:
    """Train from `images` to the first step that reaches the milestone; None if told to stop.

    A step of many images may pass several milestones: the later ones are reached without a step.
    """
    start, began = images, time.monotonic()
    if compiling is not None:
        compiling.pause()  # for the evaluation that was
    totals = _Totals(learner.device, resumed)
    losses: dict[str, float] = {}
    diverged = None
    while images < kimg * 1000 and diverged is None:
        totals.add(learner.step(batches, images))
        images += learner.images_per_step
        reached = images >= kimg * 1000
        if totals.steps % CHECK_EVERY == 0 or reached:
            losses = totals.means() if reached else totals.means_of_last_look()
            if compiling is not None and not reached:
                compiling.look(images)
            diverged = health.losses(losses)
            stopping = diverged is None and not reached and beat(images, totals.state)
            if agree(diverged is not None or stopping, learner.device):
                if agree(diverged is not None, learner.device):
                    diverged = diverged or "a loss is not finite on another worker"
                else:
                    return None
    return _Stretch(images, images - start, time.monotonic() - began, losses, diverged)


class _Totals:
    """Sums of the losses since the last milestone, on the device.

    A device that computes by itself is not waited for between milestones: what is looked at has
    been asked for at the look before, and has arrived since.
    """

    def __init__(self, device: torch.device, resumed: dict[str, Any] | None) -> None:
        self.device, self.steps = device, 0
        self.names: list[str] = []
        self.sums = torch.empty(0)
        # Steps, their sums on the host, and when these have arrived.
        self.asked: tuple[int, Tensor, torch.cuda.Event] | None = None
        if resumed is not None:
            self.steps, self.names = resumed["steps"], list(resumed["sums"])
            sums = [torch.as_tensor(value) for value in resumed["sums"].values()]
            self.sums = torch.stack(sums).to(device)

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of a step."""
        values = torch.stack(list(losses.values()))
        self.sums = self.sums + values if self.names else values
        self.names = list(losses)
        self.steps += 1

    def state(self) -> dict[str, Any]:
        """Steps and sums () for a checkpoint, on the device."""
        return {"steps": self.steps, "sums": dict(zip(self.names, self.sums, strict=True))}

    def means(self) -> dict[str, float]:
        """Means over all steps."""
        return self._means(self.steps, self.sums)

    def means_of_last_look(self) -> dict[str, float]:
        """Means up to the last look ({} at the first), or up to now where that costs no wait."""
        if self.device.type == "cpu":
            return self.means()
        before = self.asked
        sums = torch.empty_like(self.sums, device="cpu", pin_memory=True)
        sums.copy_(self.sums, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self.asked = self.steps, sums, arrived
        if before is None:
            return {}
        steps, sums, arrived = before
        arrived.synchronize()
        return self._means(steps, sums)

    def _means(self, steps: int, sums: Tensor) -> dict[str, float]:
        return {name: total / steps for name, total in zip(self.names, sums.tolist(), strict=True)}
