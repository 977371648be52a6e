"""raygen: distributed hyperparameter search for image generators."""

__version__ = "0.1.0"
