"""METRICS: the name, direction and needs of every metric. A new one is a file and a line here."""

import math
from typing import Literal, NamedTuple

from raygen.metrics.protocol import Score, protocol_hash

Direction = Literal["minimize", "maximize"]


class Metric(NamedTuple):
    """Which way is better, which families have it, and how many samples make sense."""

    direction: Direction
    families: tuple[str, ...]
    features: str | None = None  # the extractor whose Fréchet distance it is
    least_samples: int = 1  # below it the covariance has no full rank
    guess: float | None = None  # its value if all pictures of 3x32x32 bytes were equally likely


METRICS = {
    "fd_classifier": Metric("minimize", ("gan", "vae"), "classifier", least_samples=353),
    "fid": Metric("minimize", ("gan", "vae"), "inception", least_samples=2049),
    "elbo": Metric("maximize", ("vae",), guess=-3 * 32 * 32 * math.log(256)),
    "bits_per_dim": Metric("minimize", ("vae",), guess=8.0),
    "iwae_bits_per_dim": Metric("minimize", ("vae",), guess=8.0),
    "active_units": Metric("maximize", ("vae",)),
    "million_parameters": Metric("minimize", ("gan", "vae")),
}

__all__ = ["METRICS", "Direction", "Metric", "Score", "protocol_hash"]
