"""METRICS: the name, direction and needs of every metric. A new one is a file and a line here."""

from typing import Literal, NamedTuple

from raygen.metrics.protocol import Score, protocol_hash

Direction = Literal["minimize", "maximize"]


class Metric(NamedTuple):
    """Which way is better, which families have it, and how many samples make sense."""

    direction: Direction
    families: tuple[str, ...]
    features: str | None = None  # the extractor whose Fréchet distance it is
    least_samples: int = 1  # below it the covariance has no full rank


METRICS = {
    "fd_classifier": Metric("minimize", ("gan", "vae"), "classifier", least_samples=353),
    "fid": Metric("minimize", ("gan", "vae"), "inception", least_samples=2049),
    "elbo": Metric("maximize", ("vae",)),
    "bits_per_dim": Metric("minimize", ("vae",)),
    "iwae_bits_per_dim": Metric("minimize", ("vae",)),
    "active_units": Metric("maximize", ("vae",)),
    "million_parameters": Metric("minimize", ("gan", "vae")),
}

__all__ = ["METRICS", "Direction", "Metric", "Score", "protocol_hash"]
