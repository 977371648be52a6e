"""Is a journal what its own rules make of it? Every choice made again, from what came before."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from raygen.config import Study
from raygen.errors import RaygenError
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from raygen.search.scheduler import facts


class Verified(NamedTuple):
    """How many choices came out as they were written."""

    suggestions: int
    decisions: int


def verify(study: Study, records: Sequence[dict[str, Any]]) -> Verified:
    """Draw every suggestion and make every decision again, from the records before it.

    Raises:
        RaygenError: one came out differently, for instance with another version of Optuna.
    """
    controller = Controller(study, _Refuse(), Sampler(study, "", None), lambda record: None)
    suggestions = decisions = 0
    for line, record in enumerate(records, start=1):
        match record["kind"]:
            case "open" | "reopen" | "close":
                continue
            case "suggest" if record.get("of") is None:
                draw = controller.draw()[0]
                _same(line, "suggestion", draw.config, record["config"])
                suggestions += 1
            case "decide":
                place = controller.trials[record["trial"]].standing()
                assert place is not None
                decision = controller.scheduler.judge(record["kimg"], place)
                made = facts(decision, place.values) if decision is not None else {}
                _same(line, "decision", made, {key: record[key] for key in made})
                decisions += 1
        controller.apply_line(line, record)
    return Verified(suggestions, decisions)


def _same(line: int, what: str, now: object, then: object) -> None:
    if now != then or not now:
        place = f"journal.jsonl:{line}"
        raise RaygenError(f"{place}: this {what} now comes out as {now}, it was {then}")


class _Refuse:
    """A journal that nothing may be written to."""

    def append(self, kind: str, **fields: Any) -> dict[str, Any]:
        raise AssertionError(f"checking a journal wrote {kind} {fields}")
