"""The default sampler: Bayesian optimisation on learning curves that were cut short."""

from raygen.search.curve.coding import Coding, from_unit
from raygen.search.curve.sampler import CurveSampler, sobol_point

__all__ = ["Coding", "CurveSampler", "from_unit", "sobol_point"]
