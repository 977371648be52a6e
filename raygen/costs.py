"""What workers cost in dollars."""

from collections.abc import Mapping

from raygen.gpu_kinds import WITHOUT_GPU


def dollars(worked: Mapping[str, float], prices: Mapping[str, float], gpus: float) -> float | None:
    """What workers cost; None where a price is missing.

    `worked`: their seconds by the kind of their GPU; `prices`: dollars of an hour of one GPU by its
    kind, or of a worker without a GPU; `gpus`: of each worker, or a share of one.
    """
    kinds = {kind: kind if gpus else WITHOUT_GPU for kind in worked}
    if not prices or any(name not in prices for name in kinds.values()):
        return None
    hours = {kind: seconds / 3600 * (gpus or 1.0) for kind, seconds in worked.items()}
    return sum(prices[name] * hours[kind] for kind, name in kinds.items())
