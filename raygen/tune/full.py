"""Finalists measured in full: many samples, several seeds, against training and test images."""

from typing import Any

import ray
import torch
from ray.exceptions import RayError

from raygen.config import Resources
from raygen.errors import RaygenError
from raygen.metrics.evaluate import SAMPLE_SEED, Evaluator
from raygen.metrics.repeated import repeated
from raygen.train.checkpoint import load_sampler
from raygen.tune.controller import Controller
from raygen.tune.workbench import Shared, headline

POLL = 1.0  # seconds between two looks at whether the search is to end


def measure_finalists(controller: Controller, shared: Shared) -> None:
    """Measure the finalists that were not, several at once, and write each into the journal.

    Nothing where no samples are asked for, or the search has not come to its end. One that cannot
    be measured is told of and left out: the search is not lost for it.
    """
    spec = controller.spec
    if not spec.final_metrics or not controller.race.settled or controller.closing:
        return
    waiting = [n for n in controller.race.finalists if n not in controller.final]
    if not waiting:
        return
    controller.notify({"kind": "phase", "text": f"measuring {len(waiting)} finalists in full"})
    resources = Resources.model_validate(shared.resources)
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=2)(_measure)
    reference = ray.put(shared)
    settings = spec.final_metrics, spec.finalists.samples, spec.finalists.sample_seeds
    running = {task.remote(reference, number, *settings): number for number in waiting}  # pyright: ignore
    while running and not controller.closing:
        done, _ = ray.wait(list(running), timeout=POLL)
        controller.tick()
        for each in done:
            number = running.pop(each)
            try:
                controller.measured(number, ray.get(each))
            except (RayError, RaygenError) as error:
                text = f"finalist {number} could not be measured in full: {headline(error)}"
                controller.notify({"kind": "phase", "text": text})
    for each in running:
        ray.cancel(each, force=True)


def _measure(
    shared: Shared, number: int, metrics: tuple[str, ...], samples: int, sample_seeds: int
) -> dict[str, Any]:
    """Measure one trial's best weights, on the device of its training."""
    resources = shared.resources
    torch.set_num_threads(max(1, int(resources["cpus"])))
    device = torch.device("cuda" if resources["gpus"] else "cpu")
    folder = shared.open_folder()
    best = folder.trial(number).best
    if shared.storage is not None:
        shared.storage.pull(folder.root, [best.relative_to(folder.root).as_posix()])
    learner, _ = load_sampler(best, device)
    evaluator = Evaluator(metrics, shared.data(), samples, device, shared.assets)
    # Not the seed of the search, whose samples the trial was chosen by.
    seeds = range(SAMPLE_SEED + 1, SAMPLE_SEED + 1 + sample_seeds)
    return {v.metric: v.content() for v in repeated(evaluator, lambda _: learner, seeds)}
