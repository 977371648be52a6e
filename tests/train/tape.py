"""A recorded step that is played again as a CUDA graph is: every operation at its addresses."""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Inputs = tuple[Tensor, ...]
Losses = dict[str, Tensor]

# What a capture refuses: the host waits for a value, makes one for the device, or random numbers
# come from nowhere.
READS = (
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero",
    "aten::masked_select", "aten::unique", "aten::_unique",
)  # fmt: skip
MAKES = ("aten::lift_fresh",)  # torch.tensor: a copy from memory that is not pinned
DRAWS = ("aten::rand", "aten::normal", "aten::bernoulli", "aten::uniform", "aten::dropout")


class Tape(TorchDispatchMode):
    """Records the operations on tensors that run inside, backward passes and Adam included."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        assert not name.startswith(READS), f"{name}: the host reads a value"
        index = tree_leaves(args[1:2]) if name.startswith("aten::index") else []
        masks = [i for i in index if isinstance(i, Tensor) and i.dtype == torch.bool]
        assert not masks, f"{name}: the host counts what a mask selects"
        assert not name.startswith(MAKES), f"{name}: the host makes a tensor"
        assert not name.startswith(DRAWS), f"{name}: draws random numbers"
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def play(self) -> None:
        """Run every operation again on the memory that it used, and write where it wrote."""
        for func, args, kwargs, result in self.operations:
            for old, new in zip(
                tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True
            ):
                # Views and changes in place are where they were.
                if isinstance(new, Tensor) and new.data_ptr() != old.data_ptr():
                    old.detach().copy_(new)


class TapedStep:
    """In the place of a learner's StepGraph: eager once for each variant, then recorded."""

    def __init__(self, compute: Callable[[Inputs, Hashable], Losses]) -> None:
        self.compute, self.seen = compute, set[Hashable]()
        self.tapes: dict[Hashable, tuple[Tape, Inputs, Losses]] = {}
        self.played = 0

    def __call__(self, inputs: Inputs, variant: Hashable = ()) -> Losses:
        if variant not in self.seen:
            self.seen.add(variant)
            return self.compute(inputs, variant)
        if variant not in self.tapes:
            static = tuple(torch.empty_like(tensor).copy_(tensor) for tensor in inputs)
            with Tape() as tape:
                losses = self.compute(static, variant)
            self.tapes[variant] = tape, static, losses
            return losses
        tape, static, losses = self.tapes[variant]
        for old, new in zip(static, inputs, strict=True):
            old.copy_(new)
        tape.play()
        self.played += 1
        return losses
