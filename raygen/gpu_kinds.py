"""Kinds of GPU by Ray's names, and another spelling of one of them.

A name is a label of a node, and Ray takes any: a cluster's own as well. So what is refused is only
what differs from a name of Ray's in capitals and punctuation, and would wait for a node for ever.
"""

import re

WITHOUT_GPU = "CPU"  # the name in a table of prices of a worker that has no GPU
# Of ray.util.accelerators, which only raygen.tuning and raygen.cluster import; a test compares.
GPU_KINDS = (
    "A100", "A10G", "AMD-Instinct-MI100", "AMD-Instinct-MI210", "AMD-Instinct-MI250X-MI250",
    "AMD-Radeon-HD-7900", "AMD-Radeon-R9-200-HD-7900", "Apple-Silicon", "H100", "Intel-GAUDI",
    "Intel-GPU-Max-1100", "Intel-GPU-Max-1550", "K80", "L4", "M1", "M1-Max", "M1-Pro", "M1-Ultra",
    "M2", "M2-Max", "M2-Pro", "M2-Ultra", "M3", "M3-Max", "M3-Pro", "MOBILINT_ARIES",
    "MOBILINT_REGULUS", "MXC500", "MXC550", "P100", "P4", "T4", "TPU-V2", "TPU-V3", "TPU-V4",
    "TPU-V5LITEPOD", "TPU-V5P", "TPU-V6E", "TPU-V7X", "V100", "aws-neuron-core",
)  # fmt: skip


def check_kind(kind: str) -> str:
    """Return a kind of GPU.

    Raises:
        ValueError: Ray writes it in another way.
    """
    for name in (*GPU_KINDS, WITHOUT_GPU):
        if kind != name and _letters(kind) == _letters(name):
            raise ValueError(f"must be spelt as Ray does: {name!r}")
    return kind


def _letters(kind: str) -> str:
    """A name without its capitals, its punctuation and NVIDIA's own names before it."""
    return re.sub(r"nvidia|tesla|[^a-z0-9]", "", kind.lower())
