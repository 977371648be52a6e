"""What decides and what is remembered: Ray asks, and the journal is written first.

A method decides, writes a record, and applies it; on resuming, the records of the journal are
applied in the same way. So the state is a function of the journal, live or after a crash.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from raygen.config import Study
from raygen.costs import dollars
from raygen.errors import InputError
from raygen.image_shape import CIFAR10, ImageShape
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
from raygen.journal.trials import Trials, TrialState, kimg_of, worked_by
from raygen.metrics import METRICS, protocol_hash
from raygen.notices import Alive, Notify, Phase
from raygen.search.assignment import Assignment
from raygen.search.finalists import Race
from raygen.search.population import Population
from raygen.search.prune import collectable
from raygen.search.sampler import Sampler, Suggestion
from raygen.search.scheduler import Decision, make_scheduler, rung_value, why_stopped
from raygen.search.trial_order import in_order
from raygen.seeds import derive
from raygen.words import kimg_text

LONGEST_WAIT = 60.0  # seconds before a lost trial is tried again, at most
# Trials in a row that failed by their own fault: then it is the program or the data, not bad luck.
MOST_FAILURES = 5
BUDGET_WORDS = {
    "hours": "hours", "gpu_hours": "GPU hours", "total_kimg": "total kimg", "dollars": "dollars",
}  # fmt: skip

NONE_COMPLETED = "no trial completed its training"


class Log(Protocol):
    """Where records go: a Journal, or a list for simulations."""

    def append(self, record: Record) -> Record: ...


@dataclass
class Clock:
    """What is known of a trial while this process lives; monotonic times in seconds."""

    due: float = 0.0  # before which a lost trial is not tried again
    moved: float = math.inf  # at which it last advanced; it may wait for a machine: that is no hang
    images: int = 0


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
        notify: Notify,
        delete: Callable[[int, str], None] = lambda trial, role: None,
        image: ImageShape = CIFAR10,
    ) -> None:
        self.study, self.spec = study, study.spec
        self.journal, self.sampler, self.notify, self.delete = journal, sampler, notify, delete
        self.image = image
        self.directions = [METRICS[metric].direction for metric in self.spec.objectives]
        self.minimise = self.directions[0] == "minimize"
        self.scheduler = make_scheduler(self.spec)
        count = 0 if self.spec.trade_off else self.spec.finalists.count
        self.race = Race(self.spec.finalists.model_copy(update={"count": count}), self.minimise)
        workers = self.spec.resources.most_workers
        self.trials = Trials(self.spec.objectives, self.minimise, workers)
        self.population = None
        if self.spec.scheduler.name == "pbt":
            self.population = Population(study, self.trials)
        self.clocks: dict[int, Clock] = {}
        # Of earlier studies: points tried after those of the file, and how many were.
        self.points: list[dict[str, Any]] = []
        self.pointed = 0
        self.protocols: set[str] = set()
        self.final: dict[int, Final] = {}  # checkpoints measured again at the end
        self.closing: Closing | None = None
        self.remarks: set[str] = set()  # of trials on their machines
        self.failures = 0  # in a row
        self.earlier = 0.0  # seconds of earlier sessions
        self.began = time.monotonic()  # of this session, by a clock that is never set

    # What runs next

    def suggest(self) -> Assignment | None:
        """Return the next trial to run, or None while there is none to start."""
        self.tick()
        if self.closing:
            return None
        if self.population is not None:
            self._turn(self.population)
        now = time.monotonic()
        for trial in self.trials:
            if trial.state != "waiting" or self.clocks[trial.number].due > now:
                continue
            if self.population is None or not self.population.copied(trial.number):
                return self._job(trial)
        if (promotion := self.promotion()) is not None:
            return self._job(self._promote(*promotion))
        if len(self.searched) < self.spec.budget.trials:
            return self._job(self._new())
        return self._replicate()

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing more will start."""
        states = {trial.state for trial in self.trials}
        if "running" in states:
            return False
        if self.closing:
            return True
        more = len(self.searched) < self.spec.budget.trials or "waiting" in states
        more = more or self.promotion() is not None
        more = more or (self.population is not None and bool(self.paused))
        return not more and not self.race.wants(self._best_completed())

    @property
    def searched(self) -> list[TrialState]:
        """The trials of the search, without the replicates of the finalists."""
        return self.trials.searched

    @property
    def running(self) -> list[TrialState]:
        return [trial for trial in self.trials if trial.state == "running"]

    @property
    def paused(self) -> list[TrialState]:
        """Trials that wait at a rung to be promoted."""
        return [trial for trial in self.trials if trial.state == "paused"]

    def ended(self) -> dict[str, int]:
        """Count the trials by how they ended."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            state = "interrupted" if trial.unfinished else trial.state
            counts[state] = counts.get(state, 0) + 1
        return counts

    def end_unfinished(self) -> None:
        """Record how trials end whose search ended before them."""
        for trial in self.running:
            self.end(trial.number, "interrupted", "the search ended before it")
        for trial in self.paused:
            at = f"the search ended while it waited at {kimg_text(trial.kimg)} kimg"
            self.end(trial.number, "interrupted", at)

    def close(self, state: str, reason: str, storage: bool = False) -> None:
        """Start nothing more, and end what runs at the next sign of it."""
        self.closing = self.closing or Closing(state, reason, storage)

    def outcome(self) -> Closing:
        """How the search ended: without any value it failed, whatever budget is spent."""
        closing = self.closing or Closing("finished", "")
        if closing.state != "finished" or self.ended().get("completed"):
            return closing
        if not closing.reason:
            return Closing("failed", NONE_COMPLETED)
        if all(trial.values is None for trial in self.searched):
            return Closing("failed", f"{closing.reason}, and no trial has a value")
        return closing

    def tick(self) -> None:
        """See whether a budget is spent: time passes also when nobody reports."""
        budget = self.spec.budget
        limits = {key: getattr(budget, key) for key in BUDGET_WORDS}
        limits = {key: limit for key, limit in limits.items() if limit is not None}
        used = self.used() if limits else {}
        for key, limit in limits.items():
            if used[key] >= limit:
                words = BUDGET_WORDS[key].removesuffix("s" if limit == 1 else "")
                self.close("finished", f"the budget of {limit:g} {words} is spent")

    def used(self) -> dict[str, float]:
        """Hours of wall time, GPU hours, kimg and dollars so far, over all sessions."""
        now = time.monotonic()
        kimg, worked = kimg_of(self.trials), worked_by(self.trials)
        for trial in self.trials:
            clock = self.clocks[trial.number]
            kimg += max(0.0, clock.images / 1000 - trial.kimg)
            if trial.state == "running" and clock.moved < now:
                seconds = (now - clock.moved) * trial.workers
                worked[trial.accelerator] = worked.get(trial.accelerator, 0.0) + seconds
        resources = self.spec.resources
        return {
            "hours": (self.earlier + now - self.began) / 3600,
            "gpu_hours": sum(worked.values()) * resources.gpu_share / 3600,
            "total_kimg": round(kimg, 6),
            "dollars": dollars(worked, resources.prices, resources.gpu_share) or 0.0,
        }

    def hung(self) -> list[int]:
        """Trials that have not advanced for too long."""
        limit, now = self.spec.recovery.hang_minutes * 60, time.monotonic()
        return [
            trial.number for trial in self.running if now - self.clocks[trial.number].moved > limit
        ]

    # What trials say

    def started(
        self,
        number: int,
        node: str,
        device: str = "",
        pid: int | None = None,
        kimg: float = 0.0,
        workers: int | None = None,
        accelerator: str = "",
        remark: str = "",
    ) -> None:
        """Record where a trial runs, and the kimg from which it goes on; pass on a remark."""
        self._remark(number, remark)
        attempt = self.trials[number].attempt + 1
        prices, limited = self.spec.resources.prices, self.spec.budget.dollars is not None
        if limited and self.spec.resources.gpu_share and accelerator not in prices:
            kind = accelerator or "a GPU whose kind Ray does not know"
            self.close("failed", f"budget.dollars: resources.prices has no price of {kind}")
        self._write(
            Start(
                trial=number,
                attempt=attempt,
                node=node,
                device=device,
                pid=pid,
                kimg=kimg,
                workers=workers,
                accelerator=accelerator,
            )
        )

    def _remark(self, number: int, text: str) -> None:
        """Tell what a trial says of its machine, once for all trials that say the same."""
        if text and text not in self.remarks:
            self.remarks.add(text)
            self.notify(Phase(f"trial {number}: {text}"))

    def alive(self, number: int, images: int) -> None:
        """Note how far a trial is; only a higher number counts as a sign of life."""
        clock = self.clocks[number]
        if images > clock.images:
            clock.images, clock.moved = images, time.monotonic()
            self.notify(Alive(number, images))

    def reported(self, number: int, event: Mapping[str, Any]) -> bool:
        """Record a milestone; return whether the trial must stop, its end recorded."""
        _, eager, why = (event.get("path") or "").partition("eager: ")
        self._remark(number, f"no CUDA graph: {why}" if eager else "")
        missing = [name for name in self.spec.objectives if name not in event["metrics"]]
        if missing and event["diverged"] is None:
            self.end(number, "failed", f"it reported no value of {missing[0]}")
            return True
        self._write(
            Report(
                trial=number,
                kimg=event["kimg"],
                seconds=event["seconds"],
                evaluation_seconds=event["evaluation_seconds"],
                images_per_second=event["images_per_second"],
                metrics=event["metrics"],
                losses=event["losses"],
                sd=event.get("sd", {}),
                protocols=self._protocols(event["protocols"]),
                diverged=event["diverged"],
                last=event["last"],
                variation=event.get("variation"),
                path=event.get("path"),
            )
        )
        for role, size in dict(event["checkpoints"]).items():
            self._write(Checkpoint(trial=number, kimg=event["kimg"], role=role, bytes=size))
        return self._conclude(self.trials[number])

    def measured(self, number: int, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Record what a checkpoint is worth, measured again at the end."""
        protocols = self._protocols({name: value["protocol"] for name, value in values.items()})
        kept = ("value", "sd", "spread", "each")
        measurements = {name: {key: value[key] for key in kept} for name, value in values.items()}
        self._write(Final(trial=number, values=measurements, protocols=protocols))

    def _protocols(self, protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Write the protocols that are new, and return the hash of each metric's."""
        hashes = {}
        for metric, protocol in protocols.items():
            hashes[metric] = digest = protocol_hash(dict(protocol))
            if digest not in self.protocols:
                self._write(MetricProtocol(hash=digest, record=dict(protocol)))
        return hashes

    def end(self, number: int, state: str, reason: str) -> None:
        """Record how a trial ended; a second end of the same trial is ignored."""
        trial = self.trials[number]
        if trial.state not in ("running", "waiting", "paused"):
            return
        self._write(End(trial=number, state=state, reason=reason))
        if self.failures >= MOST_FAILURES:
            self.close("failed", f"{self.failures} trials in a row failed, the last one: {reason}")
        self._release()
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
            attempt = trial.attempt + 1
            self._write(
                Retry(trial=number, reason=reason, attempt=attempt, wait=wait, kimg=trial.kimg)
            )
        else:
            self.end(number, "lost", reason)

    def moved(self, number: int, reason: str) -> None:
        """A trial has left its machine, saved: it goes on elsewhere, and that is no loss."""
        trial = self.trials[number]
        if self.closing:
            self.end(number, "interrupted", self.closing.reason)
        elif trial.state == "running":
            attempt, kimg = trial.attempt + 1, trial.kimg
            self._write(
                Retry(trial=number, reason=reason, attempt=attempt, wait=0.0, kimg=kimg, moved=True)
            )

    # Going on with a journal

    def replay(self, records: Iterable[Record]) -> None:
        """Apply what an earlier session wrote; what it left unfinished waits to go on.

        Raises:
            InputError: the parameters of a trial are not of this search space.
        """
        opened = last = None
        for line, record in enumerate(records, start=1):
            match record:
                case Open() | Reopen():
                    if opened is not None and last is not None:
                        self.earlier += last - opened
                    opened = record.time
                case Close():
                    self.earlier += record.seconds
                    opened = None
                case _:
                    self.apply_line(line, record)
            last = record.time
        if opened is not None and last is not None:
            self.earlier += last - opened
        self.reopen()

    def reopen(self) -> None:
        """Let what an earlier session left unfinished wait to go on."""
        for trial in self.trials:
            if trial.unfinished:
                trial.state = "paused" if trial.held else "waiting"
                self.clocks[trial.number].due = 0.0

    def recover(self) -> None:
        """Draw the conclusions that a crash came before, and delete what was to be deleted."""
        for trial in list(self.trials):
            if trial.unfinished and trial.kimg and not trial.held:
                self._conclude(trial)
            for role in ("last", "best"):
                if not trial.unfinished and role not in trial.files:
                    self.delete(trial.number, role)
        self._release()
        self._run_race()
        self._collect()

    def warm(self, lesson: Warm) -> None:
        """Record what an earlier study teaches: a finished trial, or a point to try first."""
        self._write(lesson)

    # Deciding

    def draw(self) -> Suggestion:
        """Draw the next configuration; nothing changes."""
        number = len(self.trials)
        explores = number >= len(self.study.start) and self.pointed < len(self.points)
        return self.sampler.draw(number, self.points[self.pointed] if explores else None)

    def _new(self) -> TrialState:
        number = len(self.trials)
        draw, by, kernel = self.draw()
        seed = derive(self.spec.seed, number)
        self._write(
            Suggest(
                trial=number, by=by, config=draw.config, params=draw.parameters, seed=seed,
                kernel=kernel,
            )
        )  # fmt: skip
        return self.trials[number]

    def promotion(self) -> tuple[int, Decision] | None:
        """Return which paused trial goes on now, and why; nothing changes."""
        paused = {trial.number: trial.kimg for trial in self.paused}
        if not paused:
            return None
        states = [trial.state for trial in self.searched]
        # In a search of few trials none might ever be among the best third of enough.
        last = len(states) >= self.spec.budget.trials and not {"running", "waiting"} & set(states)
        last = last and states.count("completed") < max(1, self.race.count)
        return self.scheduler.promotion(paused, last)

    def _promote(self, number: int, verdict: Decision) -> TrialState:
        trial = self.trials[number]
        assert trial.values is not None
        self._write(verdict.as_record(number, trial.kimg, trial.values))
        return trial

    def _release(self) -> None:
        """Stop the trials that wait at a rung once nobody can come who would promote them."""
        if self.closing or not self.paused or self.population is not None:
            return
        searched = self.searched
        goes_on = any(trial.state in ("running", "waiting") for trial in searched)
        more = goes_on or len(searched) < self.spec.budget.trials
        if more or self.promotion() is not None:
            return
        for trial in self.paused:
            assert trial.decision is not None
            self._write(
                End(
                    trial=trial.number,
                    state="stopped",
                    reason=why_stopped(trial.decision, self.minimise),
                )
            )

    def _turn(self, population: Population) -> None:
        for record in population.turn():
            if isinstance(record, End):
                self.end(record.trial, record.state, record.reason)
            else:
                self._write(record)

    def _replicate(self) -> Assignment | None:
        if any(trial.unfinished for trial in self.searched):
            return None
        best = self._best_completed()
        if not self.race.wants(best):
            return None
        if self.race.settled or not self.race.finalists:
            self._write(Finals(trials=best[: self.race.count]))
        turn = self.race.next()
        if turn is None:
            return None
        finalist, number = self.trials[turn.of], len(self.trials)
        seed = derive(self.spec.seed, "finalist", turn.seed)
        self._write(
            Suggest(
                trial=number, by="finalist", config=finalist.config, params=finalist.params,
                seed=seed, of=turn.of,
            )
        )  # fmt: skip
        return self._job(self.trials[number])

    def _job(self, trial: TrialState) -> Assignment:
        trial.state = "running"
        self.clocks[trial.number].moved = math.inf
        return Assignment(
            trial.number, trial.config, trial.seed, trial.kimg, trial.losses, trial.parent
        )

    def _conclude(self, trial: TrialState) -> bool:
        """Draw what follows from a trial's last report; return whether it ended."""
        if trial.diverged is not None:
            self.end(trial.number, "diverged", trial.diverged)
        elif trial.kimg >= self.spec.budget.kimg:
            self.end(trial.number, "completed", "")
        elif trial.of is None:
            self._judge(trial)
        self._target(trial)
        self.tick()
        self._release()
        return trial.held or not trial.unfinished

    def _judge(self, trial: TrialState) -> None:
        reached = rung_value(trial)
        if reached is None:
            return
        if trial.decision is None or trial.decision.kimg != trial.kimg:
            verdict = self.scheduler.judge(trial.kimg, reached)
            if verdict is None:
                return
            self._write(verdict.as_record(trial.number, trial.kimg, reached.values))
        if trial.decision is not None and trial.decision.decision == "stop":
            self.end(trial.number, "stopped", why_stopped(trial.decision, self.minimise))

    def _target(self, trial: TrialState) -> None:
        target = self.spec.budget.target
        if target is None or trial.values is None or trial.of is not None:
            return
        value = trial.values[0]
        if value <= target if self.minimise else value >= target:
            reason = f"trial {trial.number} reached {value:.5g} (target {target:g})"
            self.close("finished", reason)

    def _run_race(self) -> None:
        replicates = [(t.of, t.values, t.state) for t in self.trials if t.of is not None]
        outcome = self.race.round(replicates)
        if outcome is not None:
            self._write(outcome)

    def _collect(self) -> None:
        # Who has no checkpoint any more is worse than those that are kept, and stays so.
        holders = [run for run in self.trials.with_files.values() if run.of is None]
        done = [run for run in holders if run.state == "completed"]
        rest = [run for run in holders if run.state in ("stopped", "diverged")]
        order = [*self._in_order(done), *self._in_order(rest)]
        spec = self.spec.checkpoints
        model = self._best_of(self.trials.with_files.values())
        for number, role in collectable(
            self.trials.with_files, order, spec.keep, spec.gigabytes, model
        ):
            size = self.trials[number].files[role]
            self._write(Collect(trial=number, role=role, bytes=size))
            self.delete(number, role)

    def best_run(self) -> int | None:
        """The trial or replicate whose checkpoint is the one to use; see results.best_model."""
        return self._best_of(self.trials)

    def _best_of(self, runs: Iterable[TrialState]) -> int | None:
        alone = len(self.directions) == 1  # or only trials of the search count
        done = [run for run in runs if run.state == "completed" and (alone or run.of is None)]
        return next(iter(self._in_order(done)), None)

    def _best_completed(self) -> list[int]:
        """Completed trials of the search that have values, the best first."""
        return self._in_order([trial for trial in self.searched if trial.state == "completed"])

    def _in_order(self, runs: Sequence[TrialState]) -> list[int]:
        return in_order(self.spec, self.image, runs)

    # Remembering

    def _write(self, record: Record) -> None:
        written = self.journal.append(record)
        self.apply(written)
        self.notify(written)

    def apply_line(self, line: int, record: Record) -> None:
        """Apply a record that was read from a line of the journal.

        Raises:
            InputError: the parameters of a trial are not of this search space; with the line.
        """
        try:
            self.apply(record)
        except InputError as error:
            raise InputError(f"journal.jsonl:{line}: {record.kind}: {error}") from error

    def apply(self, record: Record) -> None:
        """Change the state as one record says: the only way in which it changes."""
        match record:
            case Warm(values=None):
                self.points.append(record.params)
            case Warm():
                self.sampler.learn(record.params, record.values or [])
            case MetricProtocol():
                self.protocols.add(record.hash)
            case Finals():
                self.race.start(record.trials)
            case Round():
                self.race.settle(record)
            case Suggest():
                self._suggested(record)
            case Report():
                self._reported(record)
            case Decide():
                reached = rung_value(self.trials.apply(record))
                assert reached is not None
                if record.decision != "promote":  # it was recorded as it came
                    self.scheduler.record(record.kimg, reached)
            case Start():
                self.trials.apply(record)
                self.clocks[record.trial].moved = time.monotonic()
            case Retry():
                self.trials.apply(record)
                self.clocks[record.trial].due = time.monotonic() + record.wait
            case End():
                self._ended(self.trials.apply(record))
            case Checkpoint() | Collect():
                self.trials.apply(record)
            case Final():
                self.final[record.trial] = record
            case _:
                raise AssertionError(f"{record.kind} says nothing of the trials")

    def _suggested(self, record: Suggest) -> None:
        self.trials.apply(record)
        self.clocks[record.trial] = Clock()
        self.pointed += record.by == "warm"
        if record.parent is not None:
            return  # of a population: nobody asks the sampler again
        if record.of is None:
            self.sampler.add(record.trial, record.params, record.by, record.kernel)
        else:
            self.race.issued(record.of)

    def _reported(self, record: Report) -> None:
        trial, clock = self.trials.apply(record), self.clocks[record.trial]
        clock.moved, clock.images = time.monotonic(), max(clock.images, round(record.kimg * 1000))
        values = record.values(self.spec.objectives)
        if values is not None and trial.of is None and trial.parent is None:
            self.sampler.report(trial.number, record.kimg, values, trial.values, trial.sd)

    def _ended(self, trial: TrialState) -> None:
        if trial.state != "interrupted":
            self.failures = self.failures + 1 if trial.state == "failed" else 0
            if trial.of is None and trial.parent is None:
                self.sampler.finish(trial.number, trial.state, trial.values)
