"""How the records of a journal become a study."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from raygen.document import flatten
from raygen.journal.read import read_study
from raygen.journal.records import (
    Checkpoint,
    Close,
    Collect,
    Decide,
    End,
    Final,
    Finals,
    MetricProtocol,
    OfTrial,
    Open,
    Record,
    Reopen,
    Report,
    Retry,
    Round,
    Start,
    Warm,
    as_json,
)
from raygen.journal.trials import Trials, TrialState, worked_by
from raygen.results.liveness import state_now
from raygen.results.study import (
    CHECKPOINT_COLUMNS,
    ERROR,
    HISTORY_COLUMNS,
    REPLICATE_COLUMNS,
    RUN_COLUMNS,
    RUNG_COLUMNS,
    TRIAL_COLUMNS,
    Results,
    dollars_of,
    most_workers,
    objectives_of,
)
from raygen.schedules import jumps, last_value
from raygen.study_folder import StudyFolder

# What a journal adds to a study's facts, and so outlives the facts of a session.
GATHERED = (
    "started", "sessions", "retries_used", "moves", "warm", "finals", "race", "full", "protocol_of",
    "protocols_of", "evaluation_seconds",
)  # fmt: skip


def load_results(path: Path) -> Results:
    """Read a study folder as it is now: its journal, and whether a search still writes it.

    Raises:
        InputError: the folder does not exist, holds no study, or its journal is damaged.
    """
    study = fold(StudyFolder(path), read_study(path))
    study.info["state"] = state_now(study.folder, study.info)
    return study


def fold(folder: StudyFolder, records: Iterable[Record]) -> Results:
    """Turn journal records into the study's facts and tables."""
    info: dict[str, Any] = {}
    trials = Trials([], minimise=True)  # until the study is opened
    tables = _Tables()
    for record in records:
        if isinstance(record, OfTrial):
            trials.apply(record)
        elif isinstance(record, Open | Reopen):
            info = _opened(info, record)
            trials.objectives = [entry["metric"] for entry in objectives_of(info)]
            trials.minimise = objectives_of(info)[0]["direction"] == "minimize"
            trials.workers = most_workers(info)
        tables.apply(record, trials)
        _note(info, record)
        _tick(info["sessions"][-1], record)
    tables.interrupt_runs(None)
    info["seconds"] = sum(session["seconds"] for session in info["sessions"])
    info["worked"] = worked_by(trials)
    searched, replicates = _in_order(trials.searched), _in_order(trials.replicates)
    repeated = {trial.number for trial in replicates}
    replicate_rows = [{**_row(trial, info), "of": trial.of} for trial in replicates]
    history = [row for row in tables.history if row["trial"] not in repeated]
    rungs = [row for row in tables.rungs.values() if row["trial"] not in repeated]
    return Results(
        folder,
        info,
        _frame([_row(trial, info) for trial in searched], TRIAL_COLUMNS),
        _frame(history, HISTORY_COLUMNS),
        _frame(rungs, RUNG_COLUMNS),
        {trial.number: trial.config for trial in searched},
        _frame(replicate_rows, REPLICATE_COLUMNS)[REPLICATE_COLUMNS],
        _values(info, searched),
        _frame(list(tables.checkpoints.values()), CHECKPOINT_COLUMNS),
        _frame(tables.runs, RUN_COLUMNS),
    )


class _Tables:
    """Rows of the tables that are not one row a trial."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.rungs: dict[tuple[int, float], dict[str, Any]] = {}
        self.checkpoints: dict[tuple[int, str], dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []
        self.under_way: dict[int, dict[str, Any]] = {}  # attempts that have not ended
        self.now = math.nan

    def apply(self, record: Record, trials: Trials) -> None:
        """Add what a record says; `trials` have applied it."""
        time = self.now if record.time is None else record.time
        match record:
            case Open() | Reopen():
                self.interrupt_runs("interrupted")  # the session before died with them
            case Start():
                self.runs.append(_attempted(record, trials[record.trial]))
                self.under_way[record.trial] = self.runs[-1]
            case Report():
                self.history.append(_reported(record))
            case Decide():
                self.rungs[record.trial, record.kimg] = _decided(record)
                if record.decision == "pause":
                    self.under_way.pop(record.trial, {}).update(state="paused", stop=time)
            case Checkpoint() | Collect():
                key = record.trial, record.role
                self.checkpoints[key] = _kept_or_collected(record, self.checkpoints.get(key))
            case Retry():
                state = "interrupted" if record.moved else "lost"
                self.under_way.pop(record.trial, {}).update(state=state, stop=time)
            case End():
                self.under_way.pop(record.trial, {}).update(state=record.state, stop=time)
            case _:
                pass
        self.now = time

    def interrupt_runs(self, state: str | None) -> None:
        """Let the attempts that have not ended stop at the last record."""
        for run in self.under_way.values():
            run.update(stop=self.now, **({"state": state} if state else {}))
        self.under_way = {}


def _note(info: dict[str, Any], record: Record) -> None:
    """Add to a study's facts what a record says of the study."""
    match record:
        case Warm():
            warm = info.setdefault("warm", {})
            counts = warm.setdefault(record.study, {"told": 0, "points": 0})
            counts["points" if record.values is None else "told"] += 1
        case MetricProtocol():
            info["protocols"][record.hash] = record.record
        case Report():
            _measured(info, record.protocols)
            if record.evaluation_seconds is not None:
                spent = info.get("evaluation_seconds", 0.0)
                info["evaluation_seconds"] = spent + record.evaluation_seconds
        case Retry():
            info["moves" if record.moved else "retries_used"] += 1
        case Finals():
            info["finals"] = record.trials
        case Final():
            measured = {"values": record.values, "protocols": record.protocols}
            info.setdefault("full", {})[str(record.trial)] = measured
        case Round():
            info["race"] = _round(record)
        case Close():
            ended = {"state": record.state, "finished": record.time}
            info.update(ended, reason=record.reason)
            info["sessions"][-1].update(ended, seconds=record.seconds)
        case _:
            pass


def _opened(info: dict[str, Any], record: Open | Reopen) -> dict[str, Any]:
    """Facts of a study that begins, or goes on with other facts."""
    study, started = record.study, record.time
    if isinstance(record, Open):  # written after the data was loaded and Ray was started
        started = study.get("started", started)
    sessions = [dict(session) for session in info.get("sessions", [])]
    if sessions and sessions[-1]["state"] == "running":
        ended = (sessions[-1]["started"] or 0.0) + sessions[-1]["seconds"]
        sessions[-1].update(state="crashed", finished=ended)
    session = {"started": started, "finished": None, "state": "running", "seconds": 0.0}
    if isinstance(record, Reopen) and record.changed:
        session["changed"] = record.changed
    return {
        **{key: value for key, value in study.items() if key not in GATHERED},
        "protocols": {**study.get("protocols", {}), **info.get("protocols", {})},
        "protocol_of": dict(study.get("protocol_of", {})),
        "retries_used": 0,
        "moves": 0,
        **({"started": study["started"]} if "started" in study else {}),
        **{key: info[key] for key in GATHERED if key in info},
        "sessions": [*sessions, session],
        "state": "running",
        "finished": None,
        "reason": "",  # why it ended before its trials were spent
    }


def _tick(session: dict[str, Any], record: Record) -> None:
    """A session that was never closed lasted until its last record."""
    started = session["started"]
    if session["state"] == "running" and started is not None and record.time is not None:
        session["seconds"] = max(0.0, record.time - started)


def _in_order(trials: list[TrialState]) -> list[TrialState]:
    return sorted(trials, key=lambda trial: trial.number)


def _row(trial: TrialState, info: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `trials`: a trial that waits to be tried again is running for whoever looks on."""
    return {
        "trial": trial.number,
        "state": "running" if trial.state == "waiting" else trial.state,
        "reason": trial.reason,
        "value": math.nan if trial.values is None else trial.values[0],
        "best_kimg": _or_nan(trial.best_kimg),
        "kimg": trial.kimg,
        "seconds": trial.seconds,
        "variation": _or_nan(trial.variation),
        "seed": trial.seed,
        "node": trial.node,
        "from_kimg": trial.from_kimg,
        "dollars": _or_nan(dollars_of(info, trial.worked)),
        **{k: last_value(v) for k, v in flatten(trial.config, whole=jumps).items()},
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _attempted(record: Start, trial: TrialState) -> dict[str, Any]:
    """A row of `runs`: `of` is the finalist that a replicate repeats, -1 for a trial."""
    place = {"node": record.node, "device": record.device}
    place |= {"workers": trial.workers, "accelerator": trial.accelerator}
    of = -1 if trial.of is None else trial.of
    row = {"trial": record.trial, "attempt": record.attempt, "of": of}
    return {**row, "state": "running", **place, "start": _or_nan(record.time), "stop": math.nan}


def _reported(record: Report) -> dict[str, Any]:
    fixed = {key: getattr(record, key) for key in HISTORY_COLUMNS}
    metrics = {metric: _or_nan(value) for metric, value in record.metrics.items()}
    errors = {k + ERROR: value for k, value in record.sd.items() if value is not None}
    return {**fixed, **metrics, **errors}


def _kept_or_collected(
    record: Checkpoint | Collect, before: dict[str, Any] | None
) -> dict[str, Any]:
    """A row of `checkpoints`."""
    row = {"trial": record.trial, "role": record.role, "kimg": math.nan}
    if isinstance(record, Checkpoint):
        return {**row, "kimg": record.kimg, "collected": False, "bytes": math.nan}
    return {**row, **(before or {}), "collected": True, "bytes": record.bytes}


def _round(record: Round) -> dict[str, Any]:
    """The last round of the race, with trials by their numbers as text: as JSON has them."""
    raw = as_json(record)
    del raw["kind"], raw["time"]
    by_trial = {key: {str(n): v for n, v in raw[key].items()} for key in ("means", "best")}
    return {**raw, **by_trial}


def _measured(info: dict[str, Any], protocols: Mapping[str, str]) -> None:
    for metric, digest in protocols.items():
        digests = info.setdefault("protocols_of", {}).setdefault(metric, [])
        if digest not in digests:
            digests.append(digest)
        info["protocol_of"][metric] = digest


def _decided(record: Decide) -> dict[str, Any]:
    """One row of the rungs; of several objectives the value of the first, and the place taken."""
    row = {key: getattr(record, key) for key in RUNG_COLUMNS}
    if isinstance(record.value, list):
        row |= {"value": record.value[0], "rank": record.rank, "kept": record.kept}
    return row


def _values(info: Mapping[str, Any], trials: list[TrialState]) -> pd.DataFrame:
    """Every objective of each trial at its best milestone."""
    metrics = [objective["metric"] for objective in objectives_of(info)]
    rows = [
        {"trial": trial.number, **dict(zip(metrics, trial.values, strict=True))}
        for trial in trials
        if trial.values is not None
    ]
    return pd.DataFrame(rows, columns=["trial", *metrics])


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for column in set(frame.columns) - set(columns):
        if any(column not in row for row in rows):
            # A setting that not every branch has: kept as it was, or 3 would become 3.0.
            frame[column] = pd.Series([row.get(column) for row in rows], dtype=object)
    rest = [column for column in frame.columns if column not in columns]
    return frame.reindex(columns=columns + rest)
