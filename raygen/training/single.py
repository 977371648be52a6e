"""One configuration to its end, without Ray: the body of `raygen train`."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from raygen.config import TrainJob, with_extra
from raygen.data import load_data
from raygen.errors import InputError
from raygen.metrics.evaluator import Evaluator, require
from raygen.study_folder import TrialFolder
from raygen.training.checkpoint import load_full
from raygen.training.loop import Progress, fit
from raygen.training.record import record


def train(
    job: TrainJob,
    folder: TrialFolder,
    device: torch.device,
    resume: bool,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Progress]:
    """Train, write each milestone into the folder, and yield it; `tell` hears of images left out.

    Raises:
        InputError: the data or the weights are not there, the folder is in use, or (with
            `resume`) holds another configuration; nothing was written.
    """
    if folder.last.exists() and not resume:
        raise InputError(
            f"{folder.root}: already holds a training run; use --resume to continue it"
        )
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    data = load_data(job.data)
    for note in data.notes:
        tell(note)
    require(job.metrics)
    state = load_full(folder.last, device) if resume else None
    if state is not None:
        stored = {"trial": state["trial"], "seed": state["seed"], "data": state["data"]}
        wanted = {"trial": job.trial.model_dump(), "seed": job.seed, "data": data.summary()}
        for key, value in wanted.items():
            if stored[key] != value:
                raise InputError(f"{folder.last}: was trained with another {key}: {stored[key]}")
    evaluation = job.evaluation
    evaluator = Evaluator(
        job.metrics, data, evaluation.samples, device, precision=evaluation.precision
    )
    milestones = with_extra(job.milestones, evaluation.every_kimg, job.kimg)
    samples_at = partial(evaluation.samples_at, rungs=job.rungs)
    training = fit(
        job.trial, data, evaluator, milestones, job.seed, state,
        compute=job.compute, samples_at=samples_at,
    )  # fmt: skip
    path = "eager"
    for progress in training:
        why = progress.path.partition("eager: ")[2]
        if progress.path != path and why:
            tell(f"no CUDA graph of a step ({why})")
        path = progress.path
        record(folder, job.trial, job.seed, data.summary(), progress)
        yield progress
