"""What decides and what is remembered: Ray asks, the journal hears of it first."""

import hashlib
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from raygen.config import Study
from raygen.metrics import METRICS, protocol_hash
from raygen.tune.journal import Journal
from raygen.tune.sampler import Sampler
from raygen.tune.scheduler import Rungs


class Running(NamedTuple):
    """What the controller knows of a trial that has not ended."""

    number: int
    began: float
    best: float | None = None


class Controller:
    """The state of one search: every method writes the journal before anything follows from it."""

    def __init__(
        self,
        study: Study,
        journal: Journal,
        sampler: Sampler,
        notify: Callable[[dict[str, Any]], None],
    ) -> None:
        spec = study.spec
        self.study, self.journal, self.sampler, self.notify = study, journal, sampler, notify
        self.minimise = METRICS[spec.objective].direction == "minimize"
        self.rungs = Rungs(spec.rungs, spec.scheduler.reduction_factor, self.minimise)
        self.halving = spec.scheduler.name == "asha"
        self.running: dict[int, Running] = {}
        self.suggested = 0
        self.ended: dict[str, int] = {}
        self.protocols: set[str] = set()

    def suggest(self) -> dict[str, Any] | None:
        """Return the next trial, or None when the budget of trials is spent."""
        if self.suggested >= self.study.spec.budget.trials:
            return None
        number = self.suggested
        draw = self.sampler.suggest(number)
        seed = trial_seed(self.study.spec.seed, number)
        self._write("suggest", trial=number, config=draw.config, params=draw.parameters, seed=seed)
        self.suggested += 1
        self.running[number] = Running(number, time.monotonic())
        return {"number": number, "config": draw.config, "seed": seed}

    def started(self, number: int, node: str, device: str) -> None:
        """Record where a trial runs."""
        self._write("start", trial=number, node=node, device=device)

    def reported(self, number: int, event: dict[str, Any]) -> bool:
        """Record a milestone; return whether the trial must stop, its end recorded."""
        protocols = {}
        for name, record in event["protocols"].items():
            protocols[name] = digest = protocol_hash(record)
            if digest not in self.protocols:
                self.protocols.add(digest)
                self._write("protocol", hash=digest, record=record)
        kept = ("kimg", "seconds", "evaluation_seconds", "images_per_second", "metrics", "losses")
        facts = {key: event[key] for key in kept}
        self._write("report", trial=number, protocols=protocols, **facts)
        value = event["metrics"][self.study.spec.objective]
        self.sampler.report(number, event["kimg"], value)
        for role in event["checkpoints"]:
            self._write("checkpoint", trial=number, kimg=event["kimg"], role=role)
        if event["diverged"] is not None:
            self.end(number, "diverged", event["diverged"])
            return True
        best = self._better(self.running[number].best, value)
        self.running[number] = self.running[number]._replace(best=best)
        if event["last"]:
            self.end(number, "completed", "")
            return True
        return self._judge(number, event["kimg"], best)

    def end(self, number: int, state: str, reason: str) -> None:
        """Record how a trial ended; a second end of the same trial is ignored."""
        trial = self.running.pop(number, None)
        if trial is None:
            return
        self._write("end", trial=number, state=state, reason=reason)
        self.ended[state] = self.ended.get(state, 0) + 1
        self.sampler.finish(number, state, trial.best)

    def _judge(self, number: int, kimg: float, best: float | None) -> bool:
        if not self.halving or best is None:
            return False
        decision = self.rungs.report(kimg, best)
        if decision is None:
            return False
        word = "stop" if decision.stop else "continue"
        facts = {"value": best, "cutoff": decision.cutoff, "peers": decision.peers}
        self._write("decide", trial=number, kimg=kimg, decision=word, **facts)
        if decision.stop:
            relation = "above" if self.minimise else "below"
            reason = f"{best:.4g} at {kimg:g} kimg is {relation} the cut-off {decision.cutoff:.4g}"
            self.end(number, "stopped", reason)
        return decision.stop

    def _better(self, best: float | None, value: float) -> float | None:
        if not math.isfinite(value):
            return best
        if best is None:
            return value
        return min(best, value) if self.minimise else max(best, value)

    def _write(self, kind: str, **fields: Any) -> None:
        self.notify(self.journal.append(kind, **fields))


def trial_seed(study_seed: int, number: int) -> int:
    """Derive a trial's seed: the same for the same study seed and number, whoever runs it."""
    digest = hashlib.sha256(f"{study_seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
