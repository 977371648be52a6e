"""How a process shares its GPU with the other trials of a search."""

import hashlib

import torch

from raygen.cluster import mps
from raygen.resources import Resources

CONTEXT = 2**30  # bytes that CUDA itself may take for each process


def memory_fraction(share: float, total: int) -> float:
    """How much of a GPU's memory torch may take in one of the processes that share it: 0 to 1.

    What CUDA itself takes for each of them is left out.
    """
    return max(0.05, share - CONTEXT / total)


def share_of(bytes_of_torch: float, total: int) -> float:
    """The share of a GPU that a process needs whose torch takes so much: the inverse."""
    return (bytes_of_torch + CONTEXT) / total


def share_gpu(resources: Resources, search: str) -> tuple[str, str]:
    """Prepare this process, before it uses CUDA, to share its GPU with others of a search.

    `search` is a name that they have in common. Return how they share it in two words, and why not
    at the same time: "" and "" for a process that has its GPU to itself.
    """
    share = resources.gpu_share
    if not 0 < share < 1:
        return "", ""
    refused = mps.join(hashlib.sha256(search.encode()).hexdigest()[:8])
    total = torch.cuda.get_device_properties(0).total_memory
    # A trial that outgrows its share ends by itself, and not its neighbours.
    torch.cuda.set_per_process_memory_fraction(memory_fraction(share, total))
    return "in turns" if refused else "by MPS", refused
