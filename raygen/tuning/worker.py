"""Where trials train: what stays warm in a process, and every way in which a trial can end."""

import json
import math
import os
import shutil
import socket
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
import torch.distributed as dist
from ray.exceptions import RayError

from raygen.cluster.preemption import watch_cloud
from raygen.cluster.room import KIND
from raygen.compute import Compute
from raygen.config import Evaluation
from raygen.data import ImageData, Split
from raygen.distributed import rank, world_size
from raygen.errors import ClusterError, InputError, RaygenError, StorageError
from raygen.metrics.evaluator import Evaluator
from raygen.plugins import install
from raygen.resources import Resources, WorkerRange
from raygen.search.assignment import Assignment
from raygen.storage import Storage, scratch
from raygen.study_folder import StudyFolder, TrialFolder
from raygen.training.background import BackgroundWriter
from raygen.training.checkpoint import checkpoint_between, load_full, save
from raygen.training.loop import Position, Progress, fit
from raygen.training.record import record
from raygen.trial import Trial, parse_trial
from raygen.tuning.gpu_sharing import share_gpu

Event = dict[str, Any]


class Assets(NamedTuple):
    """What evaluators share: those at milestones, and those that measure afresh, in float32."""

    milestones: dict[str, Any]
    afresh: dict[str, Any]


class Shared(NamedTuple):
    """What all trials of a study have in common; travels through the object store once per node.

    Arrays and not tensors: Ray maps arrays into every process of a node without a copy.
    """

    folder: str
    family: str
    metrics: tuple[str, ...]
    evaluation: Evaluation
    compute: Compute
    milestones: tuple[float, ...]
    rungs: tuple[float, ...]
    resources: Resources
    name: str
    classes: tuple[str, ...]
    fingerprint: str
    arrays: tuple[np.ndarray, ...]
    assets: Assets
    save_seconds: float  # between two checkpoints of a trial, at most
    beat_seconds: float  # between two signs of life of a trial
    hang_seconds: float  # without progress, after which a trial is given up
    plugins: dict[str, str] = {}  # files of the user's own code, by name
    storage: Storage | None = None  # where the study is kept, if not in `folder`

    def open_folder(self) -> StudyFolder:
        """Return where this process has the study: its folder, or a new one for what it fetches."""
        return StudyFolder(Path(self.folder) if self.storage is None else scratch())

    def data(self) -> ImageData:
        """Return the data set, its tensors views of the shared memory."""
        with warnings.catch_warnings():
            # The memory is read-only and torch cannot say so; nothing here writes to it.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            tensors = [torch.from_numpy(array) for array in self.arrays]
        train, test = Split(*tensors[:2]), Split(*tensors[2:])
        return ImageData(self.name, self.classes, train, test, self.fingerprint)


class Worker:
    """What stays warm in a process between trials: data on the device, extractors, kernels."""

    def __init__(
        self,
        shared: Shared,
        device: torch.device,
        ask: Callable[[int], bool] = lambda images: False,
    ) -> None:
        """`ask` hears how many images a trial has seen; where it returns true, the trial ends."""
        install(shared.plugins)
        watch_cloud()
        self.sharing, self.remark = share_gpu(shared.resources, shared.folder)
        self.threads = max(1, int(shared.resources.cpus))
        data = shared.data()
        # Once per process: every trial in it finds the training images on its device.
        train = Split(data.train.images.to(device), data.train.labels.to(device))
        self.shared, self.device, self.data = shared, device, data._replace(train=train)
        self.evaluation = shared.evaluation
        self.evaluator = Evaluator(
            shared.metrics, self.data, self.evaluation.samples, device, shared.assets.milestones,
            precision=self.evaluation.precision,
        )  # fmt: skip
        self.ask = ask
        self.store = shared.storage
        self.kept: dict[Path, int] = {}  # what the store has of the trial: when each was written
        self.study = shared.open_folder()

    def run(self, job: Assignment) -> Iterator[Event]:
        """Train one trial; every way in which it can end is an event, not an exception."""
        torch.set_num_threads(self.threads)  # of this thread: OpenMP keeps a number for each
        folder = self.study.trial(job.number)
        node = socket.gethostname()
        # Not there: this node joined later, without the shared folder.
        if self.store is None and not self.study.journal.exists():
            yield ended(
                "failed",
                f"{self.study.root} is not visible on {node}: it must be on shared storage",
            )
            return
        try:
            self._fetch(job)
            yield from self._train(job, folder)
        except (torch.OutOfMemoryError, MemoryError) as error:
            yield ended("out_of_memory", headline(error))
        except StorageError as error:
            yield {**ended("interrupted", str(error)), "storage": True}
        except ClusterError as error:  # the storage, seen from this node: another may reach it
            yield ended("lost", str(error))
        except RaygenError as error:
            yield ended("failed", str(error))
        except Exception as error:
            # The boundary of a trial: its own bug must not end the search, and is shown in full.
            event = error_event(error, folder.error)
            with suppress(ClusterError):  # its last line is in the journal anyway
                self.keep(folder)
            yield event

    def _train(self, job: Assignment, folder: TrialFolder) -> Iterator[Event]:
        trial = parse_trial({"family": self.shared.family, **job.config})
        state = self._resume(folder) or self._inherit(job, folder)
        came = state["kimg"] if state is not None else 0.0
        context = ray.get_runtime_context()
        place: Event = {"node": socket.gethostname(), "node_id": context.get_node_id()}
        if isinstance(self.shared.resources.workers, WorkerRange):
            place["workers"] = world_size()
        if self.shared.resources.gpu_share:
            place["accelerator"] = context.get_node_labels().get(KIND, "")
        device = f"{self.device}, {self.sharing}" if self.sharing else str(self.device)
        here = {**place, "pid": os.getpid(), "device": device, "kimg": came}
        remark = f"trials share a GPU in turns: {self.remark}" if self.remark else ""
        yield {"event": "started", **here, "remark": remark}
        reported = job.reported
        if state is not None and state["report"] is not None and came > reported:
            # Saved, but its driver died before it wrote it down.
            yield progress_event(state["report"], folder)
        seed = job.seed
        pulse = _Pulse(self, folder, trial, seed)
        try:
            for progress in fit(
                trial, self.data, self.evaluator, self.shared.milestones, seed, state, pulse,
                self.shared.compute.after(job.losses), self._samples_at,
            ):  # fmt: skip
                if rank() == 0:
                    pulse.writer.wait()  # or an older state would replace that of the milestone
                    record(folder, trial, seed, self.data.summary(), progress)
                    self.keep(folder)
                # Without its checkpoint a trial starts again; what is known is not told twice.
                if progress.kimg > reported or progress.diverged is not None:
                    yield progress_or_end(progress, folder)
        except BaseException:
            pulse.writer.abandon()  # nobody may read what it still writes
            raise
        pulse.writer.wait()

    def _samples_at(self, kimg: float) -> int:
        return self.evaluation.samples_at(kimg, self.shared.rungs)

    def _fetch(self, job: Assignment) -> None:
        """Bring the checkpoints that a trial may begin with here, if they are kept elsewhere.

        Raises:
            ClusterError: the storage cannot be reached.
        """
        if self.store is not None:
            shutil.rmtree(self.study.root / "trials", ignore_errors=True)  # of the trial before
            root, folder = self.study.root, self.study.trial(job.number)
            checkpoints = [folder.best, folder.last]
            if job.parent is not None:
                checkpoints.append(self.study.trial(job.parent).last)
            self.store.pull(root, [path.relative_to(root).as_posix() for path in checkpoints])
            self.kept = _stamps(folder)

    def keep(self, folder: TrialFolder) -> None:
        """Send what a trial wrote since the last time to where the study is kept.

        Raises:
            ClusterError: the storage cannot be reached.
        """
        if self.store is None:
            return
        stamps = _stamps(folder)
        fresh = [path for path, stamp in stamps.items() if self.kept.get(path) != stamp]
        # The last checkpoint last: training goes on from it, so nothing before it may be missing.
        fresh.sort(key=lambda path: (path == folder.last, path))
        names = [path.relative_to(self.study.root).as_posix() for path in fresh]
        self.store.push(self.study.root, *names)
        self.kept = stamps

    def _resume(self, folder: TrialFolder) -> dict[str, Any] | None:
        """Return the last checkpoint, or None: then the trial starts from its beginning."""
        for partial in folder.root.glob(".*.pt.*") if rank() == 0 else ():
            with suppress(OSError):
                partial.unlink()  # of a writer that was killed
        with suppress(InputError):
            return load_full(folder.last, self.device)
        return None

    def _inherit(self, job: Assignment, folder: TrialFolder) -> dict[str, Any] | None:
        """Begin with what another trial had at its last milestone, as one's own; or None.

        Kept before anybody hears that this trial has started: then the other one goes on.
        """
        if job.parent is None:
            return None
        with suppress(InputError):
            state = load_full(self.study.trial(job.parent).last, self.device)
            trial = parse_trial({"family": self.shared.family, **job.config})
            state |= {"trial": trial.model_dump(), "report": None}
            state["loop"] |= {"seconds": 0.0}
            # Its own best is yet to come: the other one's weights are in the other one's folder.
            state["loop"]["health"] |= {"best": math.inf}
            if rank() == 0:
                save(folder.last, state)
                self.keep(folder)
            return state
        return None


class _Pulse:
    """Between milestones: says how far the trial is, hears whether to stop, saves now and then."""

    def __init__(self, worker: Worker, folder: TrialFolder, trial: Trial, seed: int) -> None:
        self.worker, self.folder, self.trial, self.seed = worker, folder, trial, seed
        self.saved = time.monotonic()
        self.writer = BackgroundWriter()

    def __call__(self, position: Position) -> bool:
        stop = self.worker.ask(position.images)
        due = time.monotonic() - self.saved > self.worker.shared.save_seconds
        if rank() == 0 and (stop or due):
            data = self.worker.data.summary()
            content = checkpoint_between(self.trial, self.seed, data, position)
            self.writer.write(content, self._write)
            self.saved = time.monotonic()
        if stop:
            self.writer.wait()
        return stop

    def _write(self, content: dict[str, Any]) -> None:
        save(self.folder.last, content)
        self.worker.keep(self.folder)


def _stamps(folder: TrialFolder) -> dict[Path, int]:
    files = (path for path in folder.root.glob("*") if not path.name.startswith("."))
    return {path: path.stat().st_mtime_ns for path in files}


def message(event: Event) -> dict[str, str]:
    """Wrap an event as one text: Tune flattens a nested result beyond recognition."""
    return {"message": json.dumps(event)}


def progress_or_end(progress: Progress, folder: TrialFolder) -> Event:
    """Turn a milestone into what travels to the driver."""
    if not progress.scores:  # broke before it could be evaluated
        return ended("diverged", progress.diverged or "")
    return progress_event(progress.report(), folder)


def progress_event(report: dict[str, Any], folder: TrialFolder) -> Event:
    """Return a milestone's report with the bytes of the checkpoints that it left."""
    saved = [] if report["diverged"] else ["last", "best"] if report["best"] else ["last"]
    sizes = {role: getattr(folder, role) for role in saved}
    checkpoints = {role: path.stat().st_size for role, path in sizes.items() if path.exists()}
    return {"event": "progress", **report, "checkpoints": checkpoints}


def ended(state: str, reason: str) -> Event:
    """The event of a trial that ended by itself."""
    return {"event": "ended", "state": state, "reason": reason}


def error_event(error: Exception, path: Path) -> Event:
    """Return how a trial ended by an error: its own, or that of the machines it ran on."""
    words = str(error)
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator" in words:
        # What torch's CPU allocator raises has no class of its own.
        return ended("out_of_memory", headline(error))
    connection = isinstance(error, ConnectionError | TimeoutError | RayError | dist.DistError)
    peer = world_size() > 1 and any(sign in words for sign in ("gloo", "NCCL", "by peer"))
    if connection or peer:
        return ended("lost", headline(error))
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return ended("failed", headline(error))


def headline(error: BaseException) -> str:
    """The class and last line of an error: Ray wraps the cause in pages of context."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}"
