"""When compiling the networks of a trial is worth its time, by the clock of the trial itself."""

import logging
import time
from collections.abc import Callable, Hashable
from typing import Literal, NamedTuple, Protocol

import torch


class Payoff(NamedTuple):
    """What compiling brings: steps are `gain` times as fast, after `seconds` of compiling."""

    gain: float
    seconds: float

    def saves(self, steps: int, pace: float) -> float:
        """Seconds that it saves over so many steps of `pace` seconds each; below 0 it costs."""
        return steps * pace * (1 - 1 / self.gain) - self.seconds


# Until this process has measured one itself: the smallest gain and the longest compilation of five
# architectures at batch 64, as graphs, on an H200.
EXPECTED = Payoff(gain=1.14, seconds=45.0)
LOOKS = 8  # over which a pace is measured
SETTLING = 2  # looks before: warm-up, capture

measured: dict[Hashable, Payoff] = {}  # of the trials of this process, by their shape


class Compilable(Protocol):
    """A learner whose networks may be compiled, and not any more."""

    @property
    def images_per_step(self) -> int:
        """Images shown in one step."""
        ...

    @property
    def shape(self) -> Hashable:
        """Equal for trials that run the same compiled code."""
        ...

    def use_compiled(self, compiled: bool) -> None:
        """Run compiled networks from the next step on, or the networks as they are."""
        ...


class AutoCompile:
    """Compiles in the middle of a trial, if the steps that are left repay it.

    Steps are timed as they are first; then the networks are compiled if what that is expected to
    save exceeds what it is expected to cost: as measured by an earlier trial of this shape in this
    process, or as EXPECTED. If steps are no faster then, it is undone. Which it is depends on the
    clock, so that two trainings with one seed may differ by rounding.
    """

    def __init__(
        self, learner: Compilable, budget: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`budget`: images at the end of training; `clock` in seconds."""
        self.learner, self.budget, self.clock = learner, budget, clock
        self.phase: Literal["as it is", "compiled", "decided"] = "as it is"
        self.pace = 0.0  # seconds a step before it was compiled
        self.last: tuple[float, int] | None = None
        self.seconds: list[float] = []  # between two looks, of this phase
        self.steps: list[float] = []

    def pause(self) -> None:
        """Something else than steps takes time until the next look."""
        self.last = None

    def look(self, images: int) -> None:
        """Hear how far training is, every few steps."""
        if self.phase == "decided":
            return
        now, last = self.clock(), self.last
        self.last = now, images
        if last is None:
            return
        self.seconds.append(now - last[0])
        self.steps.append((images - last[1]) / self.learner.images_per_step)
        if len(self.seconds) < SETTLING + LOOKS:
            return
        pace = sum(self.seconds[SETTLING:]) / sum(self.steps[SETTLING:])
        if self.phase == "as it is":
            self._decide(pace, images)
        else:
            self._judge(pace)

    def _decide(self, pace: float, images: int) -> None:
        left = int((self.budget - images) // self.learner.images_per_step)
        shape = self.learner.shape
        self.phase, self.pace = "decided", pace
        if measured.get(shape, EXPECTED).saves(left, pace) <= 0:
            return
        if shape not in measured:
            torch.compiler.reset()  # it gives up on code that met too many shapes
        fall_back_quietly()
        self.phase, self.seconds, self.steps = "compiled", [], []
        self.learner.use_compiled(True)

    def _judge(self, pace: float) -> None:
        over = sum(self.seconds[:SETTLING]) - pace * sum(self.steps[:SETTLING])
        payoff = Payoff(self.pace / pace, max(over, 0.0))
        measured[self.learner.shape] = payoff
        self.phase = "decided"
        if payoff.gain <= 1:
            self.learner.use_compiled(False)


def fall_back_quietly() -> None:
    """Let what torch cannot compile run as it is, instead of ending the trial with pages."""
    torch._dynamo.config.suppress_errors = True
    logging.getLogger("torch._dynamo").setLevel(logging.CRITICAL)
