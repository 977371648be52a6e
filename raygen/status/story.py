"""Why a trial went as it did."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raygen.document import flatten
from raygen.errors import InputError
from raygen.folders import StudyFolder
from raygen.journal import read_study
from raygen.results import Study, better, fold, ranked
from raygen.status.moment import Record, until
from raygen.status.text import counted, elapsed, measured, short

MOST = 30  # trials of a rung that are named, the best first


def why(path: Path, trial: int, at: str | None = None) -> str:
    """The story of one trial, a line for each thing that happened to it, with the elapsed time.

    Each line is told from the records up to it, and so from nothing that came later.

    Raises:
        InputError: the folder holds no readable study or no such trial, or `at` is not understood.
    """
    kept, _ = until(read_study(path, strict=True), at)
    numbers = {record["trial"] for record in kept if record["kind"] == "suggest"}
    if trial not in numbers:
        there = f"trials 0 to {max(numbers)}" if numbers else "no trial yet"
        raise InputError(f"--why {trial}: no such trial; there are {there}")
    story = Story(StudyFolder(path), trial, kept)
    for place in range(len(kept)):
        story.hear(place)
    return "\n".join(story.lines)


class Story:
    """Hears a journal record by record, and tells what concerns one trial."""

    def __init__(self, folder: StudyFolder, trial: int, records: Sequence[Record]) -> None:
        self.folder, self.trial, self.records = folder, trial, records
        self.lines: list[str] = []
        self.objectives: list[dict[str, str]] = []
        self.scheduler: str | None = None
        self.best: dict[int, float] = {}  # of the first objective, by trial
        self.protocols: dict[int, str | None] = {}  # how that was measured
        self.rungs: dict[float, dict[int, Any]] = {}  # kimg -> trial -> the value it was judged by
        self.repeats: dict[int, int] = {}  # the trial that a replicate repeats
        self.state = ""  # of this trial; "" before it was suggested

    def hear(self, place: int) -> None:
        """Take in the record at a place, the next one, and tell of it if it concerns the trial."""
        record = self.records[place]
        kind = record["kind"]
        if kind in ("open", "reopen"):
            study = record["study"]
            self.objectives = study.get("objectives") or [study["objective"]]
            self.scheduler = (study.get("scheduler") or {}).get("name")
        if kind == "suggest" and record.get("of") is not None:
            self.repeats[record["trial"]] = record["of"]
        mine = kind != "warm" and record.get("trial") == self.trial
        if kind == "decide":
            self.rungs.setdefault(record["kimg"], {})[record["trial"]] = record["value"]
        if kind == "report":
            self._forget(record)
        told = self._mine(record, place) if mine else self._others(record)
        if kind == "report":
            self._score(record)
        when = elapsed(record["time"] - self.records[0]["time"])
        self.lines += [f"{when if line is told[0] else '':>9}  {line}" for line in told]

    def _mine(self, record: Record, place: int) -> list[str]:
        match record["kind"]:
            case "suggest":
                self.state = "running"
                return self._suggested(record, self.records[:place])
            case "start":
                self.state = "running"
                return [_start_line(record)]
            case "report":
                return [self._report_line(record)]
            case "decide":
                return self._decided(record)
            case "checkpoint":
                before = self.records[place - 1]
                if before["kind"] == "checkpoint" and before["trial"] == self.trial:
                    self.lines[-1] += f" and {record['role']}"
                    return []
                return [f"checkpoint kept: {record['role']}"]
            case "collect":
                size = f"{record['bytes'] / 1e6:.1f} MB"
                return [f"checkpoint deleted to save space: {record['role']} ({size})"]
            case "final":
                return [f"measured in full: {measured(record['values'])}"]
            case "retry":
                return [
                    f"lost: {record['reason']}; attempt {record['attempt']} is to go on from "
                    f"{record['kimg']:g} kimg, {record['wait']:g} s later"
                ]
            case "end":
                self.state = record["state"]
                reason = f": {record['reason']}" if record["reason"] else ""
                return [f"ended: {record['state'].replace('_', ' ')}{reason}"]
        return []

    def _others(self, record: Record) -> list[str]:
        """What happened to the study or to a replicate of this trial."""
        number = record.get("trial", -1)
        match record["kind"]:
            case "reopen" if self.state in ("running", "interrupted"):
                return ["the study was resumed"]
            case "suggest" if self.repeats.get(number) == self.trial:
                return [f"trial {number} repeats it with seed {record['seed']}"]
            case "end" if self.repeats.get(number) == self.trial:
                value = f" with {self.best[number]:.5g}" if number in self.best else ""
                return [f"trial {number}, which repeats it, ended: {record['state']}{value}"]
            case "finals" if self.trial in record["trials"]:
                place = record["trials"].index(self.trial) + 1
                return [f"a finalist: place {place} of {len(record['trials'])} in the search"]
            case "race" if str(self.trial) in map(str, record["means"]):
                return [self._race_line(record)]
        return []

    def _suggested(self, record: Record, before: Sequence[Record]) -> list[str]:
        study = fold(self.folder, before)
        settings = ", ".join(f"{k} = {short(v)}" for k, v in flatten(record["config"]).items())
        head = f"{_origin(record, before, study)}, seed {record['seed']}"
        if record.get("of") is not None:
            return [head, settings]
        return [head, _known(study), settings]

    def _report_line(self, record: Record) -> str:
        errors = record.get("sd") or {}
        parts = []
        for name in (each["metric"] for each in self.objectives):
            value = record["metrics"].get(name)
            error = f" ± {errors[name]:.2g}" if errors.get(name) is not None else ""
            parts.append(f"{name} {'not finite' if value is None else f'{value:.5g}'}{error}")
        value = record["metrics"].get(self.objectives[0]["metric"])
        known = self.best.get(self.trial, math.nan)
        news = value is not None and better(self._minimise, value, known)
        return f"{record['kimg']:g} kimg: {', '.join(parts)}{', its best so far' if news else ''}"

    def _decided(self, record: Record) -> list[str]:
        value, kimg = record["value"], record["kimg"]
        word = "stopped" if record["decision"] == "stop" else "goes on"
        head = f"rung at {kimg:g} kimg: {word} with {short(value)}: "
        reached = self.rungs[kimg]
        if "rank" in record:  # of several objectives
            order = sorted(reached)
            head += f"place {record['rank']} of {record['peers']}, of which {record['kept']} go on"
        elif len(self.objectives) > 1:
            order = sorted(reached)
            head += "too few to cut any"
        else:
            sign = 1 if self._minimise else -1
            order = sorted(reached, key=lambda t: (sign * reached[t], t))
            head += f"place {order.index(self.trial) + 1} of {record['peers']}, "
            head += _cutoff(record, self._minimise, self.scheduler)
        there = [f"trial {trial} {short(reached[trial])}" for trial in order]
        more = [f"and {len(there) - MOST} more"] if len(there) > MOST else []
        return [head, f"in this rung by then: {', '.join([*there[:MOST], *more])}"]

    def _race_line(self, record: Record) -> str:
        means, best = ({int(k): v for k, v in record[name].items()} for name in ("means", "best"))
        text = f"race with {record['seeds']} other seeds: mean {short(means[self.trial])}"
        if best.get(self.trial) is not None:
            text += f", the best with probability {best[self.trial]:.2f}"
        if self.trial in record["dropped"]:
            text += ", out of the race"
        return text + (", the race is over" if record["settled"] else "")

    def _forget(self, record: Record) -> None:
        """Values from other samples than a trial's next one do not compare with it."""
        trial, protocol = record["trial"], record["protocols"].get(self.objectives[0]["metric"])
        if self.protocols.setdefault(trial, protocol) != protocol:
            self.best.pop(trial, None)
            self.protocols[trial] = protocol

    def _score(self, record: Record) -> None:
        value = record["metrics"].get(self.objectives[0]["metric"])
        trial = record["trial"]
        if value is not None and better(self._minimise, value, self.best.get(trial, math.nan)):
            self.best[trial] = value

    @property
    def _minimise(self) -> bool:
        return self.objectives[0]["direction"] == "minimize"


def _origin(record: Record, before: Sequence[Record], study: Study) -> str:
    """Who suggested a trial."""
    by, sampler = record.get("by"), study.info.get("sampler") or {}
    match by:
        case "finalist":
            return f"a finalist again: repeats trial {record['of']}"
        case "start":
            earlier = sum(r["kind"] == "suggest" and r.get("by") == "start" for r in before)
            return f"suggested: starting point {earlier + 1} of the search space"
        case "warm":
            points = (r for r in before if r["kind"] == "warm" and r["values"] is None)
            drawn = record["params"].items()
            same = [r for r in points if r["params"].items() <= drawn]
            whose = f": trial {same[0]['source']} of {same[0]['study']}" if same else ""
            return f"suggested as the best of an earlier study{whose}"
        case "startup":
            few = f" until it knows {n} trials" if (n := sampler.get("startup_trials")) else ""
            return f"suggested at random, as {sampler.get('name', 'the sampler')} does{few}"
        case None:
            return "suggested"
    return f"suggested by {by}"


def _known(study: Study) -> str:
    """What the sampler had been told when a study stood like this."""
    ended = study.trials[study.trials["state"] != "running"]
    text = f"known by then: {len(ended)} ended trial{'s' * (len(ended) != 1)}"
    if len(ended):
        text += f" ({counted(ended['state'].value_counts().to_dict())})"
    if taught := sum(each["told"] for each in study.info.get("warm", {}).values()):
        text += f" and {taught} of earlier studies"
    order = ranked(study._replace(trials=ended))
    if len(order):
        first = order.iloc[0]
        text += f", the best trial {first['trial']} with {short(first['value'])}"
    return text


def _start_line(record: Record) -> str:
    device = f" ({record['device']})" if record.get("device") else ""
    where, attempt = f"{record['node']}{device}", record.get("attempt", 1)
    if record.get("kimg"):
        return f"attempt {attempt}: goes on from {record['kimg']:g} kimg on {where}"
    return f"starts on {where}" if attempt == 1 else f"attempt {attempt}: begins anew on {where}"


def _cutoff(record: Record, minimise: bool, scheduler: str | None) -> str:
    """What a value had to reach, and whether it did."""
    cutoff, band = record["cutoff"], record.get("band")
    if cutoff is None:
        return "too few to cut any"
    median = " (the median of what the others averaged up to there)" * (scheduler == "median")
    text = f"cut-off {short(cutoff)}{median}"
    if band:
        text += f", noise band {short(band)}"
        if record["decision"] == "continue" and better(minimise, cutoff, record["value"]):
            text += ": worse, but within the band"
    return text
