"""Ray Tune runs what a controller suggests: its searcher, its scheduler, and what watches both."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import ray
from ray import tune
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raygen.cluster.connect import SAY_SECONDS, kill
from raygen.errors import RaygenError
from raygen.notices import Phase
from raygen.resources import Resources
from raygen.search.controller import Controller
from raygen.words import duration

# Ray Tune puts these into the runtime environment of its actors, which is logged. Processes of this
# machine inherit them, and those of others are sent them with the study (raygen.storage).
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
)
MOST_AT_ONCE = 10_000  # as Tune sees it; how many there really are follows from the cluster


class _Stateless:
    """Pickles as nothing: Tune saves its parts for `Tuner.restore`, which raygen never calls."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Attempt(NamedTuple):
    """Which trial one of Tune's is, and where it runs once it has started."""

    number: int
    node_id: str = ""
    pid: int = 0


class _Searcher(_Stateless, Searcher):
    """Tune's searcher: passes on what the controller suggests."""

    def __init__(
        self, controller: Controller, places: dict[str, "_Attempt"], slots: Callable[[], int]
    ) -> None:
        super().__init__()
        self.controller, self.places, self.slots = controller, places, slots
        self.live: set[str] = set()  # until their processes are free for others

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.controller.done:
            return Searcher.FINISHED
        if len(self.live) >= self.slots():
            return None
        job = self.controller.suggest()
        if job is None:  # not now: a trial may be lost and come again, or a race go on
            return Searcher.FINISHED if self.controller.done else None
        self.live.add(trial_id)
        self.places[trial_id] = _Attempt(job.number)
        return {"job": job}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.live.discard(trial_id)
        place = self.places.pop(trial_id, None)
        if place is not None:  # it did not end by its own word: its process is gone
            reason = "its process ended without an error message" if error else "Tune ended it"
            self.controller.lost(place.number, reason)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: the journal is the state."""


class _Scheduler(_Stateless, FIFOScheduler):
    """Tune's scheduler: passes on what the controller decides."""

    def __init__(self, controller: Controller, places: dict[str, _Attempt]) -> None:
        super().__init__()
        self.controller, self.places = controller, places
        self.tune: Any = None  # Tune's own controller, as soon as it has a trial

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.tune = tune_controller

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        event, number = json.loads(result["message"]), trial.config["job"].number
        stop = False
        kind = event.pop("event")
        if trial.trial_id not in self.places:
            # Given up as hung, and killed: Tune must not give its process to another trial.
            return TrialScheduler.STOP if kind == "ended" else TrialScheduler.CONTINUE
        match kind:
            case "started":
                place = _Attempt(number, event.pop("node_id"), event["pid"])
                self.places[trial.trial_id] = place
                self.controller.started(number, **event)
            case "alive":
                self.controller.alive(number, event["images"])
            case "progress":
                stop = self.controller.reported(number, event)
            case "leaving":  # its process ends by itself: no trial may start there again
                del self.places[trial.trial_id]
                self.controller.moved(number, event["reason"])
                return TrialScheduler.CONTINUE
            case "ended":
                self._end(number, **event)
                stop = True
        self.controller.tick()
        closing = self.controller.closing
        if closing and not stop:
            self.controller.end(number, "interrupted", closing.reason)
            stop = True
        if stop:
            del self.places[trial.trial_id]
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def _end(self, number: int, state: str, reason: str, storage: bool = False) -> None:
        if state == "lost":
            self.controller.lost(number, reason)
            return
        if storage:
            self.controller.close("failed", reason, storage=True)
        self.controller.end(number, state, reason)


class _Watchdog(_Stateless, tune.Callback):
    """Checks the clock when no trial reports: budgets run out, trials hang or cannot be placed."""

    def __init__(
        self,
        controller: Controller,
        places: dict[str, _Attempt],
        scheduler: _Scheduler,
        wanted: str,
    ) -> None:
        """`wanted`: what a trial reserves, in words."""
        self.controller, self.places = controller, places
        self.scheduler, self.wanted = scheduler, wanted
        self.idle_since = self.said = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.controller.tick()
        if self.controller.closing:
            for trial in list(trials):  # nobody would hear of one that never starts
                if trial.status == Trial.PENDING:
                    self.scheduler.tune.stop_trial(trial)
        self._tell_of_waiting()
        hung = set(self.controller.hung())
        for trial_id, place in list(self.places.items()):
            if place.number in hung:
                del self.places[trial_id]
                kill(place.node_id, place.pid)  # before it is tried again from what it saved
                limit = duration(60 * self.controller.spec.recovery.hang_minutes)
                self.controller.lost(place.number, f"it made no progress for {limit}")

    def _tell_of_waiting(self) -> None:
        """Report now and then that trials wait while none runs, how long, and for what."""
        now = time.monotonic()
        if not self.places or any(place.pid for place in self.places.values()):
            self.idle_since = now
        elif now - max(self.idle_since, self.said) > SAY_SECONDS:
            self.said = now
            total, free = ray.cluster_resources(), ray.available_resources()
            free_now = ", ".join(
                f"{free.get(key, 0.0):g} of {total[key]:g} {key} are free"
                for key in ("CPU", "GPU")
                if key in total
            )
            text = f"waiting for {self.wanted}: {free_now or 'there is no node'}"
            waited = f"({duration(now - self.idle_since)}; Ctrl-C to stop)"
            self.controller.notify(Phase(f"{text} {waited}"))


def drive(
    controller: Controller,
    trainable: Any,
    place: tune.PlacementGroupFactory,
    slots: Callable[[], int],
    root: Path,
) -> None:
    """Run Tune until the controller has no more trials to run."""
    for name in (".tune", ".train"):  # of a driver that was killed
        shutil.rmtree(root / name, ignore_errors=True)
    places: dict[str, _Attempt] = {}  # by Tune's id of a trial
    scheduler = _Scheduler(controller, places)
    tuner = tune.Tuner(
        tune.with_resources(trainable, place),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(controller, places, slots),
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=MOST_AT_ONCE,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=".tune",
            storage_path=str(root.resolve()),
            verbose=0,
            callbacks=[
                _Watchdog(controller, places, scheduler, _in_words(controller.spec.resources))
            ],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        with (
            # Tune would take SIGUSR1 from raygen.interrupts, and leave its trials unsaved.
            patch("ray.tune.tune._setup_signal_catching", threading.Event),
            # It imports every logger that Tune knows, for usage statistics that are off: 1.8 s
            # before the first trial where mlflow and wandb are installed.
            patch("ray.air._internal.usage.tag_callbacks"),
        ):
            tuner.fit()
    except TuneError as error:
        raise _own(error) from error
    for name in (".tune", ".train"):
        shutil.rmtree(root / name, ignore_errors=True)


def _in_words(resources: Resources) -> str:
    """What a trial reserves."""
    text = f"{resources.cpus:g} CPU"
    if resources.gpu_share:
        text += f" and {resources.gpu_share:g} GPU"
    if resources.accelerator:
        text += f" ({' or '.join(resources.accelerator)})"
    fewest = resources.fewest_workers
    return f"{fewest} times {text}" if fewest > 1 else text


def _own(error: BaseException) -> RaygenError:
    """Find what raygen itself raised inside of Tune's loop, such as a full disk."""
    while not isinstance(error, RaygenError):
        cause = error.__cause__ or error.__context__
        if cause is None:
            return RaygenError(f"Ray Tune stopped: {error}")
        error = cause
    return error
