"""How many trials are to share a GPU: measured, not guessed.

A small network leaves a GPU idle between two launches, a large one fills it. What several trials
bring depends on both, on the host and on the driver, so that processes like those of trials train
together for a few seconds, and as many share a GPU as make it faster and fit its memory.
"""

import multiprocessing
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import ray
import torch

from raygen.cluster import mps
from raygen.cluster.connect import wait_for
from raygen.cluster.room import growth, offered, selector
from raygen.compute import Compute
from raygen.config import Study
from raygen.data import ImageData, Split
from raygen.data.batches import Batches
from raygen.errors import first_line
from raygen.image_shape import ImageShape
from raygen.notices import Notify, Phase
from raygen.plugins import install, sources
from raygen.search.sampler import Sampler
from raygen.training.loop import make_learner
from raygen.trial import GanTrial, Trial, parse_trial
from raygen.tuning.gpu_sharing import share_of

MOST = 8  # trials on one GPU
WORTH = 1.1  # times as fast together: else half as many trials, each sooner at its next rung
SPARE = 1.1  # times the memory of a training: its evaluations adapt, its steps do not
SECONDS = 1.5  # that each number of trials is measured for
ANSWER_SECONDS = 120.0  # for a process to have started, and captured or compiled its step
SETTLING = 8  # steps before the first measurement: warm-up, capture


class Packing(NamedTuple):
    """What several trials on one device reach, as far as it was measured."""

    speeds: dict[int, float]  # images a second of so many trials together; empty: not even one
    memory: float  # share of the device's memory that one trial needs
    refused: str = ""  # why there is no speed of more of them

    def best(self) -> int:
        """The largest number of trials that is worth it."""
        chosen = 1
        for number, speed in sorted(self.speeds.items()):
            if number > 1 and speed < WORTH * self.speeds[chosen]:
                break
            chosen = number
        return chosen


def settle(study: Study, data: ImageData, notify: Notify, until: float | None = None) -> Study:
    """Put a number in the place of `resources.gpus: auto`, and say how it was found.

    Call it while connected to Ray. 0 where there are no GPUs and none will come; 1 for trials of
    several workers.

    Raises:
        RaygenError: no GPU became free until the hours of the budget were spent.
    """
    resources = study.spec.resources
    if resources.gpus != "auto":
        return study
    if not offered(resources).get("GPU") and not growth(resources):
        return _with(study, 0.0, "no GPU: trials train on CPUs", notify)
    if resources.most_workers > 1:
        return _with(study, 1.0, "a whole one for each of several workers", notify)
    draw = Sampler(study, "auto", None).draw(0).draw  # as the search will
    task: Any = ray.remote(_measure_on_node).options(  # pyright: ignore[reportFunctionMemberAccess]
        num_gpus=1, num_cpus=resources.cpus, max_retries=0, label_selector=selector(resources)
    )
    answer = task.remote(
        study.trial(draw.config).model_dump(), sources(), data.train.images.shape,
        len(data.classes), study.spec.compute, resources.cpus,
    )  # fmt: skip
    text = "measuring how many trials may share a GPU"
    notify(Phase(text))
    packing: Packing = wait_for(answer, until, notify, f"{text}, or waiting for it")
    return _with(study, 1 / packing.best(), in_words(packing), notify)


def _measure_on_node(
    settings: dict[str, Any],
    plugins: dict[str, str],
    shape: Sequence[int],
    classes: int,
    compute: Compute,
    cpus: float,
) -> Packing:
    """Measure as many trials as the CPUs of this node are enough for."""
    install(plugins)
    trial = parse_trial(settings)
    here = ray.get_runtime_context().get_node_id()
    offered = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    most = min(MOST, int(offered.get("CPU", 0) / max(offered.get("GPU", 1), 1) / cpus + 1e-9))
    threads = max(1, int(cpus))
    return measure(trial, shape, classes, compute, torch.device("cuda"), max(most, 1), threads)


def _with(study: Study, gpus: float, words: str, notify: Notify) -> Study:
    notify(Phase(f"resources.gpus: {gpus:g} ({words})"))
    resources = study.spec.resources.model_copy(update={"gpus": gpus})
    return study._replace(spec=study.spec.model_copy(update={"resources": resources}))


def in_words(packing: Packing) -> str:
    """Say in one line what was measured."""
    if not packing.speeds:
        return f"one trial could not be measured: {packing.refused}"
    single = packing.speeds[1]
    gains = ", ".join(
        f"{number} together train {speed / single:.2f} times as fast as one"
        for number, speed in packing.speeds.items()
        if number > 1
    )
    memory = f"a trial needs {packing.memory:.0%} of its memory"
    return "; ".join(part for part in (gains, memory, packing.refused) if part)


def measure(
    trial: Trial,
    shape: Sequence[int],
    classes: int,
    compute: Compute,
    device: torch.device,
    most: int,
    threads: int,
    seconds: float = SECONDS,
) -> Packing:
    """Train 1, 2, 4 … up to `most` trials at once, each in a process of its own.

    On noise of the shape of the training images (n, 3, 32, 32); all compute on `device`, with so
    many threads of the CPU each.
    """
    speeds: dict[int, float] = {}
    memory = 1.0
    daemon = f"auto-{secrets.token_hex(4)}"
    with _processes(
        (daemon, trial.model_dump(), sources(), tuple(shape), classes, compute, device, threads)
    ) as start:
        try:
            first = start()
            memory = _answer(first)
            running, number = [first], 1
            while True:
                speeds[number] = _together(running, seconds)
                number *= 2
                if number > most:
                    return Packing(speeds, memory)
                if number * memory > 1:
                    return Packing(speeds, memory, f"there is no memory for {number}")
                running += [start() for _ in range(number - len(running))]
                for process in running[number // 2 :]:
                    _answer(process)
        except (RuntimeError, EOFError, OSError) as error:
            return Packing(speeds, memory, first_line(error) or "its process was killed")


def _together(processes: list[Connection], seconds: float) -> float:
    for process in processes:
        process.send(seconds)
    return sum(_answer(process) for process in processes)


def _answer(process: Connection) -> float:
    if not process.poll(ANSWER_SECONDS):
        raise RuntimeError(f"a trial did not answer in {ANSWER_SECONDS:g} s")
    answer = process.recv()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


@contextmanager
def _processes(arguments: tuple[Any, ...]) -> Iterator[Callable[[], Connection]]:
    """Return what starts a process that trains as it is asked to; all end with this context."""
    context = multiprocessing.get_context("spawn")
    started: list[tuple[BaseProcess, Connection]] = []

    def start() -> Connection:
        end, its_end = context.Pipe()
        process = context.Process(target=_train, args=(its_end, *arguments), daemon=True)
        process.start()
        its_end.close()
        started.append((process, end))
        return end

    try:
        yield start
    finally:
        for process, _ in started:
            process.kill()
        for process, _ in started:
            process.join()


def _train(
    asked: Connection,
    daemon: str,
    settings: dict[str, Any],
    plugins: dict[str, str],
    shape: tuple[int, ...],
    classes: int,
    compute: Compute,
    device: torch.device,
    threads: int,
) -> None:
    """Say which share of the memory a trial takes; then, as often as asked, how fast it is."""
    try:
        if device.type == "cuda":
            mps.join(daemon)
        torch.set_num_threads(threads)
        install(plugins)
        trial = parse_trial(settings)
        images = torch.randint(256, shape, dtype=torch.uint8, device=device)
        labels = torch.randint(classes, shape[:1], device=device)
        image = ImageShape(*shape[1:3])
        learner = make_learner(trial, classes, device, 0, compute, image=image)
        batches = Batches(Split(images, labels), trial.batch_size, 0, device, trial.flip)
        position = 0

        def step() -> None:
            nonlocal position
            learner.step(batches, position)
            position += learner.images_per_step

        for _ in range(SETTLING * _variants(trial)):
            step()
        asked.send(_memory(device))
        while True:
            seconds, before = asked.recv(), position
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                step()
                # As a queue of steps it would go on when the others are done.
                if device.type == "cuda":
                    torch.cuda.synchronize()
            asked.send((position - before) / (time.monotonic() - began))
    except Exception as error:  # no memory, no such device: for those who asked to say
        asked.send(first_line(error) or type(error).__name__)


def _variants(trial: Trial) -> int:
    """Steps until every kind of step has been met: with a lazy penalty, and without."""
    return trial.loss.penalty_interval if isinstance(trial, GanTrial) else 1


def _memory(device: torch.device) -> float:
    """Share of the device that a trial like this one has to be given."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.synchronize()
    return share_of(SPARE * torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1])
