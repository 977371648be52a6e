"""One trial on Ray: in a reused actor, or as a group of DDP workers that Ray Train started."""

import json
import os
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray import tune
from ray.exceptions import RayError
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.placement_group import remove_placement_group

from raygen.config import Resources, Trial, parse_trial
from raygen.data import ImageData, Split
from raygen.distributed import rank, world_size
from raygen.errors import InputError, RaygenError, StorageError
from raygen.folders import StudyFolder, TrialFolder
from raygen.metrics.evaluate import Evaluator
from raygen.train.checkpoint import checkpoint_between, load_full, save
from raygen.train.loop import Position, Progress, fit
from raygen.train.record import record
from raygen.tune.exchange import Exchange

Event = dict[str, Any]
Job = dict[str, Any]
HALT = 120.0  # seconds that a trial may take to reach its next pulse and save


class Shared(NamedTuple):
    """What all trials of a study have in common; travels through the object store once per node.

    Arrays and not tensors: Ray maps arrays into every process of a node without a copy.
    """

    folder: str
    family: str
    metrics: tuple[str, ...]
    samples: int
    milestones: tuple[float, ...]
    resources: dict[str, Any]
    name: str
    classes: tuple[str, ...]
    fingerprint: str
    arrays: tuple[np.ndarray, ...]
    assets: dict[str, Any]
    save_seconds: float  # between two checkpoints of a trial, at most
    beat_seconds: float  # between two signs of life of a trial

    def data(self) -> ImageData:
        """Return the data set, its tensors views of the shared memory."""
        with warnings.catch_warnings():
            # The memory is read-only and torch cannot say so; nothing here writes to it.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            tensors = [torch.from_numpy(array) for array in self.arrays]
        train, test = Split(*tensors[:2]), Split(*tensors[2:])
        return ImageData(self.name, self.classes, train, test, self.fingerprint)


class Workbench:
    """What stays warm in a process between trials: data on the device, extractors, kernels."""

    def __init__(
        self,
        shared: Shared,
        device: torch.device,
        ask: Callable[[int], bool] = lambda images: False,
    ) -> None:
        """`ask` hears how many images a trial has seen; where it returns true, the trial ends."""
        self.threads = max(1, int(shared.resources["cpus"]))
        data = shared.data()
        # Once per process: every trial in it finds the training images on its device.
        train = Split(data.train.images.to(device), data.train.labels.to(device))
        self.shared, self.device, self.data = shared, device, data._replace(train=train)
        self.evaluator = Evaluator(shared.metrics, self.data, shared.samples, device, shared.assets)
        self.ask = ask
        self.study = StudyFolder(Path(shared.folder))

    def run(self, job: Job) -> Iterator[Event]:
        """Train one trial; every way in which it can end is an event, not an exception."""
        torch.set_num_threads(self.threads)  # of this thread: OpenMP keeps a number for each
        folder = self.study.trial(job["number"])
        node = socket.gethostname()
        if not self.study.journal.exists():  # a node that joined later, without the shared folder
            yield ended("failed", f"{self.study.root} is not visible on {node}: it must be shared")
            return
        try:
            yield from self._train(job, folder)
        except (torch.OutOfMemoryError, MemoryError) as error:
            yield ended("out_of_memory", _headline(error))
        except StorageError as error:
            yield {**ended("interrupted", str(error)), "storage": True}
        except RaygenError as error:
            yield ended("failed", str(error))
        except Exception as error:
            # The boundary of a trial: its own bug must not end the search, and is shown in full.
            yield _told(error, folder.error)

    def _train(self, job: Job, folder: TrialFolder) -> Iterator[Event]:
        trial = parse_trial({"family": self.shared.family, **job["config"]})
        state = self._resume(folder)
        came = state["kimg"] if state is not None else 0.0
        place = {"node": socket.gethostname(), "node_id": ray.get_runtime_context().get_node_id()}
        here = {**place, "pid": os.getpid(), "device": str(self.device), "kimg": came}
        yield {"event": "started", **here}
        reported = job["reported"]
        if state is not None and state["report"] is not None and came > reported:
            # Saved, but its driver died before it wrote it down.
            yield progress_event(state["report"], folder)
        seed = job["seed"]
        pulse = _Pulse(self, folder, trial, seed)
        for progress in fit(
            trial, self.data, self.evaluator, self.shared.milestones, seed, state, pulse
        ):
            if rank() == 0:
                record(folder, trial, seed, self.data.summary(), progress)
            # Without its checkpoint a trial starts again; what is known of it is not told twice.
            if progress.kimg > reported or progress.diverged is not None:
                yield told_of(progress, folder)

    def _resume(self, folder: TrialFolder) -> dict[str, Any] | None:
        """Return the last checkpoint, or None: then the trial starts from its beginning."""
        for partial in folder.root.glob(".*.pt.*") if rank() == 0 else ():
            with suppress(OSError):
                partial.unlink()  # of a writer that was killed
        with suppress(InputError):
            return load_full(folder.last, self.device)
        return None


class _Pulse:
    """Between milestones: says how far the trial is, hears whether to stop, saves now and then."""

    def __init__(self, bench: Workbench, folder: TrialFolder, trial: Trial, seed: int) -> None:
        self.bench, self.folder, self.trial, self.seed = bench, folder, trial, seed
        self.saved = time.monotonic()

    def __call__(self, position: Position) -> bool:
        stop = self.bench.ask(position.images)
        due = time.monotonic() - self.saved > self.bench.shared.save_seconds
        if rank() == 0 and (stop or due):
            data = self.bench.data.summary()
            save(self.folder.last, checkpoint_between(self.trial, self.seed, data, position))
            self.saved = time.monotonic()
        return stop


class TrialActor(tune.Trainable):
    """A single-worker trial. Tune reuses the process for the next one: 0.2 s instead of 7 s.

    Training runs in a thread, so that the actor always answers: with a milestone, or with a sign of
    life. After a milestone it waits until it is asked again, that is, told to go on.
    """

    def setup(self, config: Job, shared: Shared | None = None) -> None:
        assert shared is not None
        self.shared = shared
        self.images, self.cancelled = 0, threading.Event()
        self.pool = ThreadPoolExecutor(1)
        device = torch.device("cuda" if shared.resources["gpus"] else "cpu")
        self.bench = Workbench(shared, device, self._ask)
        self._begin(config)

    def reset_config(self, new_config: Job) -> bool:
        self._halt()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, str]:
        if self.pending is None:
            self.pending = self.pool.submit(next, self.events, None)
        try:
            event = self.pending.result(timeout=self.shared.beat_seconds)
        except TimeoutError:
            return message({"event": "alive", "images": self.images})
        self.pending = None
        return message(event or ended("lost", "training ended without a word"))

    def cleanup(self) -> None:
        self._halt()
        self.pool.shutdown(wait=False)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Raygen writes its own checkpoints; Tune's are turned off."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Never called: resuming starts from the journal."""

    def _begin(self, job: Job) -> None:
        self.images = 0
        self.cancelled.clear()
        self.pending: Future[Event | None] | None = None
        self.events = self.bench.run(job)

    def _ask(self, images: int) -> bool:
        self.images = images
        return self.cancelled.is_set()

    def _halt(self) -> None:
        """End the running trial at its next pulse, saved."""
        self.cancelled.set()
        if self.pending is not None:
            self.pending.result(timeout=HALT)
        # In the thread that ran it: what a generator holds is of its thread.
        self.pool.submit(self.events.close).result(timeout=HALT)  # pyright: ignore[reportAttributeAccessIssue]


class DdpTrial(tune.Trainable):
    """A trial of several workers, through Ray Train.

    The group of workers stays for the next trial: Ray Train starts it once, and each worker runs
    one trial after another as it is told (raygen.tune.exchange). What takes 10 to 40 s is starting
    processes, and nothing of that depends on the trial.

    Progress comes through our own exchange and the placement group is removed by us: with Ray's own
    callback a trial that Tune stops keeps its workers for ever when the dashboard does not run (Ray
    #54305), and hangs when the Tune loop stalls for a few seconds.
    """

    def setup(self, config: Job, shared: Any = None) -> None:
        # A reference in a list: resolved by the workers, not in this process, which needs no data.
        self.shared_ref, self.resources, self.folder, self.beat_seconds = shared
        self.turn, self.group, self.exchange = 0, None, None
        self._begin(config)

    def reset_config(self, new_config: Job) -> bool:
        if self.healthy and self.thread.is_alive():
            self._order({"do": "stop"}, cancel=True)
        else:
            self._release()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, str]:
        assert self.exchange is not None
        if self.awaited:
            self.awaited = False
            self._order({"do": "go"})
        deadline = time.monotonic() + self.beat_seconds
        while True:
            finished = not self.thread.is_alive()
            event = self.exchange.hear(0.2)
            if event is not None and event["event"] == "group":
                self.group = event["group"]
            elif event is not None and event["turn"] == self.turn:
                return message(self._note(event))
            elif finished:
                self.healthy = False
                reason = _headline(self.failure[0]) if self.failure else "its workers are gone"
                return message(ended("lost", reason))
            elif time.monotonic() > deadline:
                return message({"event": "alive", "images": self.images})

    def cleanup(self) -> None:
        if self.healthy and self.thread.is_alive():
            # Saved at the next pulse; then the workers leave, and Ray Train ends the group.
            self._order({"do": "stop"}, cancel=True)
            self._order({"do": "quit"}, cancel=True)
            self.thread.join(timeout=HALT)
        self._release()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Raygen writes its own checkpoints; Tune's are turned off."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Never called: resuming starts from the journal."""

    def _begin(self, job: Job) -> None:
        if self.exchange is None:
            self._launch()
        self.turn += 1
        self.images, self.awaited, self.healthy = 0, False, True
        self._order({"do": "train", "job": job, "turn": self.turn})

    def _note(self, event: Event) -> Event:
        del event["turn"]
        match event["event"]:
            case "alive":
                self.images = event["images"]
            case "progress":
                self.awaited = not event["last"] and event["diverged"] is None
            case "ended":
                # One worker left a trial on its own: the others may wait for it for ever.
                self.healthy = False
        return event

    def _order(self, order: dict[str, Any], cancel: bool = False) -> None:
        assert self.exchange is not None
        self.exchange.order(order, cancel)

    def _launch(self) -> None:
        self.exchange = Exchange()
        self.failure: list[Exception] = []  # of this group
        resources = Resources.model_validate(self.resources)
        bundle = {"CPU": resources.cpus}
        if resources.gpus:
            bundle["GPU"] = resources.gpus
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"shared": self.shared_ref, "exchange": self.exchange},
            scaling_config=ScalingConfig(
                num_workers=resources.workers,
                use_gpu=bool(resources.gpus),
                resources_per_worker=bundle,
            ),
            run_config=RunConfig(
                name=f"{self.trial_id}-{self.turn}",
                storage_path=str(Path(self.folder) / ".train"),
                # Ray takes its internal callbacks here, too, and only those learn of the group.
                callbacks=[_GroupCatcher(self.exchange)],  # pyright: ignore[reportArgumentType]
            ),
        )
        self.thread = threading.Thread(target=_fit, args=(trainer, self.failure), daemon=True)
        self.thread.start()

    def _release(self) -> None:
        assert self.exchange is not None
        deadline = time.monotonic() + 5
        # The group may be announced, but not yet heard of; the exchange may be gone itself.
        with suppress(RayError):
            while self.group is None and self.thread.is_alive() and time.monotonic() < deadline:
                event = self.exchange.hear(0.1)
                if event is not None and event["event"] == "group":
                    self.group = event["group"]
        if self.group is not None:
            remove_placement_group(self.group)
        self.exchange.shut()
        self.exchange = self.group = None


def _fit(trainer: TorchTrainer, failure: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:
        # Kept for step(), which reports it if the workers themselves could not.
        failure.append(error)


class _GroupCatcher(WorkerGroupCallback):
    """Hands over the placement group of a worker group as soon as it exists."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def after_worker_group_start(self, worker_group: Any) -> None:
        state = worker_group.get_worker_group_state()
        group = state.placement_group_handle.placement_group
        self.exchange.tell({"event": "group", "group": group})


def train_worker(config: dict[str, Any]) -> None:
    """Run trials on this Ray Train worker as its driver orders; the first worker reports."""
    exchange: Exchange = config["exchange"]
    (reference,) = config["shared"]
    shared: Shared = ray.get(reference)
    index = 0
    order = exchange.follow(index)
    turn = order["turn"]
    try:
        voice = _Voice(exchange, shared.beat_seconds)
        bench = Workbench(shared, ray.train.torch.get_device(), voice.ask)
    except Exception as error:
        # Told here, so that it ends as the trial's own failure and not as a lost node.
        path = StudyFolder(Path(shared.folder)).trial(order["job"]["number"]).error
        exchange.tell({**_told(error, path), "turn": turn})
        raise
    while order["do"] != "quit":
        if order["do"] == "train":
            voice.turn = turn = order["turn"]
            for event in bench.run(order["job"]):
                # A failure of any worker is told at once: the others may be waiting for it in a
                # collective call and never get to say anything.
                if rank() == 0 or event["event"] == "ended":
                    exchange.tell({**event, "turn": turn})
                waits = event["event"] == "progress" and event["diverged"] is None
                if waits and not event["last"]:
                    index += 1
                    if exchange.follow(index)["do"] != "go":
                        break
        index += 1
        order = exchange.follow(index)


class _Voice:
    """The first worker's signs of life; what it hears in return, all workers learn in the loop."""

    def __init__(self, exchange: Exchange, every: float) -> None:
        self.exchange, self.every, self.turn, self.spoke = exchange, every, 0, 0.0

    def ask(self, images: int) -> bool:
        """Say how many images were seen; return whether to stop."""
        if rank() != 0 or time.monotonic() - self.spoke < self.every:
            return False
        self.spoke = time.monotonic()
        return self.exchange.tell({"event": "alive", "images": images, "turn": self.turn})


def message(event: Event) -> dict[str, str]:
    """Wrap an event as one text: Tune flattens a nested result beyond recognition."""
    return {"message": json.dumps(event)}


def told_of(progress: Progress, folder: TrialFolder) -> Event:
    """Turn a milestone into what travels to the driver."""
    if not progress.scores:  # broke before it could be evaluated
        return ended("diverged", progress.diverged or "")
    return progress_event(progress.report(), folder)


def progress_event(report: dict[str, Any], folder: TrialFolder) -> Event:
    """Return a milestone's report with the bytes of the checkpoints that it left."""
    saved = [] if report["diverged"] else ["last", "best"] if report["best"] else ["last"]
    sizes = {role: getattr(folder, role) for role in saved}
    found = {role: path.stat().st_size for role, path in sizes.items() if path.exists()}
    return {"event": "progress", **report, "checkpoints": found}


def ended(state: str, reason: str) -> Event:
    """The event of a trial that ended by itself."""
    return {"event": "ended", "state": state, "reason": reason}


def _told(error: Exception, path: Path) -> Event:
    """Return how a trial ended by an error: its own, or that of the machines it ran on."""
    words = str(error)
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator" in words:
        # What torch's CPU allocator raises has no class of its own.
        return ended("out_of_memory", _headline(error))
    connection = isinstance(error, ConnectionError | TimeoutError | RayError | dist.DistError)
    peer = world_size() > 1 and any(sign in words for sign in ("gloo", "NCCL", "by peer"))
    if connection or peer:
        return ended("lost", _headline(error))
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return ended("failed", _headline(error))


def _headline(error: BaseException) -> str:
    """The class and last line of an error: Ray wraps the cause in pages of context."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}"
