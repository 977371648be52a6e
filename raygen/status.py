"""How a study stands, and why a trial went as it did: from the journal, while it runs or after."""

import fcntl
import math
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from raygen.document import flatten
from raygen.errors import InputError
from raygen.folders import StudyFolder
from raygen.results import (
    Study,
    better,
    finalists,
    fold,
    grace_advice,
    pareto,
    ranked,
    read_study,
)

Record = dict[str, Any]
ELAPSED = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
SILENT = 1800.0  # seconds without a record, after which a search elsewhere is taken for dead
MOST = 30  # trials of a rung that are named, the best first
FORMS = (
    'a time ("2026-11-22T20:10:05"), the time since the study was opened ("90s", "12m", "1h30m") '
    'or the line of a record ("#120")'
)


def status(path: Path, at: str | None = None) -> dict[str, Any]:
    """How a study stands now or stood at a time, as plain JSON values; None where unknown.

    `state` is finished, interrupted, failed (`reason` may say why), running, or crashed: never
    closed, and no process on this machine has it open. `running` lists the trials that have not
    ended, `silent` being the seconds since a trial's last record; `front` is that of several
    objectives. `budget` has what is limited, with what was `used` of it (of the target: the best
    value). Times are unix seconds, durations seconds.

    Raises:
        InputError: the folder holds no readable study, or `at` is not understood.
    """
    records = read_study(path)
    kept, moment = _until(records, at)
    study = fold(StudyFolder(path), kept)
    info = study.info
    state = _state(study, records[len(kept) :])
    running = _running(study, kept, moment)
    live = state == "running"
    seconds = info["seconds"] + live * max(0.0, moment - kept[-1]["time"])
    training = live * sum(each["silent"] for each in running)
    advice = grace_advice(study)
    goes_on = state in ("interrupted", "failed", "crashed")
    return {
        "schema": 1,
        "study": info.get("name", path.name),
        "folder": str(path),
        "state": state,
        "reason": info["reason"],
        "at": moment,
        "started": info.get("started"),
        "seconds": seconds,
        "sessions": len(info["sessions"]),
        "family": info.get("family", ""),
        "objective": info["objective"],
        "trials": study.trials["state"].value_counts().to_dict(),
        "running": running,
        "best": _best(study),
        "front": pareto(study) if len(study.objectives) > 1 else None,
        "budget": _budget(study, seconds, training),
        "retries": {"used": info["retries_used"], "in_a_row": info.get("retries")},
        "finalists": [
            {key: None if value != value else value for key, value in row.items()}
            for row in finalists(study).to_dict("records")
        ],
        "advice": advice and {"text": advice.text, "action": advice.action},
        "command": _command(study) if goes_on else None,
    }


def status_text(found: Mapping[str, Any]) -> str:
    """What `status` returned, for a terminal."""
    metric = found["objective"]["metric"]
    session = f", session {found['sessions']}" if found["sessions"] > 1 else ""
    reason = f": {found['reason']}" if found["reason"] else ""
    rows = [(found["study"], [f"{found['state']}, {elapsed(found['seconds'])}{session}{reason}"])]
    rows.append(("trials", [_counted(found["trials"]) or "none yet"]))
    word = "running" if found["state"] == "running" else "unfinished"
    rows.append((word, [_running_line(each) for each in found["running"]]))
    if found["best"]:
        rows.append(("best", [_best_line(metric, found["best"])]))
    if found["front"] is not None:
        rows.append(("front", [", ".join(f"trial {trial}" for trial in found["front"]) or "none"]))
    limits = [
        f"{n} {_short(b['used'])} of {_short(b['limit'])}" for n, b in found["budget"].items()
    ]
    rows.append(("budget", [", ".join(limits)] if limits else []))
    retries = found["retries"]
    if retries["used"]:
        most = f", of one trial at most {retries['in_a_row']} in a row"
        rows.append(("retries", [f"{retries['used']}{most * bool(retries['in_a_row'])}"]))
    rows.append(("finalists", [_finalist_line(each) for each in found["finalists"]]))
    if found["advice"]:
        rows.append(("early values", [line for line in found["advice"].values() if line]))
    if found["command"]:
        rows.append(("go on with", [found["command"]]))
    width = max(12, *(len(name) for name, lines in rows if lines)) + 2
    return "\n".join(
        f"{name if first else '':<{width}}{line}"
        for name, lines in rows
        for first, line in ((place == 0, line) for place, line in enumerate(lines))
    )


def why(path: Path, trial: int, at: str | None = None) -> str:
    """The story of one trial, a line for each thing that happened to it, with the elapsed time.

    Each line is told from the records up to it, and so from nothing that came later.

    Raises:
        InputError: the folder holds no readable study or no such trial, or `at` is not understood.
    """
    kept, _ = _until(read_study(path), at)
    numbers = {record["trial"] for record in kept if record["kind"] == "suggest"}
    if trial not in numbers:
        there = f"trials 0 to {max(numbers)}" if numbers else "no trial yet"
        raise InputError(f"--why {trial}: no such trial; there are {there}")
    story = _Story(StudyFolder(path), trial, kept)
    for place in range(len(kept)):
        story.hear(place)
    return "\n".join(story.lines)


def elapsed(seconds: float) -> str:
    """A duration as `--at` reads it: 42s, 3m05s, 1h02m05s, 3d04h."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m{whole % 60:02d}s"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


class _Story:
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
                return [f"measured in full: {_full(record)}"]
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
        settings = ", ".join(f"{k} = {_short(v)}" for k, v in flatten(record["config"]).items())
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
        head = f"rung at {kimg:g} kimg: {word} with {_short(value)}: "
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
        there = [f"trial {trial} {_short(reached[trial])}" for trial in order]
        more = [f"and {len(there) - MOST} more"] if len(there) > MOST else []
        return [head, f"in this rung by then: {', '.join([*there[:MOST], *more])}"]

    def _race_line(self, record: Record) -> str:
        means, best = ({int(k): v for k, v in record[name].items()} for name in ("means", "best"))
        text = f"race with {record['seeds']} other seeds: mean {_short(means[self.trial])}"
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


def _until(records: list[Record], at: str | None) -> tuple[list[Record], float]:
    """The records up to a time, and that time in unix seconds; now without one."""
    if at is None:
        return records, time.time()
    opened = records[0]["time"]
    if at.startswith("#"):
        number = int(at[1:]) if at[1:].isdecimal() else 0
        if not 1 <= number <= len(records):
            raise InputError(f"--at {at}: the records of this study are #1 to #{len(records)}")
        return records[:number], records[number - 1]["time"]
    since = ELAPSED.fullmatch(at)
    if since:
        sizes = zip((86400, 3600, 60, 1), since.groups(default="0"), strict=True)
        moment = opened + sum(size * int(count) for size, count in sizes)
    else:
        try:
            moment = datetime.fromisoformat(at).timestamp()
        except (ValueError, OverflowError) as error:
            raise InputError(f"--at {at}: must be {FORMS}") from error
    if moment < opened:
        when = datetime.fromtimestamp(opened).isoformat(timespec="seconds")
        raise InputError(f"--at {at}: the study was opened later, at {when}")
    return list(takewhile(lambda record: record["time"] <= moment, records)), moment


def _state(study: Study, later: Sequence[Record]) -> str:
    if study.info["state"] != "running":
        return study.info["state"]
    if later:
        return "crashed" if later[0]["kind"] == "reopen" else "running"
    if study.folder.origin.exists():  # a copy: its writer is elsewhere, and known by its word only
        session = study.info["sessions"][-1]
        heard = (session["started"] or 0.0) + session["seconds"]
        return "running" if time.time() - heard < SILENT else "crashed"
    return "running" if _held(study.folder.journal) else "crashed"


def _held(journal: Path) -> bool:
    """Whether a process on this machine is writing the journal."""
    with journal.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _running(study: Study, records: Sequence[Record], moment: float) -> list[dict[str, Any]]:
    heard, attempt = {}, {}
    for record in records:
        if record["kind"] != "warm" and "trial" in record:
            heard[record["trial"]] = record["time"]
            attempt[record["trial"]] = record.get("attempt", attempt.get(record["trial"], 1))
    full = (study.info.get("budget") or {}).get("kimg")
    nodes = dict(zip(study.trials["trial"], study.trials["node"], strict=True))
    return [
        {
            "trial": row["trial"],
            "of": row.get("of"),
            "kimg": float(row["kimg"]),
            "budget": full,
            "silent": max(0.0, moment - heard[row["trial"]]),
            "attempt": attempt[row["trial"]],
            "node": nodes.get(row["trial"]),
        }
        for table in (study.trials, study.replicates)
        for row in table[table["state"] == "running"].to_dict("records")
    ]


def _best(study: Study) -> dict[str, Any] | None:
    order = ranked(study)
    if order.empty:
        return None
    first = order.iloc[0]
    found = {"trial": int(first["trial"]), "value": float(first["value"])}
    found |= {"kimg": float(first["best_kimg"]), "state": str(first["state"])}
    for row in finalists(study).to_dict("records"):
        if row["trial"] == found["trial"] and row["seeds"]:
            found |= {"mean": row["mean"], "seeds": row["seeds"]}
    return found


def _budget(study: Study, seconds: float, training: float) -> dict[str, dict[str, float | None]]:
    limits = study.info.get("budget") or {}
    resources = study.info.get("resources") or {}
    trained, shown = (
        float(study.trials[name].sum() + study.replicates[name].sum())
        for name in ("seconds", "kimg")
    )
    gpus = float(resources.get("gpus") or 0) * float(resources.get("workers") or 1)
    value = ranked(study)["value"]
    used = {
        "trials": len(study.trials),
        "hours": seconds / 3600,
        "gpu_hours": (trained + training) * gpus / 3600,
        "total_kimg": shown,
        "target": float(value.iloc[0]) if len(value) else None,
    }
    return {
        name: {"used": amount, "limit": limits[name]}
        for name, amount in used.items()
        if limits.get(name) is not None
    }


def _command(study: Study) -> str | None:
    """What to type to go on."""
    if study.info.get("resume_command"):
        return study.info["resume_command"]
    command = study.info.get("command")
    if not command:
        return None
    command = re.sub(r"\s--resume[=\s]\S+", "", command)
    name, space = study.folder.root.resolve().name, study.info.get("space_file")
    if not re.search(r"\s--name[=\s]", command) and (not space or Path(space).stem != name):
        command += f" --name {name}"
    return f"{command} --resume must"


def _running_line(each: Mapping[str, Any]) -> str:
    full = f"/{each['budget']:g}" if each["budget"] else ""
    repeats = f" (repeats trial {each['of']})" if each["of"] is not None else ""
    attempt = f", attempt {each['attempt']}" if each["attempt"] > 1 else ""
    node = f" on {each['node']}" if each["node"] else ""
    return (
        f"trial {each['trial']}{repeats}  {each['kimg']:g}{full} kimg{node}{attempt}, "
        f"last heard of {elapsed(each['silent'])} ago"
    )


def _best_line(metric: str, best: Mapping[str, Any]) -> str:
    if "mean" in best:
        seeds = f"{best['seeds']} other seed{'s' * (best['seeds'] > 1)}"
        return (
            f"{metric} {_short(best['mean'])} by trial {best['trial']}, mean of {seeds} "
            f"({_short(best['value'])} in the search)"
        )
    early = "" if best["state"] == "completed" else f" ({best['state']})"
    return (
        f"{metric} {_short(best['value'])} by trial {best['trial']} at {best['kimg']:g} kimg{early}"
    )


def _finalist_line(each: Mapping[str, Any]) -> str:
    text = f"trial {each['trial']}  {_short(each['single'])} in the search"
    if not each["seeds"]:
        return f"{text}, no other seed yet"
    text += f", {_short(each['mean'])} over {each['seeds']} other seeds"
    if each["low"] is not None:
        text += f" (95 %: {_short(each['low'])} to {_short(each['high'])})"
    if each["best"] is not None:
        text += f", the best with probability {each['best']:.2f}"
    return text + (f", {each['collapsed']:.0%} diverged" if each["collapsed"] else "")


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
        text += f" ({_counted(ended['state'].value_counts().to_dict())})"
    if taught := sum(each["told"] for each in study.info.get("warm", {}).values()):
        text += f" and {taught} of earlier studies"
    order = ranked(study._replace(trials=ended))
    if len(order):
        first = order.iloc[0]
        text += f", the best trial {first['trial']} with {_short(first['value'])}"
    return text


def _full(record: Record) -> str:
    parts = []
    for metric, found in record["values"].items():
        error = f" ± {found['sd']:.2g}" if found["sd"] else ""
        parts.append(f"{metric} {_short(found['value'])}{error}")
    seeds = max(len(found["each"]) for found in record["values"].values())
    return f"{', '.join(parts)} over {seeds} draw{'s' * (seeds > 1)} of samples"


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
    text = f"cut-off {_short(cutoff)}{median}"
    if band:
        text += f", noise band {_short(band)}"
        if record["decision"] == "continue" and better(minimise, cutoff, record["value"]):
            text += ": worse, but within the band"
    return text


def _counted(states: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items())


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(map(_short, value))
    if isinstance(value, float):
        return f"{value:.5g}"
    return "—" if value is None else str(value)
