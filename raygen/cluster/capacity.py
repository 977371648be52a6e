"""How many trials would run at once, without starting anything."""

import os

import torch

from raygen.cluster.connect import trials_that_fit
from raygen.config import StudySpec


def fits(spec: StudySpec, address: str | None) -> str:
    """Return how many trials fit on this machine; a cluster is not queried."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        return f"as many as fit on the cluster at {address} (not queried)"
    cpus, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    machine = f"this machine ({cpus} CPU, {gpus} GPU)"
    resources = spec.resources
    if resources.gpus == "auto" and not gpus:
        resources = resources.model_copy(update={"gpus": 0.0})
    fit, shortage = trials_that_fit(resources, {"CPU": float(cpus), "GPU": float(gpus)})
    if shortage:
        return f"none on {machine}: {shortage}"
    return f"{min(fit, spec.budget.trials)} on {machine}"
