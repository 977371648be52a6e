"""The size of a model."""

from raygen.metrics.statistic import ModelStatistic, Tested


def _millions(tested: Tested) -> float:
    return tested.model.parameters / 1e6


MILLION_PARAMETERS = ModelStatistic(_millions, tests=False)
