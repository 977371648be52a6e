"""Build, run, resume and close a search on Ray."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray import tune
from ray.tune import PlacementGroupFactory

from raygen.callbacks import Callback
from raygen.cluster.connect import check_storage, connected, wait_for
from raygen.cluster.room import TrialSlots, offered, selector
from raygen.config import Study, StudySpec
from raygen.data import ImageData
from raygen.data.pictures import save_grid
from raygen.document import dump
from raygen.errors import ClusterError, RaygenError, StorageError, cannot_write
from raygen.files import write_text
from raygen.integrations import callbacks_of
from raygen.integrations.dispatch import Dispatcher
from raygen.integrations.events import Events
from raygen.interrupts import Interrupts
from raygen.journal import read_records
from raygen.journal.bucket import RecordStore, RemoteJournal, copy_journal, records_at
from raygen.journal.local import Journal
from raygen.journal.records import Close, Open, Record, Reopen, Warm
from raygen.metrics import afresh
from raygen.metrics.evaluator import prepare
from raygen.notices import Earlier, Machines, Notice, Notify, Phase
from raygen.patience import WAIT_SECONDS
from raygen.plugins import install, sources
from raygen.results import fold, write_tables
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler, check_sampler
from raygen.search.study_record import check_same, describe
from raygen.search.warm_start import lessons
from raygen.storage import JOURNAL, Storage
from raygen.study_folder import StudyFolder
from raygen.tuning.packing import settle
from raygen.tuning.remeasure import measure_chosen
from raygen.tuning.requirements import load_checked
from raygen.tuning.trainables import DdpTrial, TrialActor
from raygen.tuning.tuner import drive
from raygen.tuning.worker import Assets, Shared

# Trials tell that they are alive this often; with many of them less often, to spare Tune's loop.
BEAT, BEATS_PER_SECOND = 1.0, 50
BROKEN_TRIALS = 3  # exit code: finished, but some trials failed


class Outcome(NamedTuple):
    """How a search ended."""

    state: str  # finished, interrupted, failed
    ended: dict[str, int]  # trials by state
    signal: int | None  # what interrupted it
    reason: str  # why it ended before its trials were spent, if it did
    storage: bool = False  # because nothing more could be written

    @property
    def exit_code(self) -> int:
        """What `raygen tune` ends with: 0 if nothing failed, 3 if some of the trials did."""
        if self.signal is not None:
            return 128 + self.signal
        if self.state == "failed":
            return StorageError.exit_code if self.storage else RaygenError.exit_code
        return BROKEN_TRIALS if self.ended.get("failed") or self.ended.get("lost") else 0


def run_study(
    study: Study,
    folder: StudyFolder,
    facts: dict[str, Any],
    address: str | None,
    notify: Notify,
    warm_start: Sequence[Path] = (),
    journal_uri: str | None = None,
    storage: Storage | None = None,
    interrupts: Interrupts | None = None,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Search, or resume the search in the folder, and leave a study that opens without Ray.

    `facts` are added to what the study records of itself; `notify` gets every journal record;
    `warm_start` holds earlier studies to learn from; `journal_uri` is where on object storage the
    journal is also kept; `storage` is where all of the study is kept, and `folder` then a new one
    that holds what this process needs of it; `interrupts` handles the signals that stop it;
    `callbacks` hear of it beside those of the file.

    Raises:
        InputError: the data, the weights, the resources or what a callback needs are not there, or
            the study in the folder searched something else; nothing was started.
        ClusterError: Ray cannot be reached, or the disk is full.
    """
    started, began = time.time(), time.monotonic()
    check_sampler(study)
    hearing = callbacks_of(study.spec.callbacks, callbacks, folder)
    notify(Phase("loading data"))
    data = load_checked(study.spec, address, str(facts.get("space_file", "SPACE")), notify)
    if storage is not None:
        journal_uri = storage.under(JOURNAL).place
    bucket = records_at(journal_uri) if journal_uri else None
    info = {**describe(study, data, folder.root.name), **facts, "started": started}
    if storage is not None and bucket is not None:
        copy_journal(bucket, folder.journal)
    if folder.journal.exists():
        check_same(study, folder, info)
    until = _hours_spent(study, folder)
    with connected(address, notify):
        study = settle(study, data, notify, until)
        info |= {**describe(study, data, folder.root.name), **facts}
        slots = TrialSlots(study.spec.resources)
        notify(Machines(_machines(slots)))
        _make_folder(folder.root, storage, slots.elsewhere)
        notify(Phase(f"preparing {', '.join(study.spec.metrics)}"))
        plan = afresh.plan_afresh(info, data)
        info["left_out"] = plan.left_out
        for reason in plan.left_out.values():
            notify(Phase(f"not measured at the end: {reason}"))
        assets = _prepare(study, data, plan, notify, until)
        taught = list(lessons(study, data, assets.milestones, warm_start))
        if storage is not None:
            storage.be_patient(lambda text: notify(Phase(text)))
        shared = _shared(study, data, assets, folder, slots(), storage)
        with _journal(folder.journal, bucket, notify) as journal:
            session = _Session(study, data, folder, journal, storage, notify, began, hearing)
            session.open(info, taught, data)
            outcome = session.search(shared, slots, plan, interrupts or Interrupts())
    write_tables(fold(folder, read_records(folder.journal)))
    if storage is not None:
        _send_home(storage, folder)
    return outcome


def _machines(slots: TrialSlots) -> str:
    resources = offered(slots.resources)
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    return f"{cpus:g} CPU, {gpus:g} GPU: {slots()} at once"


class _Session:
    """One run of a search, from its first record to its last, which closes it."""

    def __init__(
        self,
        study: Study,
        data: ImageData,
        folder: StudyFolder,
        journal: Journal,
        storage: Storage | None,
        notify: Notify,
        began: float,
        callbacks: Mapping[str, Callback],
    ) -> None:
        self.study, self.folder, self.journal, self.storage = study, folder, journal, storage
        events = Events(
            folder.root.name, folder.root.resolve(), study.spec.objective, study.spec.family
        )
        self.dispatcher = Dispatcher(events, callbacks, lambda text: notify(Phase(text)))

        def announce(record: Record | Notice) -> None:
            self.dispatcher(record)
            notify(record)

        self.notify = announce
        sampler = Sampler(study, folder.root.name, folder.optuna, lambda text: notify(Phase(text)))
        self.controller = Controller(study, journal, sampler, announce, self._delete, data.image)
        self.controller.began = began  # the hours of the budget are those of the sessions

    def open(self, info: dict[str, Any], taught: Sequence[Warm], data: ImageData) -> None:
        """Write the first record, or continue after those of earlier sessions.

        Raises:
            InputError: the study in the folder searched something else.
        """
        if not self.journal.locked:
            warning = (
                "its file system has no file locks: make sure that no other raygen runs this study"
            )
            self.notify(Phase(f"{self.folder.root}: {warning}"))
        records = read_records(self.folder.journal, strict=True)
        if records:
            check_same(self.study, self.folder, info)  # again: it is ours only now
            self._reopen(records, info)
        else:
            self.notify(self.journal.append(Open(study=info)))
        write_text(self.folder.space, dump(self.study.raw))
        for name, text in sources().items():  # for the reader: a study runs no code of its folder
            write_text(self.folder.plugins / name, text)
        save_grid(data.train.images[:64], self.folder.real)
        if self.storage is not None:
            self.storage.push(self.folder.root, self.folder.space.name, self.folder.real.name)
        taught_before = {(r.study, r.source) for r in records if isinstance(r, Warm)}
        for lesson in taught:
            if (lesson.study, lesson.source) not in taught_before:
                self.controller.warm(lesson)

    def search(
        self, shared: Shared, slots: TrialSlots, plan: afresh.Plan, interrupts: Interrupts
    ) -> Outcome:
        """Run all trials, measure what was chosen, and close the study."""
        controller = self.controller

        def end(name: str) -> None:
            controller.close("interrupted", f"the search was interrupted by {name}")

        try:
            with interrupts.ended_by(end):
                drive(controller, *_trainable(shared), slots, self.folder.root)
                measure_chosen(controller, shared, plan)
            controller.end_unfinished()
            state, reason, full = controller.outcome()
            self.notify(self._close(state, reason))
        except RaygenError as error:
            with suppress(RaygenError):  # a full disk, perhaps; the error says what it was
                self.dispatcher(self._close("failed", str(error)))
            raise
        finally:
            self.dispatcher.close()
        return Outcome(state, controller.ended(), interrupts.received, reason, full)

    def _close(self, state: str, reason: str) -> Record:
        seconds = time.monotonic() - self.controller.began
        return self.journal.append(Close(state=state, seconds=seconds, reason=reason))

    def _reopen(self, records: list[Record], info: dict[str, Any]) -> None:
        """Replay the records, and write that the study is resumed, and with what changes."""
        old = next(r.study for r in reversed(records) if isinstance(r, Open | Reopen))
        free = ("budget", "resources", "recovery", "checkpoints", "finalists")
        changed = {key: [old.get(key), info[key]] for key in free if old.get(key) != info[key]}
        self.controller.replay(records)
        self.notify(Earlier(records))
        kept = {"started": old["started"], "command": old["command"]}
        self.notify(self.journal.append(Reopen(study={**info, **kept}, changed=changed)))
        self.controller.recover()

    def _delete(self, trial: int, role: str) -> None:
        path: Path = getattr(self.folder.trial(trial), role)
        path.unlink(missing_ok=True)
        if self.storage is not None:
            self.storage.delete(path.relative_to(self.folder.root).as_posix())


def _journal(path: Path, bucket: RecordStore | None, notify: Notify) -> Journal:
    if bucket is None:
        return Journal(path)
    return RemoteJournal(path, bucket, WAIT_SECONDS, lambda text: notify(Phase(text)))


def _send_home(storage: Storage, folder: StudyFolder) -> None:
    """Keep the tables where the study is kept, and bring the sample grids that the report shows."""
    files = [folder.journal, folder.optuna, folder.study, *folder.root.glob("*.csv")]
    files += [path for path in folder.curves.rglob("*") if path.is_file()]
    existing = [path for path in files if path.exists()]
    storage.push(folder.root, *sorted(p.relative_to(folder.root).as_posix() for p in existing))
    kept = storage.sizes("trials")
    storage.pull(folder.root, [name for name in kept if name.endswith((".png", ".txt"))])


def _make_folder(root: Path, storage: Storage | None, elsewhere: bool) -> None:
    new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(root, error) from error
    try:
        place = storage.place if storage is not None else str(root.resolve())
        check_storage(place, elsewhere)
    except ClusterError:
        if new:
            root.rmdir()
        raise


def _trainable(shared: Shared) -> tuple[Any, PlacementGroupFactory]:
    """Return what runs a trial, and what Tune reserves for it."""
    resources = shared.resources
    if resources.most_workers == 1:
        labels = selector(resources)
        where: dict[str, Any] = {"bundle_label_selector": [labels]} if labels else {}
        place = PlacementGroupFactory([resources.bundle], **where)
        return tune.with_parameters(TrialActor, shared=shared), place
    reference = [ray.put(shared)]
    given = (
        reference, resources, shared.family, shared.folder,
        shared.beat_seconds, shared.hang_seconds,
    )  # fmt: skip
    # On the head, which outlives spot nodes, and without a CPU: even 0.001 of one would keep a
    # group of workers that wants every CPU of the node from ever starting.
    place = PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.with_parameters(DdpTrial, shared=given), place


def _hours_spent(study: Study, folder: StudyFolder) -> float | None:
    """When (time.monotonic) the hours of the budget are spent that earlier sessions left over."""
    if study.spec.budget.hours is None:
        return None
    before = fold(folder, read_records(folder.journal)).info if folder.journal.exists() else {}
    return time.monotonic() + 3600 * study.spec.budget.hours - before.get("seconds", 0.0)


def _prepare(
    study: Study, data: ImageData, plan: afresh.Plan, notify: Notify, until: float | None
) -> Assets:
    """Make the shared parts of the evaluation: here, or on a GPU if trials have one.

    Raises:
        RaygenError: no GPU became free until the hours of the budget were spent.
    """
    spec = study.spec
    if not spec.resources.gpu_share:
        return _assets(spec, plan, data, torch.device("cpu"), {})
    task: Any = ray.remote(_assets).options(  # pyright: ignore[reportFunctionMemberAccess]
        num_gpus=spec.resources.gpu_share, label_selector=selector(spec.resources)
    )
    made = task.remote(spec, plan, data, torch.device("cuda"), sources())
    text = f"waiting for {spec.resources.gpu_share:g} GPU, or measuring real images on it"
    return wait_for(made, until, notify, text)


def _assets(
    spec: StudySpec,
    plan: afresh.Plan,
    data: ImageData,
    device: torch.device,
    plugins: dict[str, str],
) -> Assets:
    """Make on a device what evaluators at milestones and afterwards share; it comes to the CPU."""
    install(plugins)
    if spec.evaluation.precision == "float32":
        metrics = tuple(dict.fromkeys((*spec.metrics, *plan.metrics)))
        samples = max(spec.evaluation.samples, plan.samples)
        both = _to_cpu(prepare(metrics, data, device, samples))
        return Assets(both, both)
    milestones = prepare(
        spec.metrics, data, device, spec.evaluation.samples, spec.evaluation.precision
    )
    return Assets(_to_cpu(milestones), _to_cpu(prepare(plan.metrics, data, device, plan.samples)))


def _to_cpu(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_cpu(inside) for key, inside in value.items()}
    return value.cpu() if isinstance(value, torch.Tensor) else value


def _shared(
    study: Study,
    data: ImageData,
    assets: Assets,
    folder: StudyFolder,
    concurrent: int,
    storage: Storage | None,
) -> Shared:
    splits = (*data.train, *data.test)
    return Shared(
        folder=str(folder.root.resolve()),
        family=study.spec.family,
        metrics=study.spec.metrics,
        evaluation=study.spec.evaluation,
        compute=study.spec.compute,
        milestones=study.spec.milestones,
        rungs=study.spec.rungs,
        resources=study.spec.resources,
        name=data.name,
        classes=tuple(data.classes),
        fingerprint=data.fingerprint,
        arrays=tuple(tensor.numpy() for tensor in splits),
        assets=assets,
        save_seconds=study.spec.checkpoints.every_minutes * 60,
        beat_seconds=max(BEAT, concurrent / BEATS_PER_SECOND),
        hang_seconds=study.spec.recovery.hang_minutes * 60,
        storage=storage,
        plugins=sources(),
    )
