"""How many trials would run at once, told without starting anything."""

import os

import torch

from raygen.cluster.connect import concurrency
from raygen.config import StudySpec
from raygen.errors import InputError


def fits(spec: StudySpec, address: str | None) -> str:
    """Say how many trials fit on this machine; a cluster is not asked, for nothing is started."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        return f"as many as fit on the cluster at {address}, which was not asked"
    cpus, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    machine = f"this machine ({cpus} CPU, {gpus} GPU)"
    try:
        fit = concurrency(spec.resources, {"CPU": float(cpus), "GPU": float(gpus)})
    except InputError as error:
        return f"none on {machine}: {error}"
    return f"{min(fit, spec.budget.trials)} on {machine}"
