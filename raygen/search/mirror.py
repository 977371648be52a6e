"""The study for optuna-dashboard: trials, learning curves and sample grids."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from raygen.study_folder import StudyFolder


class _Links(FileSystemArtifactStore):
    """Keeps links to pictures in place of copies."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder)
        self.folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        try:
            os.link(content_body.name, self.folder / artifact_id)
        except OSError:  # a file system without links
            super().write(artifact_id, content_body)


class _NoLock:
    """The only writer is this process: the journal's own lock keeps others out of the folder.

    Optuna's lock would be waited for without end if a killed process left its own behind.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing is held."""


class Mirror:
    """A write-only copy of the study: nothing ever reads it back, so it may never stop a search."""

    def __init__(
        self, path: Path, name: str, directions: Sequence[str], tell: Callable[[str], None]
    ) -> None:
        self.path, self.tell = path, tell
        self.folder = StudyFolder(path.parent)
        self.storage: JournalStorage | None = None
        self.ids: dict[int, int] = {}
        with self._given_up():
            path.unlink(missing_ok=True)  # written again from the journal
            shutil.rmtree(self.folder.artifacts, ignore_errors=True)
            backend = JournalFileBackend(str(path), lock_obj=_NoLock())  # pyright: ignore[reportArgumentType]
            storage = JournalStorage(backend)
            ways = [optuna.study.StudyDirection[direction.upper()] for direction in directions]
            self.study = storage.create_new_study(ways, name)
            self.storage = storage

    def start(self, number: int, trial: optuna.Trial) -> None:
        with self._given_up():
            if self.storage is not None:
                template = create_trial(
                    state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions
                )
                self.ids[number] = self.storage.create_new_trial(self.study, template)

    def report(self, number: int, kimg: float, value: float) -> None:
        with self._given_up():
            if self.storage is not None:
                step = round(kimg * 1000)
                self.storage.set_trial_intermediate_value(self.ids[number], step, value)

    def finish(self, number: int, state: str, values: Sequence[float] | None) -> None:
        with self._given_up():
            if self.storage is not None:
                identity = self.ids.pop(number)
                self._attach(number, self.storage.get_trial(identity), self.storage)
                self.storage.set_trial_user_attr(identity, "state", state)
                ended = TrialState.FAIL
                if values is not None and state in ("completed", "stopped"):
                    ended = TrialState.COMPLETE if state == "completed" else TrialState.PRUNED
                done = list(values) if ended == TrialState.COMPLETE and values is not None else None
                self.storage.set_trial_state_values(identity, ended, done)

    def _attach(self, number: int, trial: FrozenTrial, storage: JournalStorage) -> None:
        """Show the last sample grid with the trial, where the grids are kept here."""
        grids = list(self.folder.trial(number).all_samples().values())
        if grids:
            upload_artifact(
                artifact_store=_Links(self.folder.artifacts), file_path=str(grids[-1]),
                study_or_trial=trial, storage=storage,
            )  # fmt: skip

    @contextmanager
    def _given_up(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever Optuna raises of a full disk or a file cut short
            self.storage = None
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            self.tell(f"{self.path}: no longer written, the search continues: {reason}")
