"""What decides and what is remembered: Ray asks, the journal hears of it first.

A method decides, writes a record, and applies it; on resuming, the records of the journal are
applied in the same way. So the state is a function of the journal, live or after a crash.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from raygen.config import Study
from raygen.errors import InputError
from raygen.failure import why_useless
from raygen.metrics import METRICS, protocol_hash
from raygen.search.finalists import Race
from raygen.search.pareto import standing
from raygen.search.prune import collectable
from raygen.search.sampler import Sampler
from raygen.search.scheduler import Standing, facts, make_scheduler
from raygen.seeds import derive
from raygen.space import Draw

Record = dict[str, Any]
LONGEST_WAIT = 60.0  # seconds before a lost trial is tried again, at most
# Trials in a row that failed by their own fault: then it is the program or the data, not bad luck.
MOST_FAILURES = 5


class Log(Protocol):
    """Where records go: a Journal, or a list for simulations."""

    def append(self, kind: str, **fields: Any) -> Record: ...


@dataclass
class Trial:
    """What the controller knows of a trial."""

    number: int
    config: dict[str, Any]
    params: dict[str, Any]
    seed: int
    of: int | None  # the trial that this one repeats with another seed
    state: str = "waiting"  # for a place to run; then running, then how it ended
    kimg: float = 0.0  # reported so far
    seconds: float = 0.0
    # The objectives at the best milestone of the first, of those measured as the last one was.
    values: list[float] | None = None
    protocol: str | None = None
    sd: float | None = None
    variation: float | None = None  # of its samples then, as a share of that of real images
    history: list[float] = field(default_factory=list)  # of the first objective, likewise
    diverged: str | None = None  # what the last report said
    decision: Record | None = None  # the last one
    attempt: int = 0
    losses: int = 0  # times it was lost since it last reported
    due: float = 0.0  # monotonic time before which it is not tried again
    images: int = 0
    moved: float = 0.0  # monotonic time at which it last advanced
    files: dict[str, int] = field(default_factory=dict)  # bytes of its checkpoints, by role

    @property
    def unfinished(self) -> bool:
        return self.state in ("waiting", "running", "interrupted")

    def standing(self) -> Standing | None:
        """How it compares; None before its first finite value."""
        if self.values is None:
            return None
        return Standing(tuple(self.values), self.sd, sum(self.history) / len(self.history))


class Closing(NamedTuple):
    """Why no more trials start."""

    state: str  # of the study: finished, interrupted, failed
    reason: str
    storage: bool = False  # because nothing more can be written


class Controller:
    """The state of one search: every method writes the journal before anything follows from it."""

    def __init__(
        self,
        study: Study,
        journal: Log,
        sampler: Sampler,
        notify: Callable[[Record], None],
        delete: Callable[[int, str], None] = lambda trial, role: None,
    ) -> None:
        self.study, self.spec = study, study.spec
        self.journal, self.sampler, self.notify, self.delete = journal, sampler, notify, delete
        self.directions = [METRICS[metric].direction for metric in self.spec.objectives]
        self.minimise = self.directions[0] == "minimize"
        self.scheduler = make_scheduler(self.spec)
        count = 0 if self.spec.trade_off else self.spec.finalists.count
        self.race = Race(self.spec.finalists.model_copy(update={"count": count}), self.minimise)
        self.trials: dict[int, Trial] = {}
        # Of earlier studies: points tried after those of the file, and how many were.
        self.points: list[dict[str, Any]] = []
        self.pointed = 0
        self.protocols: set[str] = set()
        self.final: dict[int, Record] = {}  # finalists measured in full
        self.closing: Closing | None = None
        self.failures = 0  # in a row
        self.earlier = 0.0  # seconds of earlier sessions
        self.began = time.monotonic()

    # What runs next

    def suggest(self) -> Record | None:
        """Return the next trial to run, or None while there is none to start."""
        self.tick()
        if self.closing:
            return None
        now = time.monotonic()
        for trial in self.trials.values():
            if trial.state == "waiting" and trial.due <= now:
                return self._job(trial)
        if len(self.searched) < self.spec.budget.trials:
            return self._job(self._new())
        return self._replicate()

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing more will start."""
        states = {trial.state for trial in self.trials.values()}
        if "running" in states:
            return False
        if self.closing:
            return True
        more = len(self.searched) < self.spec.budget.trials or "waiting" in states
        return not more and not self.race.wants(self._best_completed())

    @property
    def searched(self) -> list[Trial]:
        """The trials of the search, without the repetitions of the finalists."""
        return [trial for trial in self.trials.values() if trial.of is None]

    @property
    def running(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.state == "running"]

    def ended(self) -> dict[str, int]:
        """Count the trials by how they ended."""
        counts: dict[str, int] = {}
        for trial in self.trials.values():
            state = "interrupted" if trial.unfinished else trial.state
            counts[state] = counts.get(state, 0) + 1
        return counts

    def close(self, state: str, reason: str, storage: bool = False) -> None:
        """Start nothing more, and end what runs at the next sign of it."""
        self.closing = self.closing or Closing(state, reason, storage)

    def outcome(self) -> Closing:
        """How the search has ended: without any value it has failed, whatever budget is spent."""
        closing = self.closing or Closing("finished", "")
        if closing.state != "finished" or self.ended().get("completed"):
            return closing
        if not closing.reason:
            return Closing("failed", "no trial was trained to its end")
        if all(trial.values is None for trial in self.searched):
            return Closing("failed", f"{closing.reason}, and no trial has a value")
        return closing

    def tick(self) -> None:
        """See whether a budget is spent: time passes also when nobody reports."""
        budget = self.spec.budget
        limits = {key: getattr(budget, key) for key in ("hours", "gpu_hours", "total_kimg")}
        limits = {key: limit for key, limit in limits.items() if limit is not None}
        used = self.used() if limits else {}
        for key, limit in limits.items():
            if used[key] >= limit:
                words = key.replace("_", " ")
                self.close("finished", f"the budget of {limit:g} {words} is spent")

    def used(self) -> dict[str, float]:
        """Hours of wall time, GPU hours and kimg so far, over all sessions."""
        now = time.monotonic()
        seconds = kimg = 0.0
        for trial in self.trials.values():
            live = now - trial.moved if trial.state == "running" else 0.0
            seconds += trial.seconds + max(live, 0.0)
            kimg += max(trial.kimg, trial.images / 1000)
        gpus = self.spec.resources.gpus * self.spec.resources.workers
        hours = (self.earlier + now - self.began) / 3600
        return {"hours": hours, "gpu_hours": seconds * gpus / 3600, "total_kimg": kimg}

    def hung(self) -> list[int]:
        """Trials that have not advanced for too long."""
        limit, now = self.spec.recovery.hang_minutes * 60, time.monotonic()
        return [trial.number for trial in self.running if now - trial.moved > limit]

    # What trials say

    def started(self, number: int, **facts: Any) -> None:
        """Record where a trial runs: node, pid, device, and the kimg from which it goes on."""
        self._write("start", trial=number, attempt=self.trials[number].attempt + 1, **facts)

    def alive(self, number: int, images: int) -> None:
        """Note how far a trial is; only a higher number counts as a sign of life."""
        trial = self.trials[number]
        if images > trial.images:
            trial.images, trial.moved = images, time.monotonic()
            self.notify({"kind": "alive", "trial": number, "images": images})

    def reported(self, number: int, event: Mapping[str, Any]) -> bool:
        """Record a milestone; return whether the trial must stop, its end recorded."""
        missing = [name for name in self.spec.objectives if name not in event["metrics"]]
        if missing and event["diverged"] is None:
            self.end(number, "failed", f"it reported no {missing[0]}")
            return True
        protocols = self._protocols(event["protocols"])
        kept = ("kimg", "seconds", "evaluation_seconds", "images_per_second", "metrics", "losses")
        told = {key: event[key] for key in kept} | {"sd": event.get("sd", {})}
        told |= {"protocols": protocols, "diverged": event["diverged"], "last": event["last"]}
        told |= {"variation": event.get("variation")}
        self._write("report", trial=number, **told)
        for role, size in dict(event["checkpoints"]).items():
            self._write("checkpoint", trial=number, kimg=event["kimg"], role=role, bytes=size)
        return self._conclude(self.trials[number])

    def measured(self, number: int, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Record what a finalist's best weights are worth, measured in full."""
        protocols = self._protocols({name: value["protocol"] for name, value in values.items()})
        kept = ("value", "sd", "spread", "each")
        told = {name: {key: value[key] for key in kept} for name, value in values.items()}
        self._write("final", trial=number, values=told, protocols=protocols)

    def _protocols(self, records: Mapping[str, Record]) -> dict[str, str]:
        """Write the protocols that are new, and return the hash of each metric's."""
        hashes = {}
        for name, record in records.items():
            hashes[name] = digest = protocol_hash(record)
            if digest not in self.protocols:
                self._write("protocol", hash=digest, record=record)
        return hashes

    def end(self, number: int, state: str, reason: str) -> None:
        """Record how a trial ended; a second end of the same trial is ignored."""
        trial = self.trials[number]
        if trial.state not in ("running", "waiting"):
            return
        self._write("end", trial=number, state=state, reason=reason)
        if self.failures >= MOST_FAILURES:
            self.close("failed", f"{self.failures} trials in a row failed, the last one: {reason}")
        self._run_race()
        self._collect()

    def lost(self, number: int, reason: str) -> None:
        """A process or a node is gone: try the trial again from its last checkpoint, or give up."""
        trial = self.trials[number]
        if trial.state != "running":
            return
        if self.closing:
            self.end(number, "interrupted", self.closing.reason)
        elif trial.losses < self.spec.recovery.retries:
            wait = min(2.0**trial.losses, LONGEST_WAIT)
            tries = {"attempt": trial.attempt + 1, "wait": wait, "kimg": trial.kimg}
            self._write("retry", trial=number, reason=reason, **tries)
        else:
            self.end(number, "lost", reason)

    # Going on with a journal

    def replay(self, records: Iterable[Record]) -> None:
        """Apply what an earlier session wrote; what it left unfinished waits to go on.

        Raises:
            InputError: the parameters of a trial are not of this search space.
        """
        opened = last = None
        for line, record in enumerate(records, start=1):
            if record["kind"] in ("open", "reopen"):
                self.earlier += (last - opened) if opened is not None and last is not None else 0.0
                opened = record["time"]
            elif record["kind"] == "close":
                self.earlier += record["seconds"]
                opened = None
            else:
                self.apply_line(line, record)
            last = record["time"]
        self.earlier += (last - opened) if opened is not None and last is not None else 0.0
        for trial in self.trials.values():
            if trial.unfinished:
                trial.state, trial.due = "waiting", 0.0

    def recover(self) -> None:
        """Draw the conclusions that a crash came before, and delete what was to be deleted."""
        for trial in list(self.trials.values()):
            if trial.unfinished and trial.kimg:
                self._conclude(trial)
            for role in ("last", "best"):
                if not trial.unfinished and role not in trial.files:
                    self.delete(trial.number, role)
        self._run_race()
        self._collect()

    def warm(self, **facts: Any) -> None:
        """Record what an earlier study teaches: a finished trial, or a point to try first."""
        self._write("warm", **facts)

    # Deciding

    def draw(self) -> tuple[Draw, str]:
        """Draw the next configuration, and say by what; nothing changes."""
        number = len(self.trials)
        mine = number >= len(self.study.start) and self.pointed < len(self.points)
        return self.sampler.draw(number, self.points[self.pointed] if mine else None)

    def _new(self) -> Trial:
        number = len(self.trials)
        draw, by = self.draw()
        own = {"config": draw.config, "params": draw.parameters, "seed": self._seed(number)}
        self._write("suggest", trial=number, by=by, **own)
        return self.trials[number]

    def _replicate(self) -> Record | None:
        if any(trial.unfinished for trial in self.searched):
            return None
        best = self._best_completed()
        if not self.race.wants(best):
            return None
        if self.race.settled or not self.race.finalists:
            self._write("finals", trials=best[: self.race.count])
        turn = self.race.next()
        if turn is None:
            return None
        first, number = self.trials[turn.of], len(self.trials)
        seed = derive(self.spec.seed, "finalist", turn.seed)
        own = {"config": first.config, "params": first.params, "seed": seed}
        self._write("suggest", trial=number, by="finalist", of=turn.of, **own)
        return self._job(self.trials[number])

    def _job(self, trial: Trial) -> Record:
        trial.state = "running"
        trial.moved = math.inf  # it may have to wait for a machine: that is no hang
        own = {"config": trial.config, "seed": trial.seed}
        # `reported`: what the journal knows already, so that nothing is told twice.
        return {"number": trial.number, **own, "reported": trial.kimg}

    def _conclude(self, trial: Trial) -> bool:
        """Draw what follows from a trial's last report; return whether it ended."""
        if trial.diverged is not None:
            self.end(trial.number, "diverged", trial.diverged)
        elif trial.kimg >= self.spec.budget.kimg:
            self.end(trial.number, "completed", "")
        elif trial.of is None:
            self._judge(trial)
        self._target(trial)
        self.tick()
        return not trial.unfinished

    def _judge(self, trial: Trial) -> None:
        place = trial.standing()
        if place is None:
            return
        if trial.decision is None or trial.decision["kimg"] != trial.kimg:
            decision = self.scheduler.judge(trial.kimg, place)
            if decision is None:
                return
            told = facts(decision, place.values)
            self._write("decide", trial=trial.number, kimg=trial.kimg, **told)
        if trial.decision and trial.decision["decision"] == "stop":
            self.end(trial.number, "stopped", self._why(trial.kimg, trial.decision))

    def _why(self, kimg: float, decided: Record) -> str:
        if "rank" in decided:
            return f"rank {decided['rank']} at {kimg:g} kimg, where {decided['kept']} go on"
        relation = "above" if self.minimise else "below"
        cut, value = decided["cutoff"], decided["value"]
        noise = f" by more than {decided['band']:.2g}" if decided["band"] else ""
        at = f"{value:.4g} at {kimg:g} kimg"
        return f"{at} is {relation} the cut-off {cut:.4g}{noise}"

    def _target(self, trial: Trial) -> None:
        target = self.spec.budget.target
        if target is None or trial.values is None or trial.of is not None:
            return
        value = trial.values[0]
        if value <= target if self.minimise else value >= target:
            reason = f"trial {trial.number} reached {value:.5g}, the target is {target:g}"
            self.close("finished", reason)

    def _run_race(self) -> None:
        repeats = [trial for trial in self.trials.values() if trial.of is not None]
        outcome = self.race.round([(t.of, t.values, t.state) for t in repeats if t.of is not None])
        if outcome is not None:
            self._write("race", **outcome)

    def _collect(self) -> None:
        order = [*self._best_completed(), *self._best("stopped", "diverged")]
        spec = self.spec.checkpoints
        model = self.best_run()
        for number, role in collectable(self.trials, order, spec.keep, spec.gigabytes, model):
            size = self.trials[number].files[role]
            self._write("collect", trial=number, role=role, bytes=size)
            self.delete(number, role)

    def best_run(self) -> int | None:
        """The trial or replicate whose checkpoint is the one to use; see results.best_model."""
        runs = list(self.trials.values()) if len(self.directions) == 1 else self.searched
        order = self._in_order([run for run in runs if run.state == "completed"])
        return order[0] if order else None

    def _best_completed(self) -> list[int]:
        return self._best("completed")

    def _best(self, *states: str) -> list[int]:
        """Trials of the search in some states that have values, the best first."""
        return self._in_order([trial for trial in self.searched if trial.state in states])

    def _in_order(self, runs: list[Trial]) -> list[int]:
        """Numbers of those that have values, the best first, what drew nothing of use last."""
        scored = [run for run in runs if run.values is not None]
        parts = [run for run in scored if not self._failed(run)], list(filter(self._failed, scored))
        signs = [1.0 if way == "minimize" else -1.0 for way in self.directions]
        order: list[int] = []
        for part in parts:
            points = [[s * v for s, v in zip(signs, run.values or [], strict=True)] for run in part]
            by_value = sorted(range(len(part)), key=points.__getitem__)
            order += [part[i].number for i in (standing(points) if len(signs) > 1 else by_value)]
        return order

    def _failed(self, run: Trial) -> bool:
        """Whether its best checkpoint drew nothing of use; see results.failed."""
        guess = METRICS[self.spec.objective].guess
        value = run.values[0] if run.values is not None else math.nan
        return bool(why_useless(self.spec.family, run.variation, value, guess, self.minimise))

    def _seed(self, number: int) -> int:
        return derive(self.spec.seed, number)

    # Remembering

    def _write(self, kind: str, **fields: Any) -> None:
        record = self.journal.append(kind, **fields)
        self.apply(record)
        self.notify(record)

    def apply_line(self, line: int, record: Mapping[str, Any]) -> None:
        """Apply a record that was read from a line of the journal.

        Raises:
            InputError: the parameters of a trial are not of this search space; with the line.
        """
        try:
            self.apply(record)
        except InputError as error:
            raise InputError(f"journal.jsonl:{line}: {record['kind']}: {error}") from error

    def apply(self, record: Mapping[str, Any]) -> None:
        """Change the state as one record says: the only way in which it changes."""
        match record["kind"]:
            case "warm":
                if record.get("values") is not None:
                    self.sampler.learn(record["params"], record["values"])
                else:
                    self.points.append(record["params"])
            case "protocol":
                self.protocols.add(record["hash"])
            case "finals":
                self.race.start(record["trials"])
            case "final":
                self.final[record["trial"]] = dict(record)
            case "race":
                self.race.settle(record)
            case "suggest":
                self._suggested(record)
            case _:
                self._advance(self.trials[record["trial"]], record)

    def _suggested(self, record: Mapping[str, Any]) -> None:
        number, of = record["trial"], record.get("of")
        config, params = record["config"], record["params"]
        self.trials[number] = Trial(number, config, params, record["seed"], of)
        self.pointed += record.get("by") == "warm"
        if of is None:
            self.sampler.add(number, params)
        else:
            self.race.issued(of)

    def _advance(self, trial: Trial, record: Mapping[str, Any]) -> None:
        match record["kind"]:
            case "start":
                trial.state, trial.attempt = "running", record.get("attempt", 1)
                trial.moved = time.monotonic()
            case "report":
                self._measured(trial, record)
            case "checkpoint":
                trial.files[record["role"]] = record.get("bytes", 0)
            case "collect":
                trial.files.pop(record["role"], None)
            case "decide":
                trial.decision = dict(record)
                place = trial.standing()
                assert place is not None
                self.scheduler.record(record["kimg"], place)
            case "retry":
                trial.state, trial.losses = "waiting", trial.losses + 1
                trial.due = time.monotonic() + record["wait"]
            case "end":
                self._ended(trial, record["state"])

    def _measured(self, trial: Trial, record: Mapping[str, Any]) -> None:
        trial.kimg, trial.seconds = record["kimg"], record["seconds"]
        trial.diverged, trial.losses = record.get("diverged"), 0
        trial.moved, trial.images = time.monotonic(), max(trial.images, int(trial.kimg * 1000))
        # JSON has no NaN: the journal holds a value that is not finite as null.
        found = [record["metrics"].get(name) for name in self.spec.objectives]
        values = [value for value in found if value is not None]
        if len(values) < len(found):
            return
        if trial.of is None:
            self.sampler.report(trial.number, trial.kimg, values)
        protocol = record["protocols"].get(self.spec.objective)
        if protocol != trial.protocol:
            trial.values, trial.history, trial.protocol = None, [], protocol
        trial.history.append(values[0])
        better = trial.values is None or (values[0] < trial.values[0]) == self.minimise
        if better and (trial.values is None or values[0] != trial.values[0]):
            trial.values, trial.sd = values, record.get("sd", {}).get(self.spec.objective)
            trial.variation = record.get("variation")

    def _ended(self, trial: Trial, state: str) -> None:
        trial.state = state
        if state != "interrupted":
            self.failures = self.failures + 1 if state == "failed" else 0
            if trial.of is None:
                values = trial.values
                finite = values is not None and all(math.isfinite(value) for value in values)
                self.sampler.finish(trial.number, state, values if finite else None)
