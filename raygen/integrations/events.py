"""The events of a search, from the records of its journal."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raygen.callbacks import Event, Hook
from raygen.failure import why_useless
from raygen.image_shape import ImageShape
from raygen.journal.records import (
    Close,
    End,
    MetricProtocol,
    OfTrial,
    Open,
    Record,
    Reopen,
    Report,
)
from raygen.journal.trials import Trials, TrialState
from raygen.metrics import METRICS

FAILURES = ("failed", "lost", "out_of_memory")


class Events:
    """Follows a journal from its first record; what it says of a record follows from those before.

    A value is a new best if no trial had a better one that was measured with as many samples, or
    with more, and if its model draws something usable.
    """

    def __init__(self, name: str, folder: Path, objective: str, family: str) -> None:
        self.name, self.folder, self.objective, self.family = name, folder, objective, family
        self.metric = METRICS[objective]
        self.minimise = self.metric.direction == "minimize"
        self.trials = Trials([objective], self.minimise)
        self.samples: dict[str, int] = {}  # by protocol
        self.most, self.best = -1, None  # samples that the best was measured with, and its value
        self.image, self.study_id = ImageShape(), ""

    def of(self, record: Record) -> Iterator[Event]:
        """What a record means to callbacks, in order."""
        match record:
            case Open() | Reopen():
                if not self.study_id:
                    began = f"{self.name} {record.time}".encode()
                    self.study_id = hashlib.sha256(began).hexdigest()[:8]
                self.image = ImageShape.of(record.study.get("data", {}).get("image"))
                yield self._event("study_start", record)
            case MetricProtocol():
                self.samples[record.hash] = int(record.record.get("samples") or 0)
            case Close():
                facts: dict[str, Any] = {"state": record.state, "reason": record.reason}
                if record.state == "failed":
                    yield self._event("failure", record, value=self.best, **facts)
                yield self._event("study_end", record, value=self.best, **facts)
            case Report() | End():
                yield from self._of_trial(record)
            case _ if isinstance(record, OfTrial):
                self.trials.apply(record)

    def _of_trial(self, record: Report | End) -> Iterator[Event]:
        trial = self.trials.apply(record)
        facts: dict[str, Any] = {
            "trial": trial.number,
            "of": trial.of,
            "params": trial.params,
            "config": trial.config,
            "kimg": trial.kimg,
        }
        if isinstance(record, End):
            value = trial.values[0] if trial.values else None
            facts |= {"value": value, "state": record.state, "reason": record.reason}
            if record.state in FAILURES:
                yield self._event("failure", record, **facts)
            yield self._event("trial_end", record, **facts)
            return
        facts |= {"value": record.metrics.get(self.objective)}
        more = {name: getattr(record, name) for name in ("metrics", "losses", "images_per_second")}
        yield self._event("report", record, **facts, **more)
        if trial.of is None and self._is_best(trial, record):
            yield self._event("new_best", record, **facts, metrics=record.metrics)

    def _is_best(self, trial: TrialState, record: Report) -> bool:
        value = record.metrics.get(self.objective)
        samples = self.samples.get(record.protocols.get(self.objective, ""), 0)
        if value is None or record.diverged is not None or samples < self.most:
            return False
        guess = self.metric.value_of_guess(self.image)
        if why_useless(self.family, record.variation, value, guess, self.minimise):
            return False
        worse = self.best is not None and (value < self.best) != self.minimise
        if samples == self.most and (worse or value == self.best):
            return False
        self.most, self.best = samples, value
        return True

    def _event(self, hook: Hook, record: Record, **facts: Any) -> Event:
        when = record.time if record.time is not None else time.time()
        return Event(hook, self.name, self.folder, when, self.objective, self.study_id, **facts)
