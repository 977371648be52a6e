"""In what order records may stand: what every reader of a journal relies on.

A journal may have been cut, merged or edited, or come from anybody; a reader would end in the
middle of something else.
"""

from collections.abc import Mapping
from typing import Any

from raygen.journal.checks import Wrong, wrong_at
from raygen.journal.records import (
    Checkpoint,
    Close,
    Collect,
    Decide,
    End,
    Final,
    Finals,
    MetricProtocol,
    Open,
    Record,
    Reopen,
    Report,
    Retry,
    Round,
    Start,
    Suggest,
    Warm,
)


class Order:
    """What the records so far say of the trials, as far as the next record depends on it.

    `strict` is for whoever goes on with the search, or tells of it by the clock: every record has
    its time, and trials are numbered without gaps. Studies of an early raygen have neither.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.state: dict[int, str] = {}  # of each trial: open, interrupted or ended
        self.kimg: dict[int, float] = {}  # of its last report
        self.valued: set[int] = set()  # those of which a report had all objectives
        self.replicates: set[int] = set()
        self.objectives: list[str] = []
        self.raced = False

    def take(self, record: Record) -> None:
        """Check a record against those before it, and remember it.

        Raises:
            Wrong: it may not stand here.
        """
        try:
            self._take(record)
        except Wrong as wrong:
            wrong.path = (record.kind, *wrong.path)
            raise

    def _take(self, record: Record) -> None:
        if self.strict and record.time is None:
            raise wrong_at({}, "is missing", "time")
        if isinstance(record, Open | Reopen):
            self._opens(record.kind, record.study)
            return
        if not self.objectives:
            raise Wrong({}, "does not open a study, as the first record must")
        match record:
            case Suggest():
                self._suggested(record)
            case Finals():
                for number in record.trials:
                    self._of_search(number, "trials")
                self.raced = True
            case Round():
                if not self.raced:
                    raise Wrong({}, "there are no finalists yet")
            case Checkpoint() | Collect() | Final():
                self._known(record.trial, "trial")
            case Start() | Report() | Decide() | Retry() | End():
                self._of_trial(record)
            case Close() | Warm() | MetricProtocol() | _:
                pass

    def _opens(self, kind: str, study: Mapping[str, Any]) -> None:
        if kind == "open" and self.objectives:
            raise Wrong({}, "the study was opened before")
        if kind == "reopen" and not self.objectives:
            raise Wrong({}, "the study was not opened before")
        self.objectives = [objective["metric"] for objective in study["objectives"]]
        for number, state in self.state.items():
            self.state[number] = "open" if state == "interrupted" else state

    def _suggested(self, record: Suggest) -> None:
        number = record.trial
        if number in self.state:
            raise wrong_at(number, "was suggested before", "trial")
        if self.strict and number != len(self.state):
            raise wrong_at(number, f"is not the next trial, which is {len(self.state)}", "trial")
        if record.of is not None:
            self._of_search(record.of, "of")
            self.replicates.add(number)
        for name, other in (("parent", record.parent), ("replaces", record.replaces)):
            if other is not None:
                self._of_search(other, name)
        self.state[number], self.kimg[number] = "open", record.from_kimg

    def _of_trial(self, record: Start | Report | Decide | Retry | End) -> None:
        number = record.trial
        self._known(number, "trial")
        if self.state[number] != "open":
            raise wrong_at(number, f"the trial has ended ({self.state[number]})", "trial")
        match record:
            case Report():
                if record.kimg <= self.kimg[number]:
                    last = f"its last report was at {self.kimg[number]:g} kimg"
                    raise wrong_at(record.kimg, f"must rise: {last}", "kimg")
                self.kimg[number] = record.kimg
                if record.values(self.objectives) is not None:
                    self.valued.add(number)
            case Decide():
                if number not in self.valued:
                    raise wrong_at(number, "the trial has reported no value yet", "trial")
                self._placed(record)
            case End():
                self.state[number] = record.state if record.state == "interrupted" else "ended"
            case Start() | Retry():
                pass

    def _placed(self, record: Decide) -> None:
        """A decision by one value has a cut-off, one by several a place among the others."""
        value, count = record.value, len(self.objectives)
        several = isinstance(value, list)
        if isinstance(value, list) and (count == 1 or len(value) != count):
            raise wrong_at(value, f"must be one value for each of {count} objectives", "value")
        for name, place in (("rank", record.rank), ("kept", record.kept)):
            if (place is not None) != several:
                has = "is missing" if several else "belongs to several objectives"
                raise wrong_at({}, has, name)

    def _known(self, number: int, name: str) -> None:
        if number not in self.state:
            last = f"the last one is {max(self.state)}" if self.state else "there is none"
            raise wrong_at(number, f"no such trial so far: {last}", name)

    def _of_search(self, number: int, name: str) -> None:
        self._known(number, name)
        if number in self.replicates:
            raise wrong_at(
                number, "is a finalist with another seed, and no trial of the search", name
            )
