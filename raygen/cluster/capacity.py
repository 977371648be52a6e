"""How many trials would run at once, without starting anything."""

import os

import ray
import torch

from raygen.cluster.connect import started_here
from raygen.cluster.room import trials_that_fit
from raygen.config import StudySpec


def fits(spec: StudySpec, address: str | None) -> str:
    """Return how many trials fit on this machine; a cluster is not queried."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        return f"as many as fit on the cluster at {address} (not queried)"
    fit, shortage = _here(spec)
    return f"none on {shortage}" if shortage else f"{fit} on {_machine()}"


def _here(spec: StudySpec) -> tuple[int, str]:
    """How many trials fit on this machine, and what one lacks ("" if one fits)."""
    cpus, gpus = _sizes()
    resources = spec.resources
    if resources.gpus == "auto" and not gpus:
        resources = resources.model_copy(update={"gpus": 0.0})
    fit, shortage = trials_that_fit(resources, {"CPU": float(cpus), "GPU": float(gpus)})
    if not shortage:
        return min(fit, spec.budget.trials), ""
    cpu = "; --cpu searches without a GPU" if resources.gpu_share > gpus else ""
    return 0, f"{_machine()}: {shortage}{cpu}"


def _sizes() -> tuple[int, int]:
    return os.cpu_count() or 1, torch.cuda.device_count()


def _machine() -> str:
    cpus, gpus = _sizes()
    return f"this machine ({cpus} CPU, {gpus} GPU)"


def no_place(spec: StudySpec, address: str | None) -> str | None:
    """Say what a trial lacks on this machine, if the search would start its own Ray here."""
    if (address or os.environ.get("RAY_ADDRESS") or "local") != "local":
        return None
    if ray.is_initialized() or started_here() is not None:
        return None
    return _here(spec)[1] or None
