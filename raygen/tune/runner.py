"""One trial on Ray: in a reused actor, or as a Ray Train group of DDP workers."""

import json
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.placement_group import PlacementGroup, remove_placement_group
from ray.util.queue import Empty, Queue

from raygen.config import Resources, parse_trial
from raygen.data import ImageData, Split
from raygen.distributed import rank
from raygen.errors import RaygenError
from raygen.folders import StudyFolder
from raygen.metrics.evaluate import Evaluator
from raygen.train.loop import Progress, fit
from raygen.train.record import record

Event = dict[str, Any]


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

    def __init__(self, shared: Shared, device: torch.device) -> None:
        torch.set_num_threads(max(1, int(shared.resources["cpus"])))
        data = shared.data()
        # Once per process: every trial in it finds the training images on its device.
        train = Split(data.train.images.to(device), data.train.labels.to(device))
        self.shared, self.device, self.data = shared, device, data._replace(train=train)
        self.evaluator = Evaluator(shared.metrics, self.data, shared.samples, device, shared.assets)

    def run(self, job: dict[str, Any]) -> Iterator[Event]:
        """Train one trial; every way in which it can end is an event, not an exception."""
        node = socket.gethostname()
        yield {"event": "started", "node": node, "device": str(self.device)}
        study = StudyFolder(Path(self.shared.folder))
        folder = study.trial(job["number"])
        if not study.journal.exists():  # a node that joined later, without the shared folder
            yield ended("failed", f"{study.root} is not visible on {node}: it must be shared")
            return
        try:
            trial = parse_trial({"family": self.shared.family, **job["config"]})
            seed, milestones = job["seed"], self.shared.milestones
            for progress in fit(trial, self.data, self.evaluator, milestones, seed):
                if rank() == 0:
                    record(folder, trial, seed, self.data.summary(), progress)
                yield progress_event(progress)
        except (torch.OutOfMemoryError, MemoryError) as error:
            yield ended("out_of_memory", _headline(error))
        except RuntimeError as error:
            # What torch's CPU allocator raises has no class of its own.
            if "DefaultCPUAllocator" in str(error):
                yield ended("out_of_memory", _headline(error))
            else:
                yield _failed(error, folder.error)
        except RaygenError as error:
            yield ended("failed", str(error))
        except Exception as error:
            # The boundary of a trial: its own bug must not end the search, and is shown in full.
            yield _failed(error, folder.error)


class TrialActor(tune.Trainable):
    """A single-worker trial. Tune reuses the process for the next one: 0.2 s instead of 7 s."""

    def setup(self, config: dict[str, Any], shared: Shared | None = None) -> None:
        assert shared is not None
        device = torch.device("cuda" if shared.resources["gpus"] else "cpu")
        self.bench = Workbench(shared, device)
        self.events = self.bench.run(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.events.close()  # pyright: ignore[reportAttributeAccessIssue]
        self.events = self.bench.run(new_config)
        return True

    def step(self) -> dict[str, str]:
        return message(next(self.events))

    def cleanup(self) -> None:
        self.events.close()  # pyright: ignore[reportAttributeAccessIssue]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Raygen writes its own checkpoints; Tune's are turned off."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Never called: resuming starts from the journal."""


class DdpTrial(tune.Trainable):
    """A trial of several workers, through Ray Train.

    Progress comes through a queue of our own and the placement group is removed by us: with
    Ray's own callback a trial that Tune stops keeps its workers for ever when the dashboard does
    not run (Ray #54305), and hangs when the Tune loop stalls for a few seconds.
    """

    def setup(self, config: dict[str, Any], shared: Any = None) -> None:
        # A reference in a list: resolved by the workers, not in this process, which needs no data.
        self.shared_ref, self.resources, self.folder = shared
        self._launch(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._release()
        self._launch(new_config)
        return True

    def step(self) -> dict[str, str]:
        while True:
            finished = not self.thread.is_alive()
            try:
                event = self.queue.get(timeout=0.2)
            except Empty:
                if finished:
                    reason = _headline(self.error) if self.error else "its workers said nothing"
                    return message(ended("lost", reason))
                continue
            if isinstance(event, PlacementGroup):
                self.groups.append(event)
            else:
                return message(event)

    def cleanup(self) -> None:
        self._release()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Raygen writes its own checkpoints; Tune's are turned off."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Never called: resuming starts from the journal."""

    def _launch(self, job: dict[str, Any]) -> None:
        self.queue, self.groups = Queue(actor_options={"num_cpus": 0}), []
        self.error: BaseException | None = None
        resources = Resources.model_validate(self.resources)
        bundle = {"CPU": resources.cpus}
        if resources.gpus:
            bundle["GPU"] = resources.gpus
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"job": job, "shared": self.shared_ref, "queue": self.queue},
            scaling_config=ScalingConfig(
                num_workers=resources.workers,
                use_gpu=bool(resources.gpus),
                resources_per_worker=bundle,
            ),
            run_config=RunConfig(
                name=f"{self.trial_id}-{job['number']}",
                storage_path=str(Path(self.folder) / ".train"),
                # Ray takes its internal callbacks here, too, and only those learn of the group.
                callbacks=[_GroupCatcher(self.queue)],  # pyright: ignore[reportArgumentType]
            ),
        )
        self.thread = threading.Thread(target=self._fit, args=(trainer,), daemon=True)
        self.thread.start()

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except Exception as error:
            # Kept for step(), which reports it if the workers themselves could not.
            self.error = error

    def _release(self) -> None:
        deadline = time.monotonic() + 5
        while True:  # the group may be announced but not yet taken from the queue
            try:
                event = self.queue.get(block=False)
            except Empty:
                if self.groups or not self.thread.is_alive() or time.monotonic() > deadline:
                    break
                time.sleep(0.05)
                continue
            if isinstance(event, PlacementGroup):
                self.groups.append(event)
        for group in self.groups:
            remove_placement_group(group)
        self.queue.shutdown(force=True)


class _GroupCatcher(WorkerGroupCallback):
    """Hands over the placement group of a worker group as soon as it exists."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def after_worker_group_start(self, worker_group: Any) -> None:
        state = worker_group.get_worker_group_state()
        self.queue.put(state.placement_group_handle.placement_group)


def train_worker(config: dict[str, Any]) -> None:
    """Run one trial on this Ray Train worker; the first worker reports."""
    (reference,) = config["shared"]
    shared: Shared = ray.get(reference)
    try:
        bench = Workbench(shared, ray.train.torch.get_device())
    except Exception as error:
        # Told through the queue, so that it ends as the trial's own failure and not as a lost node.
        path = StudyFolder(Path(shared.folder)).trial(config["job"]["number"]).error
        config["queue"].put(_failed(error, path))
        raise
    for event in bench.run(config["job"]):
        # A failure of any worker is told at once: the others may be waiting for it in a
        # collective call and never get to say anything.
        if rank() == 0 or event["event"] == "ended":
            config["queue"].put(event)


def message(event: Event) -> dict[str, str]:
    """Wrap an event as one text: Tune flattens a nested result beyond recognition."""
    return {"message": json.dumps(event)}


def progress_event(progress: Progress) -> Event:
    """Turn a milestone into what travels to the driver: plain values only."""
    metrics = {name: score.value for name, score in progress.scores.items()}
    if not metrics:  # broke before it could be evaluated
        return ended("diverged", progress.diverged or "")
    saved = [] if progress.diverged else ["last", "best"] if progress.best else ["last"]
    return {
        "event": "progress",
        "kimg": progress.kimg,
        "seconds": progress.seconds,
        "evaluation_seconds": progress.evaluation_seconds,
        "images_per_second": progress.images_per_second,
        "metrics": metrics,
        "protocols": {name: score.protocol for name, score in progress.scores.items()},
        "losses": progress.losses,
        "diverged": progress.diverged,
        "checkpoints": saved,
        "last": progress.last,
    }


def ended(state: str, reason: str) -> Event:
    """The event of a trial that ended by itself."""
    return {"event": "ended", "state": state, "reason": reason}


def _failed(error: Exception, path: Path) -> Event:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return ended("failed", _headline(error))


def _headline(error: BaseException) -> str:
    """The class and last line of an error: Ray wraps the cause in pages of context."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}"
