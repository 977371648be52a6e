"""Every random choice of a search follows from the study's seed and what it is for."""

import hashlib


def derive(seed: int, *purpose: object) -> int:
    """Return a seed in [0, 2^31): the same for the same study seed and purpose, whoever asks."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def numbered(seed: int, number: int) -> int:
    """Return the seed of one of many parts: of an epoch, a chunk or a position in the data.

    Two seeds share a value only where their numbers lie a million apart.
    """
    return seed * 1_000_003 + number
