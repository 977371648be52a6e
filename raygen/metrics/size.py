"""The size of a model."""

from raygen.metrics.statistic import Examined, ModelStatistic


def _millions(examined: Examined) -> float:
    return examined.model.parameters / 1e6


MILLION_PARAMETERS = ModelStatistic(_millions, tests=False)
