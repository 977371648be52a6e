"""How a study's journal becomes tables, without Ray, Optuna or torch."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from raygen.errors import InputError
from raygen.folders import StudyFolder, TrialFolder

STATES = (
    "completed",
    "stopped",
    "diverged",
    "out_of_memory",
    "failed",
    "lost",
    "interrupted",
    "running",
)
TRIAL_COLUMNS = [
    "trial", "state", "reason", "value", "best_kimg", "kimg", "seconds", "seed", "node",
]  # fmt: skip
HISTORY_COLUMNS = ["trial", "kimg", "seconds", "images_per_second"]
RUNG_COLUMNS = ["trial", "kimg", "value", "cutoff", "peers", "decision"]


class Study(NamedTuple):
    """A study read back: what was asked, and one table per question."""

    folder: StudyFolder
    info: dict[str, Any]
    trials: pd.DataFrame
    history: pd.DataFrame
    rungs: pd.DataFrame
    configs: dict[int, dict[str, Any]]  # by trial, nested as they were sampled

    @property
    def metric(self) -> str:
        return self.info["objective"]["metric"]

    @property
    def minimise(self) -> bool:
        return self.info["objective"]["direction"] == "minimize"

    @property
    def settings(self) -> list[str]:
        """The columns of `trials` that are settings of the trial."""
        return [column for column in self.trials.columns if column not in TRIAL_COLUMNS]


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read a journal; a torn last line (the writer died while writing it) is left out.

    Raises:
        InputError: a line before the last one is not a JSON object.
    """
    records: list[dict[str, Any]] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(lines):  # no newline behind it: never finished
                break
            raise InputError(f"{path}:{number}: not a journal record ({error})") from error
        records.append(record)
    return records


def load_study(path: Path) -> Study:
    """Read a study folder from its journal alone.

    Raises:
        InputError: the folder does not exist, holds no study, or its journal is damaged.
    """
    folder = StudyFolder(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such study folder")
    if not folder.journal.exists():
        raise InputError(f"{path}: not a study (no {folder.journal.name} in it)")
    records = read_records(folder.journal)
    if not records:
        raise InputError(f"{path}: the study is empty: it was stopped before its first record")
    if records[0].get("kind") != "open":
        raise InputError(f"{folder.journal}:1: not a raygen journal: it does not open a study")
    return fold(folder, records)


def fold(folder: StudyFolder, records: Iterable[Mapping[str, Any]]) -> Study:
    """Turn journal records into the study's facts and tables."""
    info: dict[str, Any] = {}
    trials: dict[int, dict[str, Any]] = {}
    configs: dict[int, dict[str, Any]] = {}
    history: list[dict[str, Any]] = []
    rungs: list[dict[str, Any]] = []
    for record in records:
        match record["kind"]:
            case "open":
                info = {**record["study"], "state": "running", "finished": None}
            case "protocol":
                info.setdefault("protocols", {})[record["hash"]] = record["record"]
            case "suggest":
                trials[record["trial"]] = _suggested(record)
                configs[record["trial"]] = record["config"]
            case "start":
                trials[record["trial"]]["node"] = record["node"]
            case "report":
                history.append(_reported(record))
                for metric, digest in record["protocols"].items():
                    found = info.setdefault("protocols_of", {}).setdefault(metric, [])
                    if digest not in found:
                        found.append(digest)
                    info.setdefault("protocol_of", {})[metric] = digest
                _advance(trials[record["trial"]], record, info["objective"])
            case "decide":
                rungs.append({key: record[key] for key in RUNG_COLUMNS})
            case "end":
                trials[record["trial"]].update(state=record["state"], reason=record["reason"])
            case "close":
                info.update(
                    state=record["state"], finished=record["time"], seconds=record["seconds"]
                )
    return Study(
        folder,
        info,
        _frame(sorted(trials.values(), key=lambda row: row["trial"]), TRIAL_COLUMNS),
        _frame(history, HISTORY_COLUMNS),
        _frame(rungs, RUNG_COLUMNS),
        configs,
    )


def write_tables(study: Study) -> None:
    """Write study.json and the three CSV files, each replaced in one step."""
    _replace(study.folder.study, json.dumps(study.info, indent=2, sort_keys=True) + "\n")
    for name in ("trials", "history", "rungs"):
        _replace(study.folder.table(name), getattr(study, name).to_csv(index=False))


def ranked(study: Study) -> pd.DataFrame:
    """Trials with a finite value, best first; those trained to the full budget before all others.

    A value reached at a low rung is not comparable with one at the full budget, so a stopped
    trial is the best only while nothing has completed.
    """
    scored = study.trials[study.trials["value"].notna()]
    return (
        scored.assign(_full=scored["state"] != "completed")
        .sort_values(["_full", "value", "trial"], ascending=[True, study.minimise, True])
        .drop(columns="_full")
    )


def best_trial(study: Study) -> int:
    """Return the number of the best trial.

    Raises:
        InputError: no trial has a value yet.
    """
    order = ranked(study)
    if order.empty:
        raise InputError(f"{study.folder.root}: no trial has a value yet")
    return int(order.iloc[0]["trial"])


def train_config(study: Study, trial: int) -> dict[str, Any]:
    """Return one trial of a study as a configuration that `raygen train --config` accepts."""
    seeds = study.trials.set_index("trial")["seed"]
    return {
        "family": study.info["family"],
        "data": {k: v for k, v in study.info["data"]["source"].items() if v is not None},
        "objective": study.info["objective"]["metric"],
        "evaluation": {k: v for k, v in study.info["evaluation"].items() if v is not None},
        "seed": int(seeds[trial]),
        "kimg": study.info["budget"]["kimg"],
        "milestones": study.info["milestones"],
        "threads": max(1, int(study.info["resources"]["cpus"])),
        "trial": study.configs[trial],
    }


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings -> dotted names: {"loss": {"name": "hinge"}} -> {"loss.name": "hinge"}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _suggested(record: Mapping[str, Any]) -> dict[str, Any]:
    empty = {"state": "running", "reason": "", "value": math.nan, "best_kimg": math.nan}
    row = {"trial": record["trial"], **empty, "kimg": 0.0, "seconds": 0.0}
    return {**row, "seed": record["seed"], "node": "", **flatten(record["config"])}


def _reported(record: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {key: record[key] for key in HISTORY_COLUMNS}
    # JSON has no NaN: the journal stores a non-finite metric as null.
    metrics = {k: math.nan if v is None else v for k, v in record["metrics"].items()}
    return {**fixed, **metrics}


def _advance(row: dict[str, Any], record: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
    row.update(kimg=record["kimg"], seconds=record["seconds"])
    value = record["metrics"].get(objective["metric"])
    if value is None:
        return
    better = value < row["value"] if objective["direction"] == "minimize" else value > row["value"]
    if better or math.isnan(row["value"]):
        row.update(value=value, best_kimg=record["kimg"])


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for column in set(frame.columns) - set(columns):
        if any(column not in row for row in rows):
            # A setting that not every branch has: kept as it was, or 3 would become 3.0.
            frame[column] = pd.Series([row.get(column) for row in rows], dtype=object)
    rest = [column for column in frame.columns if column not in columns]
    return frame.reindex(columns=columns + rest)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


__all__ = [
    "STATES",
    "Study",
    "StudyFolder",
    "TrialFolder",
    "best_trial",
    "flatten",
    "fold",
    "load_study",
    "ranked",
    "read_records",
    "train_config",
    "write_tables",
]
