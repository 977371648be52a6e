"""A search on Ray Tune, its trials in Ray Train: the loop around raygen.search."""

import raygen.cluster  # noqa: F401  what Ray reads as it is imported is set there
