"""How many trials would run at once, without starting anything."""

import os

import ray
import torch

from raygen.cluster.connect import started_here, trials_that_fit
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
        cpu = "; --cpu searches without a GPU" if resources.gpu_share > gpus else ""
        return f"none on {machine}: {shortage}{cpu}"
    return f"{min(fit, spec.budget.trials)} on {machine}"


def no_place(spec: StudySpec, address: str | None) -> str | None:
    """Say what a trial lacks on this machine, if the search would start its own Ray here."""
    if (address or os.environ.get("RAY_ADDRESS") or "local") != "local":
        return None
    if ray.is_initialized() or started_here() is not None:
        return None
    text = fits(spec, address)
    return text.removeprefix("none on ") if text.startswith("none on ") else None
