"""The finalists and the model to use, measured on new samples."""

from typing import Any

import ray
import torch
from ray.exceptions import RayError

from raygen.errors import RaygenError
from raygen.metrics import afresh
from raygen.metrics.repeated import repeated
from raygen.notices import Phase
from raygen.plugins import install
from raygen.search.controller import Controller
from raygen.training.checkpoint import load_sampler
from raygen.tuning.gpu_sharing import share_gpu
from raygen.tuning.worker import Shared, headline

POLL = 1.0  # seconds between two looks at whether the search is to end


def measure_chosen(controller: Controller, shared: Shared, plan: afresh.Plan) -> None:
    """Measure what was not yet, several at once, and write each into the journal.

    The model to use, and the finalists if their samples are set. Nothing if the search was
    interrupted. One that cannot be measured is reported and left out; the search continues.
    """
    waiting = _chosen(controller)
    if not waiting:
        return
    controller.notify(Phase(f"measuring {_words(waiting)} on new samples"))
    resources = shared.resources
    measure = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpu_share, max_retries=2)(
        _measure
    )
    reference = ray.put(shared)
    running = {measure.remote(reference, number, plan): number for number in waiting}  # pyright: ignore
    while running and not _interrupted(controller):
        done, _ = ray.wait(list(running), timeout=POLL)
        for task in done:
            number = running.pop(task)
            try:
                controller.measured(number, ray.get(task))
            except (RayError, RaygenError) as error:
                text = f"trial {number} could not be measured on new samples: {headline(error)}"
                controller.notify(Phase(text))
    for task in running:
        ray.cancel(task, force=True)


def _chosen(controller: Controller) -> list[int]:
    """Numbers of the runs to measure, the model to use first."""
    if _interrupted(controller):
        return []
    model = controller.best_run()
    numbers = [] if model is None else [model]
    if controller.spec.finalists.samples and controller.race.settled and not controller.closing:
        numbers += controller.race.finalists
    return [number for number in dict.fromkeys(numbers) if number not in controller.final]


def _interrupted(controller: Controller) -> bool:
    return controller.closing is not None and controller.closing.state != "finished"


def _words(numbers: list[int]) -> str:
    return "the model to use" if len(numbers) == 1 else f"the {len(numbers)} best models"


def _measure(shared: Shared, number: int, plan: afresh.Plan) -> dict[str, Any]:
    """Measure one run's best weights, on the device of its training."""
    resources = shared.resources
    install(shared.plugins)
    share_gpu(resources, shared.folder)
    torch.set_num_threads(max(1, int(resources.cpus)))
    device = torch.device("cuda" if resources.gpu_share else "cpu")
    folder = shared.open_folder()
    best = folder.trial(number).best
    if shared.storage is not None:
        shared.storage.pull(folder.root, [best.relative_to(folder.root).as_posix()])
    learner, _ = load_sampler(best, device)
    evaluator = afresh.evaluator(plan, shared.data(), device, shared.assets.afresh)
    return {v.metric: v.content() for v in repeated(evaluator, lambda _: learner, plan.seeds)}
