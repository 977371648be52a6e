"""How the records of a journal become a study."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from raygen.document import flatten
from raygen.folders import StudyFolder
from raygen.journal.read import read_study
from raygen.results.ranking import better
from raygen.results.study import (
    CHECKPOINT_COLUMNS,
    ERROR,
    HISTORY_COLUMNS,
    REPLICATE_COLUMNS,
    RUN_COLUMNS,
    RUNG_COLUMNS,
    TRIAL_COLUMNS,
    Study,
    objectives_of,
)

# What a journal adds to a study's facts, and so outlives the facts of a session.
GATHERED = (
    "started", "sessions", "retries_used", "warm", "finals", "race", "full", "protocol_of",
    "protocols_of",
)  # fmt: skip


def load_study(path: Path) -> Study:
    """Read a study folder from its journal alone.

    Raises:
        InputError: the folder does not exist, holds no study, or its journal is damaged.
    """
    return fold(StudyFolder(path), read_study(path))


def fold(folder: StudyFolder, records: Iterable[Mapping[str, Any]]) -> Study:
    """Turn journal records into the study's facts and tables."""
    info: dict[str, Any] = {}
    rows: dict[int, dict[str, Any]] = {}  # trials and replicates
    configs: dict[int, dict[str, Any]] = {}
    repeated: dict[int, int] = {}  # replicate -> finalist
    history: list[dict[str, Any]] = []
    measured: dict[int, str | None] = {}  # by which protocol a trial was last measured
    rungs: dict[tuple[int, float], dict[str, Any]] = {}
    checkpoints: dict[tuple[int, str], dict[str, Any]] = {}
    runs: list[dict[str, Any]] = []
    under_way: dict[int, dict[str, Any]] = {}  # the attempt of each trial that has not ended
    now = math.nan
    for record in records:
        match record["kind"]:
            case "open" | "reopen":
                info = _opened(info, record)
                for run in under_way.values():  # the session before died with them
                    run.update(state="interrupted", stop=now)
                under_way = {}
            case "warm":
                taught = info.setdefault("warm", {})
                counts = taught.setdefault(record["study"], {"told": 0, "points": 0})
                counts["points" if record["values"] is None else "told"] += 1
            case "protocol":
                info["protocols"][record["hash"]] = record["record"]
            case "suggest":
                rows[record["trial"]] = _suggested(record)
                configs[record["trial"]] = record["config"]
                if record.get("of") is not None:
                    repeated[record["trial"]] = record["of"]
            case "start":
                here = {"state": "running", "reason": "", "node": record["node"]}
                rows[record["trial"]].update(here)
                runs.append(_attempted(record, repeated))
                under_way[record["trial"]] = runs[-1]
            case "report":
                history.append(_reported(record))
                _measured(info, record["protocols"])
                protocol = record["protocols"].get(objectives_of(info)[0]["metric"])
                if measured.setdefault(record["trial"], protocol) != protocol:
                    rows[record["trial"]].update(value=math.nan, best_kimg=math.nan)
                    measured[record["trial"]] = protocol
                variation = record.get("variation")
                variation = math.nan if variation is None else float(variation)
                _advance(rows[record["trial"]], history[-1], variation, objectives_of(info))
            case "decide":
                rungs[record["trial"], record["kimg"]] = _decided(record)
            case "checkpoint":
                key = record["trial"], record["role"]
                row = {"collected": False, "bytes": math.nan}
                checkpoints[key] = {"trial": key[0], "role": key[1], "kimg": record["kimg"], **row}
            case "collect":
                key = record["trial"], record["role"]
                row = {"trial": key[0], "role": key[1], "kimg": math.nan}
                gone = {"collected": True, "bytes": record["bytes"]}
                checkpoints[key] = row | checkpoints.get(key, {}) | gone
            case "retry":
                info["retries_used"] += 1
                under_way.pop(record["trial"], {}).update(
                    state="lost", stop=record.get("time", now)
                )
            case "end":
                rows[record["trial"]].update(state=record["state"], reason=record["reason"])
                ended = {"state": record["state"], "stop": record.get("time", now)}
                under_way.pop(record["trial"], {}).update(ended)
            case "finals":
                info["finals"] = record["trials"]
            case "final":
                told = {"values": record["values"], "protocols": record["protocols"]}
                info.setdefault("full", {})[str(record["trial"])] = told
            case "race":
                info["race"] = {k: v for k, v in record.items() if k not in ("kind", "time")}
            case "close":
                ended = {"state": record["state"], "finished": record.get("time")}
                info.update(ended, reason=record.get("reason", ""))
                info["sessions"][-1].update(ended, seconds=record["seconds"])
        _tick(info["sessions"][-1], record)
        now = record.get("time", now)
    for run in under_way.values():
        run.update(stop=now)
    info["seconds"] = sum(session["seconds"] for session in info["sessions"])
    trials = [row for _, row in sorted(rows.items()) if row["trial"] not in repeated]
    history = [row for row in history if row["trial"] not in repeated]
    replicates = [{**rows[number], "of": of} for number, of in sorted(repeated.items())]
    return Study(
        folder,
        info,
        _frame(trials, TRIAL_COLUMNS),
        _frame(history, HISTORY_COLUMNS),
        _frame([row for row in rungs.values() if row["trial"] not in repeated], RUNG_COLUMNS),
        {number: config for number, config in configs.items() if number not in repeated},
        _frame(replicates, REPLICATE_COLUMNS)[REPLICATE_COLUMNS],
        _values(info, trials, history),
        _frame(list(checkpoints.values()), CHECKPOINT_COLUMNS),
        _frame(runs, RUN_COLUMNS),
    )


def _opened(info: dict[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a study that begins, or goes on with other facts."""
    study, started = record["study"], record.get("time")
    if record["kind"] == "open":  # written after the data was loaded and Ray was started
        started = study.get("started", started)
    sessions = [dict(session) for session in info.get("sessions", [])]
    if sessions and sessions[-1]["state"] == "running":
        ended = (sessions[-1]["started"] or 0.0) + sessions[-1]["seconds"]
        sessions[-1].update(state="crashed", finished=ended)
    session = {"started": started, "finished": None, "state": "running", "seconds": 0.0}
    if record.get("changed"):
        session["changed"] = record["changed"]
    return {
        **{key: value for key, value in study.items() if key not in GATHERED},
        "protocols": {**study.get("protocols", {}), **info.get("protocols", {})},
        "protocol_of": dict(study.get("protocol_of", {})),
        "retries_used": 0,
        **({"started": study["started"]} if "started" in study else {}),
        **{key: info[key] for key in GATHERED if key in info},
        "sessions": [*sessions, session],
        "state": "running",
        "finished": None,
        "reason": "",  # why it ended before its trials were spent
    }


def _tick(session: dict[str, Any], record: Mapping[str, Any]) -> None:
    """A session that was never closed lasted until its last record."""
    if session["state"] == "running" and "time" in record and session["started"] is not None:
        session["seconds"] = max(0.0, record["time"] - session["started"])


def _suggested(record: Mapping[str, Any]) -> dict[str, Any]:
    empty = {"state": "running", "reason": "", "value": math.nan, "best_kimg": math.nan}
    row = {"trial": record["trial"], **empty, "kimg": 0.0, "seconds": 0.0}
    row |= {"variation": math.nan}
    return {**row, "seed": record["seed"], "node": "", **flatten(record["config"])}


def _attempted(record: Mapping[str, Any], repeated: Mapping[int, int]) -> dict[str, Any]:
    """A row of `runs`: `of` is the finalist that a replicate repeats, -1 for a trial."""
    trial = record["trial"]
    place = {"node": record["node"], "device": str(record.get("device", ""))}
    row = {"trial": trial, "attempt": record.get("attempt", 1), "of": repeated.get(trial, -1)}
    return {**row, "state": "running", **place, "start": record.get("time", math.nan),
            "stop": math.nan}  # fmt: skip


def _reported(record: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {key: record[key] for key in HISTORY_COLUMNS}
    # JSON has no NaN: the journal stores a non-finite metric as null.
    metrics = {k: math.nan if v is None else v for k, v in record["metrics"].items()}
    errors = {k + ERROR: v for k, v in (record.get("sd") or {}).items() if v is not None}
    return {**fixed, **metrics, **errors}


def _measured(info: dict[str, Any], protocols: Mapping[str, str]) -> None:
    for metric, digest in protocols.items():
        found = info.setdefault("protocols_of", {}).setdefault(metric, [])
        if digest not in found:
            found.append(digest)
        info["protocol_of"][metric] = digest


def _advance(
    row: dict[str, Any],
    report: Mapping[str, Any],
    variation: float | None,
    objectives: Sequence[Mapping[str, str]],
) -> None:
    """A trial is as good as its best milestone by the first objective at which all are finite."""
    row.update(kimg=report["kimg"], seconds=report["seconds"])
    values = [report.get(each["metric"], math.nan) for each in objectives]
    minimise = objectives[0]["direction"] == "minimize"
    if not any(map(math.isnan, values)) and better(minimise, values[0], row["value"]):
        row.update(value=values[0], best_kimg=report["kimg"], variation=variation)


def _decided(record: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the rungs; of several objectives the value of the first, and the place taken."""
    row = {"band": 0.0, **{key: record[key] for key in RUNG_COLUMNS if key in record}}
    if isinstance(row["value"], list):
        row |= {"value": row["value"][0], "rank": record["rank"], "kept": record["kept"]}
    return row


def _values(
    info: Mapping[str, Any], trials: list[dict[str, Any]], history: list[dict[str, Any]]
) -> pd.DataFrame:
    names = [each["metric"] for each in objectives_of(info)]
    reports = {(report["trial"], report["kimg"]): report for report in history}
    rows = []
    for row in trials:
        report = reports.get((row["trial"], row["best_kimg"]))
        if report is not None:
            rows.append({"trial": row["trial"], **{n: report.get(n, math.nan) for n in names}})
    return pd.DataFrame(rows, columns=["trial", *names])


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for column in set(frame.columns) - set(columns):
        if any(column not in row for row in rows):
            # A setting that not every branch has: kept as it was, or 3 would become 3.0.
            frame[column] = pd.Series([row.get(column) for row in rows], dtype=object)
    rest = [column for column in frame.columns if column not in columns]
    return frame.reindex(columns=columns + rest)
