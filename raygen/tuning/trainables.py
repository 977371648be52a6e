"""How Tune runs a trial: in a reused actor, or in a group of DDP workers that Ray Train started."""

import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.actor import exit_actor
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.placement_group import placement_group_table, remove_placement_group

from raygen.cluster.connect import FOREVER
from raygen.cluster.preemption import leaving
from raygen.cluster.room import free_places, groups_wait, selector
from raygen.config import worker_counts
from raygen.distributed import rank
from raygen.resources import Resources
from raygen.study_folder import StudyFolder
from raygen.trial import parse_trial
from raygen.tuning.interface import OverRaysNetwork
from raygen.tuning.mailbox import Mailbox
from raygen.tuning.worker import (
    Assignment,
    Event,
    Shared,
    Worker,
    ended,
    error_event,
    headline,
    message,
)

PLACE_SECONDS = 10.0  # after which a group of workers that finds no room asks for fewer
HALT = 120.0  # seconds that a trial may take to reach its next pulse and save


class TrialActor(tune.Trainable):
    """A single-worker trial. Tune reuses the process for the next one: 0.2 s instead of 7 s.

    Training runs in a thread, so that the actor always answers: with a milestone, or with a sign of
    life. After a milestone it waits until it is called again, which means that it may continue.
    """

    def setup(self, config: dict[str, Any], shared: Shared | None = None) -> None:
        assert shared is not None
        self.shared = shared
        self.images, self.cancelled, self.left = 0, threading.Event(), False
        self.node = ray.get_runtime_context().get_node_id()
        self.pool = ThreadPoolExecutor(1)
        device = torch.device("cuda" if shared.resources.gpu_share else "cpu")
        self.worker = Worker(shared, device, self._ask)
        self._begin(config["job"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._halt()
        self._begin(new_config["job"])
        return True

    def step(self) -> dict[str, str]:
        if self.left:
            exit_actor()  # or Tune would start another trial here
        if (reason := leaving([self.node])) is not None:
            self._halt()
            self.left = True
            return message({"event": "leaving", "reason": reason})
        if self.pending is None:
            self.pending = self.pool.submit(next, self.events, None)
        try:
            event = self.pending.result(timeout=self.shared.beat_seconds)
        except TimeoutError:
            return message({"event": "alive", "images": self.images})
        self.pending = None
        return message(event or ended("lost", "training ended without an error message"))

    def cleanup(self) -> None:
        self._halt()
        self.pool.shutdown(wait=False)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Raygen writes its own checkpoints; Tune's are turned off."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Never called: resuming starts from the journal."""

    def _begin(self, job: Assignment) -> None:
        self.images = 0
        self.cancelled.clear()
        self.pending: Future[Event | None] | None = None
        self.events = self.worker.run(job)

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
    one trial after another as it is told (raygen.tuning.mailbox). What takes 10 to 40 s is starting
    processes, and nothing of that depends on the trial.

    Progress comes through our own mailbox and the placement group is removed by us: with Ray's own
    callback a trial that Tune stops keeps its workers for ever when the dashboard does not run (Ray
    #54305), and hangs when the Tune loop stalls for a few seconds.
    """

    def setup(self, config: dict[str, Any], shared: Any = None) -> None:
        # A reference in a list: resolved by the workers, not in this process, which needs no data.
        (
            self.shared_ref, self.resources, self.family, self.folder,
            self.beat_seconds, self.hang_seconds,
        ) = shared  # fmt: skip
        self.turn, self.group, self.mailbox = 0, None, None
        self.nodes: set[str] = set()  # of the group
        self.left = False
        self.placed = False  # whether the workers of the group have said anything yet
        self._begin(config["job"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if self.healthy and self.placed and self.thread.is_alive():
            self._order({"do": "stop"}, cancel=True)
        else:
            self._release()
        self._begin(new_config["job"])
        return True

    def step(self) -> dict[str, str]:
        if self.left:
            exit_actor()
        if (reason := leaving(self.nodes)) is not None:
            return self._leave(reason)
        if not self.placed and time.monotonic() - self.launched > PLACE_SECONDS:
            self.launched = time.monotonic()
            if (fewer := self._room(0)) < self.workers and groups_wait(self.workers):
                return self._leave(f"room for {fewer} of its workers, where there were more")
        assert self.mailbox is not None
        if self.awaited:
            if (more := self._room(self.workers)) > self.workers:
                return self._leave(f"there is room for {more} workers")
            self.awaited = False
            self._order({"do": "go"})
        deadline = time.monotonic() + self.beat_seconds
        while True:
            finished = not self.thread.is_alive()
            event = self.mailbox.hear(0.2)
            if event is not None and event["event"] == "group":
                self.group, self.placed = event["group"], True
                placed = placement_group_table(self.group)["bundles_to_node_id"]
                self.nodes = set(placed.values())
            elif event is not None and event["turn"] == self.turn:
                return message(self._note(event))
            elif finished:
                self.healthy = False
                reason = headline(self.failure[0]) if self.failure else "its workers are gone"
                return message(ended("lost", reason))
            elif time.monotonic() > deadline:
                return message({"event": "alive", "images": self.images})

    def cleanup(self) -> None:
        # Workers that wait for a place have nothing to save, and would not hear of it.
        if self.healthy and self.placed and self.thread.is_alive():
            # Saved at the next pulse; then the workers leave, and Ray Train ends the group.
            self._order({"do": "stop"}, cancel=True)
            self._order({"do": "quit"}, cancel=True)
            self.thread.join(timeout=HALT)
        self._release()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Raygen writes its own checkpoints; Tune's are turned off."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Never called: resuming starts from the journal."""

    def _begin(self, job: Assignment) -> None:
        trial = parse_trial({"family": self.family, **job.config})
        self.counts = worker_counts(trial, self.resources)
        if self.mailbox is not None and self.workers not in self.counts:
            self._release()  # its batches divide otherwise
        self.job = job
        if self.mailbox is None:
            self._launch()
        self.turn += 1
        self.images, self.awaited, self.healthy = 0, False, True
        self._order({"do": "train", "job": job, "turn": self.turn})

    def _leave(self, reason: str) -> dict[str, str]:
        """End the trial, saved, to go on elsewhere or with other workers."""
        self.cleanup()
        self.left = True
        return message({"event": "leaving", "reason": reason})

    def _room(self, present: int) -> int:
        """The most workers that find room now, with those that are present; or the fewest."""
        if len(self.counts) == 1:
            return self.counts[0]
        room = present + free_places(self.resources)
        return max((count for count in self.counts if count <= room), default=self.counts[0])

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
        assert self.mailbox is not None
        self.mailbox.order(order, cancel)

    def _launch(self) -> None:
        self.mailbox = Mailbox()
        self.failure: list[Exception] = []  # of this group
        resources: Resources = self.resources
        self.launched, self.workers = time.monotonic(), self._room(0)
        # To wait for a place is no failure. Set here, from where Ray Train hands it on, since a
        # cluster to which the user had connected knows nothing of RAY_SETTINGS.
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = FOREVER
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"shared": self.shared_ref, "mailbox": self.mailbox},
            # Workers that wait for one that does not answer give up when their trial is given up:
            # also while they form their group, before the trial has begun and can be seen to hang.
            torch_config=OverRaysNetwork(timeout_s=max(1, round(self.hang_seconds))),
            scaling_config=ScalingConfig(
                num_workers=self.workers,
                use_gpu=bool(resources.gpu_share),
                resources_per_worker=resources.bundle,
                label_selector=selector(resources) or None,
                placement_strategy="PACK",
            ),
            run_config=RunConfig(
                name=f"{self.trial_id}-{self.turn}",
                storage_path=str(Path(self.folder) / ".train"),
                # Workers that die as they start are tried again by raygen, which counts and says
                # so; Ray Train would without end.
                failure_config=FailureConfig(controller_failure_limit=0),
                # Ray takes its internal callbacks here, too, and only those learn of the group.
                callbacks=[_GroupCatcher(self.mailbox)],  # pyright: ignore[reportArgumentType]
            ),
        )
        self.thread = threading.Thread(target=_fit, args=(trainer, self.failure), daemon=True)
        self.thread.start()

    def _release(self) -> None:
        assert self.mailbox is not None
        deadline = time.monotonic() + 5
        # The group may be announced, but not yet heard of; the mailbox may be gone itself.
        with suppress(RayError):
            while self.group is None and self.thread.is_alive() and time.monotonic() < deadline:
                event = self.mailbox.hear(0.1)
                if event is not None and event["event"] == "group":
                    self.group = event["group"]
        if self.group is not None:
            remove_placement_group(self.group)
        self.mailbox.shut()
        self.mailbox = self.group = None
        self.placed, self.nodes = False, set()


def _fit(trainer: TorchTrainer, failure: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:
        # Kept for step(), which reports it if the workers themselves could not.
        failure.append(error)


class _GroupCatcher(WorkerGroupCallback):
    """Hands over the placement group of a worker group as soon as it exists."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox

    def after_worker_group_start(self, worker_group: Any) -> None:
        state = worker_group.get_worker_group_state()
        group = state.placement_group_handle.placement_group
        self.mailbox.tell({"event": "group", "group": group})


def train_worker(config: dict[str, Any]) -> None:
    """Run trials on this Ray Train worker as its driver orders; the first worker reports."""
    mailbox: Mailbox = config["mailbox"]
    (reference,) = config["shared"]
    shared: Shared = ray.get(reference)
    index = 0
    order = mailbox.follow(index)
    turn = order["turn"]
    try:
        voice = _Voice(mailbox, shared.beat_seconds)
        worker = Worker(shared, ray.train.torch.get_device(), voice.ask)
    except Exception as error:
        # Told here, so that it ends as the trial's own failure and not as a lost node.
        path = StudyFolder(Path(shared.folder)).trial(order["job"].number).error
        mailbox.tell({**error_event(error, path), "turn": turn})
        raise
    while order["do"] != "quit":
        if order["do"] == "train":
            voice.turn = turn = order["turn"]
            for event in worker.run(order["job"]):
                # A failure of any worker is told at once: the others may be waiting for it in a
                # collective call and never get to say anything.
                if rank() == 0 or event["event"] == "ended":
                    mailbox.tell({**event, "turn": turn})
                waits = event["event"] == "progress" and event["diverged"] is None
                if waits and not event["last"]:
                    index += 1
                    if mailbox.follow(index)["do"] != "go":
                        break
        index += 1
        order = mailbox.follow(index)


class _Voice:
    """The first worker's signs of life; what it hears in return, all workers learn in the loop."""

    def __init__(self, mailbox: Mailbox, every: float) -> None:
        self.mailbox, self.every, self.turn, self.spoke = mailbox, every, 0, 0.0

    def ask(self, images: int) -> bool:
        """Say how many images were seen; return whether to stop."""
        if rank() != 0 or time.monotonic() - self.spoke < self.every:
            return False
        self.spoke = time.monotonic()
        return self.mailbox.tell({"event": "alive", "images": images, "turn": self.turn})
