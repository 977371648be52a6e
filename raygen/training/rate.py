"""How settings change over a trial: pure functions of how much of the budget is used."""

import math


def used(position: int, budget: float | None) -> float:
    """Share of a budget of images that is used, 0 to 1; 0 without a budget."""
    return min(position / budget, 1.0) if budget else 0.0


def rate(decay: str, share: float) -> float:
    """Factor of the learning rate after this share of the budget.

    "linear" and "cosine" (Loshchilov and Hutter 2017, one period) fall from 1 to 0.
    """
    share = min(max(share, 0.0), 1.0)
    if decay == "linear":
        return 1.0 - share
    if decay == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * share))
    return 1.0
