"""A step of training as one CUDA graph: a single launch in place of a thousand.

At the usual sizes a GPU finishes a kernel sooner than the host starts the next one, so that a step
costs what its launches cost. A captured step is started whole.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple
from weakref import WeakMethod

import torch
from torch import Tensor

from raygen.errors import first_line

WARM_UP = 3  # eager steps before a capture: libraries choose their kernels, optimisers make state

Inputs = tuple[Tensor, ...]
Losses = dict[str, Tensor]
Compute = Callable[[Inputs, Hashable], Losses]


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Inputs  # where the graph reads
    losses: Losses  # where it writes

    def replay(self, inputs: Inputs) -> Losses:
        for static, new in zip(self.inputs, inputs, strict=True):
            static.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.losses


class StepGraph:
    """Runs a function of tensors, as a CUDA graph for each variant of it once that is possible.

    The function must be the same work for the same variant: all that changes from step to step is
    in its inputs or in tensors that it changes in place, it reads nothing back to the host and
    draws no random numbers. What it returns is overwritten by the next step.
    """

    def __init__(self, compute: Compute, wanted: bool) -> None:
        self.compute, self.wanted = compute, wanted
        self.refused = ""  # why no graph could be captured
        self._stream: torch.cuda.Stream | None = None
        self.forget()

    @property
    def path(self) -> str:
        """How steps are run now: "graph", "eager", or "eager: " and why."""
        if self.refused:
            return f"eager: {self.refused}"
        return "graph" if self._captured else "eager"

    def forget(self) -> None:
        """Drop what was captured: the tensors of the step are others from now on."""
        self._captured: dict[Hashable, _Captured] = {}
        self._runs: Counter[Hashable] = Counter()
        self._pool: Any = None  # the memory that all variants share

    def __call__(self, inputs: Inputs, variant: Hashable = ()) -> Losses:
        """Run one step; `variant` says which work it is, where steps differ."""
        if not self.wanted or self.refused:
            return self.compute(inputs, variant)
        if variant not in self._captured:
            self._runs[variant] += 1
            if self._runs[variant] <= WARM_UP:
                return self._warm_up(inputs, variant)
            self._capture(inputs, variant)
            if self.refused:
                return self.compute(inputs, variant)
        return self._captured[variant].replay(inputs)

    def _warm_up(self, inputs: Inputs, variant: Hashable) -> Losses:
        """Run eagerly on a stream of its own, as a capture will."""
        # Always the same: torch keeps the memory that a stream has freed for that stream.
        stream = self._stream = self._stream or torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            losses = self.compute(inputs, variant)
        torch.cuda.current_stream().wait_stream(stream)
        return losses

    def _capture(self, inputs: Inputs, variant: Hashable) -> None:
        """Record the step without running it, or note why that is refused."""
        static = tuple(torch.empty_like(tensor) for tensor in inputs)
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            # Variants share their memory: each is done with before another one starts.
            # Of this thread: another one may be writing a checkpoint meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                losses = self.compute(static, variant)
        except RuntimeError as error:  # an operation that waits for the host, or no memory
            self.forget()
            self.refused = first_line(_first(error))
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            return
        self._captured[variant] = _Captured(graph, static, losses)


def weak(method: Compute) -> Compute:
    """A method that does not keep its object.

    An object that keeps itself waits for Python's collector, and so does what it holds of a GPU:
    weights, moments, the memory of captured steps.
    """
    reference = WeakMethod(method)

    def call(inputs: Inputs, variant: Hashable) -> Losses:
        method = reference()
        assert method is not None
        return method(inputs, variant)

    return call


def _first(error: BaseException) -> BaseException:
    """What went wrong first: a capture that an operation broke raises once more as it ends."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


class Scalars:
    """Numbers that a step reads on its device: a launch for each that has changed, none else."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.kept: dict[int, tuple[float, Tensor]] = {}  # by place

    def __call__(self, *numbers: float) -> list[Tensor]:
        """Tensors (), which nobody may change in place."""
        for place, number in enumerate(numbers):
            if place not in self.kept or self.kept[place][0] != number:
                # Not torch.tensor, which would wait for the device.
                self.kept[place] = number, torch.full((), number, device=self.device)
        return [self.kept[place][1] for place in range(len(numbers))]
