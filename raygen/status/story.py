"""What happened to a trial, and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raygen.best import better
from raygen.document import flatten
from raygen.errors import InputError
from raygen.journal import Record, read_study
from raygen.journal.records import (
    Checkpoint,
    Collect,
    Decide,
    End,
    Final,
    Finals,
    OfTrial,
    Open,
    Reopen,
    Report,
    Retry,
    Round,
    Start,
    Suggest,
    Warm,
)
from raygen.journal.trials import Trials
from raygen.results import Results, fold, ranked
from raygen.status.moment import until
from raygen.status.text import five_digits, measured, states_text
from raygen.study_folder import StudyFolder
from raygen.words import counted, duration, kimg_text

DECISIONS = {
    "stop": "stopped", "continue": "continues", "pause": "paused", "promote": "promoted",
}  # fmt: skip
MOST = 30  # trials of a rung that are named, the best first


def why_text(path: Path, trial: int, at: str | None = None) -> str:
    """The story of one trial: a line per event, with the elapsed time.

    Each line uses only the records up to that event, and nothing that came later.

    Raises:
        InputError: the folder holds no readable study or no such trial, or `at` is not understood.
    """
    kept, _ = until(read_study(path, strict=True), at)
    numbers = {record.trial for record in kept if isinstance(record, Suggest)}
    if trial not in numbers:
        numbered = f"trials 0 to {max(numbers)}" if numbers else "no trial yet"
        raise InputError(f"--why {trial}: no such trial; there are {numbered}")
    story = Story(StudyFolder(path), trial, kept)
    for place in range(len(kept)):
        story.hear(place)
    return "\n".join(story.lines)


class Story:
    """Reads a journal record by record, and reports what concerns one trial."""

    def __init__(self, folder: StudyFolder, trial: int, records: Sequence[Record]) -> None:
        self.folder, self.trial, self.records = folder, trial, records
        self.lines: list[str] = []
        self.objectives: list[str] = []
        self.scheduler: str | None = None
        self.trials = Trials([], minimise=True)  # until the study is opened
        self.rungs: dict[float, dict[int, Any]] = {}  # kimg -> trial -> the value it was judged by

    def hear(self, place: int) -> None:
        """Take in the record at a place, the next one, and tell of it if it concerns the trial."""
        record = self.records[place]
        match record:
            case Open() | Reopen():
                study = record.study
                self.objectives = [objective["metric"] for objective in study["objectives"]]
                self.scheduler = (study.get("scheduler") or {}).get("name")
                self.trials.objectives = self.objectives
                self.trials.minimise = study["objectives"][0]["direction"] == "minimize"
            case Decide():
                self.rungs.setdefault(record.kimg, {})[record.trial] = record.value
            case _:
                pass
        if isinstance(record, OfTrial):
            self.trials.apply(record)
        if isinstance(record, OfTrial) and record.trial == self.trial:
            lines = self._mine(record, place)
        else:
            lines = self._others(record)
        when = duration((record.time or 0.0) - (self.records[0].time or 0.0))
        self.lines += [f"{when if line is lines[0] else '':>11}  {line}" for line in lines]

    def _mine(self, record: OfTrial, place: int) -> list[str]:
        match record:
            case Suggest():
                return self._suggested(record, self.records[:place])
            case Start():
                return [_start_line(record)]
            case Report():
                return [self._report_line(record)]
            case Decide():
                return self._decided(record)
            case Checkpoint():
                before = self.records[place - 1]
                if isinstance(before, Checkpoint) and before.trial == self.trial:
                    self.lines[-1] += f" and {record.role}"
                    return []
                return [f"checkpoint kept: {record.role}"]
            case Collect():
                size = f"{record.bytes / 1e6:.1f} MB"
                return [f"checkpoint deleted to save space: {record.role} ({size})"]
            case Final():
                return [f"measured in full: {measured(record.values)}"]
            case Retry(moved=True):
                return [f"saved, to go on elsewhere: {record.reason}"]
            case Retry():
                return [
                    f"lost: {record.reason}; attempt {record.attempt} will resume from "
                    f"{kimg_text(record.kimg)} kimg in {duration(record.wait)}"
                ]
            case End():
                reason = f": {record.reason}" if record.reason else ""
                return [f"ended: {record.state.replace('_', ' ')}{reason}"]

    def _others(self, record: Record) -> list[str]:
        """What happened to the study or to a replicate of this trial."""
        match record:
            case Reopen() if self.trial in self.trials.by_number:
                unfinished = self.trials[self.trial].unfinished
                return ["the study was resumed"] if unfinished else []
            case Suggest() if record.of == self.trial:
                return [f"retrained as trial {record.trial} with seed {record.seed}"]
            case End() if self.trials[record.trial].of == self.trial:
                values = self.trials[record.trial].values
                value = f" with {values[0]:.5g}" if values else ""
                return [f"its replicate, trial {record.trial}, ended: {record.state}{value}"]
            case Finals() if self.trial in record.trials:
                place = record.trials.index(self.trial) + 1
                return [f"a finalist: place {place} of {len(record.trials)} in the search"]
            case Round() if self.trial in record.means:
                return [self._race_line(record)]
            case _:
                return []

    def _suggested(self, record: Suggest, before: Sequence[Record]) -> list[str]:
        study = fold(self.folder, before)
        settings = ", ".join(f"{k} = {five_digits(v)}" for k, v in flatten(record.config).items())
        head = f"{_origin(record, before, study)}, seed {record.seed}"
        if record.of is not None:
            return [head, settings]
        return [head, _known(study), settings]

    def _report_line(self, record: Report) -> str:
        parts = []
        for metric in self.objectives:
            value, error = record.metrics.get(metric), record.sd.get(metric)
            plus_minus = f" ± {error:.2g}" if error is not None else ""
            number = "not finite" if value is None else f"{value:.5g}"
            parts.append(f"{metric} {number}{plus_minus}")
        leads = self.trials[self.trial].best_kimg == record.kimg
        best = ", its best so far" if leads else ""
        # Eager steps are the rule on CPUs, and no news.
        path = f"; steps: {record.path}" if record.path not in (None, "eager") else ""
        return f"{kimg_text(record.kimg)} kimg: {', '.join(parts)}{best}{path}"

    def _decided(self, record: Decide) -> list[str]:
        word = DECISIONS[record.decision]
        head = f"rung at {kimg_text(record.kimg)} kimg: {word} with {five_digits(record.value)}: "
        reached = self.rungs[record.kimg]
        if self.scheduler == "pbt":
            waits = "waits for all others" if record.decision == "pause" else "goes on"
            at = f"interval at {kimg_text(record.kimg)} kimg"
            return [f"{at}: {waits} with {five_digits(record.value)}, its best so far"]
        if record.rank is not None:  # of several objectives
            order = sorted(reached)
            head += f"place {record.rank} of {record.peers}, {record.kept} of which continue"
        elif len(self.objectives) > 1:
            order = sorted(reached)
            head += "too few to compare"
        else:
            sign = 1 if self.trials.minimise else -1
            order = sorted(reached, key=lambda t: (sign * reached[t], t))
            head += f"place {order.index(self.trial) + 1} of {record.peers}, "
            head += _cutoff(record, self.trials.minimise, self.scheduler)
        peers = [f"trial {trial} {five_digits(reached[trial])}" for trial in order]
        more = [f"and {len(peers) - MOST} more"] if len(peers) > MOST else []
        return [head, f"at this rung so far: {', '.join([*peers[:MOST], *more])}"]

    def _race_line(self, record: Round) -> str:
        mean = five_digits(record.means[self.trial])
        text = f"race with {counted(record.seeds, 'new seed')}: mean {mean}"
        best = record.best.get(self.trial)
        if best is not None and len(record.means) > 1:
            text += f", the best with probability {best:.2f}"
        if self.trial in record.dropped:
            text += ", out of the race"
        return text + (", the race is over" if record.settled else "")


def _origin(record: Suggest, before: Sequence[Record], study: Results) -> str:
    """Who suggested a trial."""
    sampler = study.info["sampler"]
    match record.by:
        case "finalist":
            return f"a replicate of finalist {record.of}"
        case "start":
            earlier = sum(isinstance(r, Suggest) and r.by == "start" for r in before)
            return f"suggested: starting point {earlier + 1} of the search space"
        case "warm":
            points = (r for r in before if isinstance(r, Warm) and r.values is None)
            drawn = record.params.items()
            same = [point for point in points if point.params.items() <= drawn]
            whose = f": trial {same[0].source} of {same[0].study}" if same else ""
            return f"suggested as the best of an earlier study{whose}"
        case "design":
            return "suggested as a point of the design: quasi-random, and not by the model"
        case "pbt":
            at = kimg_text(record.from_kimg)
            text = f"begins as a copy of trial {record.parent} at {at} kimg, settings changed"
            whom = f", in the place of trial {record.replaces}"
            return text + (whom if record.replaces is not None else "")
        case "startup":
            name = sampler.get("name", "the sampler")
            few = sampler.get("startup_trials")
            after = f" ({name} starts after {counted(few, 'trial')})" if few else ""
            return f"random suggestion{after}"
        case None:
            return "suggested"
    return f"suggested by {record.by}"


def _known(study: Results) -> str:
    """What the sampler knew at this point."""
    ended = study.trials[study.trials["state"] != "running"]
    text = f"known so far: {counted(len(ended), 'ended trial')}"
    if len(ended):
        text += f" ({states_text(ended['state'].value_counts().to_dict())})"
    if taught := sum(source["told"] for source in study.info.get("warm", {}).values()):
        text += f" and {taught} of earlier studies"
    order = ranked(study._replace(trials=ended))
    if len(order):
        first = order.iloc[0]
        text += f", the best trial {first['trial']} with {five_digits(first['value'])}"
    return text


def _start_line(record: Start) -> str:
    where = f"{record.node} ({record.device})" if record.device else record.node
    if record.kimg:
        return f"attempt {record.attempt}: resumes from {kimg_text(record.kimg)} kimg on {where}"
    if record.attempt == 1:
        return f"starts on {where}"
    return f"attempt {record.attempt}: restarts on {where}"


def _cutoff(record: Decide, minimise: bool, scheduler: str | None) -> str:
    """What a value had to reach, and whether it did; of one objective."""
    if record.cutoff is None or isinstance(record.value, list):
        return "too few to compare"
    text = f"cut-off {five_digits(record.cutoff)}"
    if scheduler == "median":
        text += " (the median of the others' averages up to there)"
    if record.band:
        text += f", noise band {five_digits(record.band)}"
        if record.decision == "continue" and better(minimise, record.cutoff, record.value):
            text += ": worse, but within the band"
    return text
