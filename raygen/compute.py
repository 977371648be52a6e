"""How the arithmetic of training is done: precision, memory layout, compilation.

None of this is searched: it changes what a step costs, not what is learnt. Evaluation does not
depend on it: it is in float32, without TF32 unless `evaluation.precision` says so.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from raygen.distributed import world_size
from raygen.spec import Spec

Precision = Literal["float32", "tf32"]  # of what makes features for an evaluation
Compiled = TypeVar("Compiled", bound=Callable[..., Any])
Thing = TypeVar("Thing", nn.Module, Tensor)


class Arithmetic(NamedTuple):
    """What a device does: every choice made."""

    device: torch.device
    bfloat16: bool
    channels_last: bool
    tf32: bool
    compiled: bool  # from the first step on
    compiled_if_worth: bool  # in the middle of a trial, if the steps that are left repay it
    graph: bool  # a step of training as one CUDA graph
    tensors: bool  # rates and weights are read on the device: a float would make the host wait

    def autocast(self) -> AbstractContextManager[object]:
        """Convolutions and products in bfloat16, if chosen; what is written after is in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def layout(self, thing: Thing) -> Thing:
        """Put 4-d weights or images into the memory format."""
        wanted = torch.channels_last if self.channels_last else torch.contiguous_format
        if isinstance(thing, nn.Module):
            return thing.to(memory_format=wanted)  # pyright: ignore[reportCallIssue]
        return thing.contiguous(memory_format=wanted)


class Compute(Spec):
    """Precision and speed of training; "auto" chooses by device.

    `channels_last` is on: on CPUs it made steps 1.1 to 1.3 times as fast. `precision` is bfloat16
    on CUDA (autocast; losses, penalties and last layers stay in float32) and float32 on CPUs: with
    instructions for it bfloat16 doubles the speed of `sngan` and `biggan` there, but halves that
    of `conv_vae`. `tf32`, of what stays in float32, is on. `graph` runs a step as one CUDA graph:
    on CUDA with one worker; where a capture is refused, steps run one operation after another as
    everywhere else. `compile` is off on CPUs until asked for: there it gained 0.97 and 1.14, for
    up to minutes before the first step of every architecture (benchmarks/train_step.py). On CUDA
    with one worker a trial compiles its networks once it knows its pace, if that repays itself.
    """

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    tf32: bool | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    graph: Literal["auto", "on", "off"] = "auto"

    def after(self, losses: int) -> "Compute":
        """What a trial runs with that was lost so often in a row: a compiler or a driver may hang.

        The second time not compiled, from the third on without a graph, too.
        """
        careful = {"compile": False} if losses == 1 else {"compile": False, "graph": "off"}
        return self.model_copy(update=careful) if losses else self

    def on(self, device: torch.device) -> Arithmetic:
        """Make every choice for a device."""
        cuda = device.type == "cuda"
        return Arithmetic(
            device,
            cuda if self.precision == "auto" else self.precision == "bfloat16",
            self.channels_last == "auto" or self.channels_last,
            cuda and (self.tf32 == "auto" or self.tf32),
            self.compile is True,
            cuda and self.compile == "auto" and world_size() == 1,
            cuda and self.graph != "off" and world_size() == 1,
            cuda or self.graph == "on",
        )


def compile_if(wanted: bool, thing: Compiled) -> Compiled:
    """Compile a network or a function, if wanted."""
    return torch.compile(thing, dynamic=False) if wanted else thing  # pyright: ignore


def best_device() -> torch.device:
    """Return the GPU if torch can use one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Let CUDA round float32 products to TF32, or not; torch's default is yes for convolutions."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = enabled, enabled
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
