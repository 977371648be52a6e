"""Does a journal follow from its own rules? Every choice is recomputed from what came before."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from raygen.config import Study
from raygen.errors import RaygenError
from raygen.journal.records import Close, Decide, Open, Record, Reopen, Suggest
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from raygen.search.scheduler import rung_value


class Verified(NamedTuple):
    """How many choices came out as they were written."""

    suggestions: int | None  # None: the sampler takes no seed
    decisions: int


def verify(study: Study, records: Sequence[Record]) -> Verified:
    """Draw every suggestion and make every decision again, from the records before it.

    Suggestions of a sampler that takes no seed are left out.

    Raises:
        RaygenError: one came out differently, for instance with another version of Optuna.
    """
    controller = Controller(study, _Refuse(), Sampler(study, "", None), lambda record: None)
    suggestions = decisions = 0
    copied: dict[int, Suggest] = {}
    for line, record in enumerate(records, start=1):
        match record:
            case Open() | Close():
                continue
            case Reopen():
                controller.reopen()
                continue
            case Suggest(parent=int()) if controller.population is not None:
                if record.trial not in copied:
                    waiting = [t for t in controller.paused if t.kimg == record.from_kimg]
                    made = controller.population.copies(waiting, record.trial)
                    copied = {copy.trial: copy for copy in made}
                _same(line, "copy", copied.get(record.trial), replace(record, time=None))
                suggestions += 1
            case Suggest(of=None) if controller.sampler.reproducible:
                draw = controller.draw().draw
                _same(line, "suggestion", draw.config, record.config)
                suggestions += 1
            case Decide(decision="promote"):
                now = _promoted(controller, record)
                _same(line, "promotion", now, replace(record, time=None))
                decisions += 1
            case Decide():
                reached = rung_value(controller.trials[record.trial])
                assert reached is not None
                verdict = controller.scheduler.judge(record.kimg, reached)
                made = verdict and verdict.as_record(record.trial, record.kimg, reached.values)
                _same(line, "decision", made, replace(record, time=None))
                decisions += 1
            case _:
                pass
        controller.apply_line(line, record)
    return Verified(suggestions if controller.sampler.reproducible else None, decisions)


def _promoted(controller: Controller, record: Decide) -> Decide | None:
    """The promotion that is due: when more trials may come, or when none will.

    Which of the two it was depends on a budget that may have been raised since.
    """
    if controller.population is not None:
        return controller.population.released(controller.trials[record.trial])
    paused = {trial.number: trial.kimg for trial in controller.paused}
    made = None
    for last in (False, True):
        due = controller.scheduler.promotion(paused, last)
        if due is not None:
            number, verdict = due
            trial = controller.trials[number]
            made = verdict.as_record(number, trial.kimg, trial.values or [])
            if made == replace(record, time=None):
                return made
    return made


def _same(line: int, what: str, now: object, then: object) -> None:
    if now != then or not now:
        place = f"journal.jsonl:{line}"
        raise RaygenError(f"{place}: this {what} is now {now}, but was {then}")


class _Refuse:
    """A journal that nothing may be written to."""

    def append(self, record: Record) -> Record:
        raise AssertionError(f"checking a journal wrote {record}")
