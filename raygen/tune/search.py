"""Build, run and close a search on Ray."""

import json
import logging
import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from raygen import __version__
from raygen.config import Resources, Study
from raygen.data import ImageData, load_data
from raygen.data.pictures import save_grid
from raygen.document import dump
from raygen.errors import ClusterError, InputError, RaygenError
from raygen.folders import StudyFolder
from raygen.metrics import METRICS
from raygen.metrics.evaluate import prepare, require
from raygen.results import fold, read_records, write_tables
from raygen.tune.controller import Controller
from raygen.tune.journal import Journal
from raygen.tune.runner import DdpTrial, Shared, TrialActor
from raygen.tune.sampler import Sampler

FOREVER = "1000000000"
# Read by Ray when it starts and by its workers: quiet, no files nobody reads, quick polling.
RAY_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": FOREVER,
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_THRESHOLD_S": FOREVER,
}


class Outcome(NamedTuple):
    """How a search ended."""

    state: str  # finished, interrupted, failed
    ended: dict[str, int]  # trials by state
    signal: int | None  # what interrupted it


def run_study(
    study: Study,
    folder: StudyFolder,
    facts: dict[str, Any],
    address: str | None,
    notify: Callable[[dict[str, Any]], None],
) -> Outcome:
    """Search, and leave a study folder that can be read without Ray.

    `facts` are added to what the study records of itself; `notify` gets every journal record.

    Raises:
        InputError: the data, the weights or the resources are not there; nothing was written.
        ClusterError: Ray cannot be reached.
    """
    started = time.time()
    notify({"kind": "phase", "text": "loading data"})
    data = load_data(study.spec.data)
    require(study.spec.metrics)
    with _ray(address, notify):
        concurrent = concurrency(study.spec.resources, ray.cluster_resources())
        concurrent = min(concurrent, study.spec.budget.trials)
        notify({"kind": "phase", "text": f"preparing {', '.join(study.spec.metrics)}"})
        assets = _prepare(study, data)
        info = {**describe(study, data, folder.root.name), **facts, "started": started}
        folder.root.mkdir(parents=True)
        try:
            _check_shared(folder.root.resolve())
        except ClusterError:
            folder.root.rmdir()
            raise
        with Journal(folder.journal) as journal:
            notify(journal.append("open", study=info))
            folder.space.write_text(dump(study.raw), encoding="utf-8")
            save_grid(data.train.images[:64], folder.real)
            sampler = Sampler(study, folder.root.name, folder.optuna)
            controller = Controller(study, journal, sampler, notify)
            shared = _shared(study, data, assets, folder)
            try:
                interrupted = _fit(controller, shared, concurrent, folder)
            except RaygenError:
                with suppress(RaygenError):  # a full disk, perhaps: what it was is told below
                    journal.append("close", state="failed", seconds=time.time() - started)
                raise
            for number in list(controller.running):
                controller.end(number, "interrupted", "the search was interrupted")
            state = "interrupted" if interrupted is not None else "finished"
            if state == "finished" and not controller.ended.get("completed"):
                state = "failed"
            notify(journal.append("close", state=state, seconds=time.time() - started))
    write_tables(fold(folder, read_records(folder.journal)))
    return Outcome(state, controller.ended, interrupted)


def concurrency(resources: Resources, cluster: Mapping[str, float]) -> int:
    """Return how many trials fit at once.

    Raises:
        InputError: not even one does, now or (unless `concurrent` is set, for a cluster that
            grows on demand) ever.
    """
    if resources.concurrent is not None:
        return resources.concurrent
    fits = []
    for name, key in (("CPU", "cpus"), ("GPU", "gpus")):
        wanted, there = getattr(resources, key), cluster.get(name, 0.0)
        if wanted == 0:
            continue
        if 0 < wanted < 1:  # a fraction never spans two devices
            slots = int(there) * int(1 / wanted + 1e-9)
        else:
            slots = int(there / wanted + 1e-9)
        if slots < resources.workers:
            workers = f" for each of {resources.workers} workers" if resources.workers > 1 else ""
            raise InputError(
                f"resources.{key}: a trial wants {wanted:g} {name}{workers}, but the cluster has "
                f"{there:g}; lower it with --set resources.{key}=…, or set resources.concurrent "
                "if the cluster grows on demand"
            )
        fits.append(slots // resources.workers)
    return min(fits)


def describe(study: Study, data: ImageData, name: str) -> dict[str, Any]:
    """Return what a study records of itself, as study.json holds it."""
    spec = study.spec
    keys = ("name", "kind", "low", "high", "log", "choices", "condition")
    parameters = [{**p._asdict(), "name": p.setting} for p in study.parameters]
    return {
        "schema": 1,
        "name": name,
        "raygen": __version__,
        "family": spec.family,
        "objective": {"metric": spec.objective, "direction": METRICS[spec.objective].direction},
        "directions": {metric: METRICS[metric].direction for metric in spec.metrics},
        "budget": spec.budget.model_dump(),
        "scheduler": spec.scheduler.model_dump(),
        "rungs": list(spec.rungs),
        "milestones": list(spec.milestones),
        "sampler": spec.sampler.model_dump(),
        "evaluation": spec.evaluation.model_dump(mode="json"),
        "seed": spec.seed,
        "resources": spec.resources.model_dump(),
        "data": {**data.summary(), "source": spec.data.model_dump()},
        "parameters": [{key: p[key] for key in keys} for p in parameters],
        "start_trials": len(study.start),
        "environment": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("torch", "ray", "optuna")},
            "device": "cuda" if spec.resources.gpus else "cpu",
            "platform": platform.platform(),
        },
    }


class _Stateless:
    """Pickles as nothing: Tune saves its parts for `Tuner.restore`, which raygen never calls."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Ask(_Stateless, Searcher):
    """Tune's searcher: passes on what the controller suggests."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self.controller = controller
        self.numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # pyright: ignore[reportIncompatibleMethodOverride]
        job = self.controller.suggest()
        if job is None:
            return Searcher.FINISHED
        self.numbers[trial_id] = job["number"]
        return job

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        # Every end that a trial knows of itself is recorded by then: this one's process is gone.
        reason = "its process ended without a word" if error else "Tune ended it"
        self.controller.end(self.numbers[trial_id], "lost", reason)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: the journal is the state."""


class _Judge(_Stateless, FIFOScheduler):
    """Tune's scheduler: passes on what the controller decides."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self.controller = controller

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        event, number = json.loads(result["message"]), trial.config["number"]
        stop = False
        match event["event"]:
            case "started":
                self.controller.started(number, event["node"], event["device"])
            case "progress":
                stop = self.controller.reported(number, event)
            case "ended":
                self.controller.end(number, event["state"], event["reason"])
                stop = True
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


def _fit(
    controller: Controller, shared: Shared, concurrent: int, folder: StudyFolder
) -> int | None:
    """Run Tune until the budget is spent; return the signal that ended it early, if one did."""
    resources = Resources.model_validate(shared.resources)
    reference = ray.put(shared)
    if resources.workers == 1:
        trainable = tune.with_parameters(TrialActor, shared=shared)
        bundle = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}
    else:
        given = ([reference], shared.resources, shared.folder)
        trainable = tune.with_parameters(DdpTrial, shared=given)
        # On the head, which outlives spot nodes, and without a CPU: even 0.001 of one would keep a
        # group of workers that wants every CPU of the node from ever starting.
        bundle = {"node:__internal_head__": 0.001}
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory([bundle])),
        tune_config=tune.TuneConfig(
            search_alg=_Ask(controller),
            scheduler=_Judge(controller),
            num_samples=controller.study.spec.budget.trials,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=".tune",
            storage_path=str(folder.root.resolve()),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    with _signals() as received:
        try:
            tuner.fit()
        except TuneError as error:
            raise _own(error) from error
    for name in (".tune", ".train"):
        shutil.rmtree(folder.root / name, ignore_errors=True)
    unfinished = controller.running or controller.suggested < controller.study.spec.budget.trials
    return (received[0] if received else signal.SIGINT) if unfinished else None


def _own(error: BaseException) -> RaygenError:
    """Find what raygen itself raised inside of Tune's loop, such as a full disk."""
    while not isinstance(error, RaygenError):
        cause = error.__cause__ or error.__context__
        if cause is None:
            return RaygenError(f"Ray Tune stopped: {error}")
        error = cause
    return error


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Make SIGTERM end the search as Ctrl-C does: Tune knows only SIGINT and SIGUSR1."""
    received: list[int] = []

    def terminate(number: int, frame: Any) -> None:
        received.append(number)
        os.kill(os.getpid(), signal.SIGUSR1)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _ray(address: str | None, notify: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine for as long as the search runs."""
    os.environ.update({key: os.environ.get(key, value) for key, value in RAY_SETTINGS.items()})
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    where = "on this machine" if address == "local" else f"at {address}"
    notify({"kind": "phase", "text": f"starting Ray {where}"})
    already = ray.is_initialized()
    try:
        ray.init(
            address=address,
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": RAY_SETTINGS},
        )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ClusterError(f"Ray {where} cannot be reached: {reason}") from error
    try:
        yield
    finally:
        if not already:
            ray.shutdown()


def _prepare(study: Study, data: ImageData) -> dict[str, Any]:
    """Make the shared parts of the evaluation: here, or on a GPU if trials have one."""
    if not study.spec.resources.gpus:
        return prepare(study.spec.metrics, data, torch.device("cpu"))
    task = ray.remote(num_gpus=study.spec.resources.gpus)(prepare)
    assets = ray.get(task.remote(study.spec.metrics, data, torch.device("cuda")))
    return {name: {k: _to_cpu(v) for k, v in asset.items()} for name, asset in assets.items()}


def _to_cpu(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_cpu(inside) for key, inside in value.items()}
    return value.cpu() if isinstance(value, torch.Tensor) else value


def _shared(study: Study, data: ImageData, assets: dict[str, Any], folder: StudyFolder) -> Shared:
    splits = (*data.train, *data.test)
    return Shared(
        folder=str(folder.root.resolve()),
        family=study.spec.family,
        metrics=study.spec.metrics,
        samples=study.spec.evaluation.samples,
        milestones=study.spec.milestones,
        resources=study.spec.resources.model_dump(),
        name=data.name,
        classes=tuple(data.classes),
        fingerprint=data.fingerprint,
        arrays=tuple(tensor.numpy() for tensor in splits),
        assets=assets,
    )


def _check_shared(folder: Path) -> None:
    """Make sure that every node sees the study folder before a trial trains for nothing.

    Raises:
        ClusterError: a node does not.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return

    @ray.remote(num_cpus=0)
    def sees(path: str) -> bool:
        return Path(path).exists()

    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for node in nodes:
        on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        if not ray.get(sees.options(scheduling_strategy=on_node).remote(str(folder))):
            raise ClusterError(
                f"{folder} is not visible from node {node['NodeManagerAddress']}: use "
                "--storage with a folder that every node shares"
            )
