"""How a study's journal becomes tables, without Ray, Optuna or torch."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from raygen.document import flatten
from raygen.errors import InputError
from raygen.folders import StudyFolder, TrialFolder
from raygen.race import posterior

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
ERROR = ".sd"  # ends the column of a metric's standard error in the history
RUNG_COLUMNS = ["trial", "kimg", "value", "cutoff", "band", "peers", "decision"]
REPLICATE_COLUMNS = [
    "trial", "of", "seed", "state", "reason", "value", "best_kimg", "kimg", "seconds",
]  # fmt: skip
RUN_COLUMNS = ["trial", "attempt", "of", "state", "node", "device", "start", "stop"]
CHECKPOINT_COLUMNS = ["trial", "role", "kimg", "collected", "bytes"]
FINALIST_COLUMNS = [
    "trial", "single", "seeds", "mean", "sd", "low", "high", "best", "collapsed",
]  # fmt: skip
FULL_COLUMNS = ["trial", "metric", "value", "sd", "seeds", "samples", "protocol"]
# What a journal adds to a study's facts, and so outlives the facts of a session.
GATHERED = (
    "started", "sessions", "retries_used", "warm", "finals", "race", "full", "protocol_of",
    "protocols_of",
)  # fmt: skip
NEEDED = 5  # completed trials, for a rank correlation
SHORT, LONG = 0.5, 0.7  # correlations: below, a rung decides blindly; from here, it can be trusted


class Study(NamedTuple):
    """A study read back: what was asked, and one table per question.

    `replicates` are the finalists trained again with other seeds: they are in no other table.
    `values` has every objective of a trial at the milestone at which the first was best.
    """

    folder: StudyFolder
    info: dict[str, Any]
    trials: pd.DataFrame
    history: pd.DataFrame
    rungs: pd.DataFrame
    configs: dict[int, dict[str, Any]]  # by trial, nested as they were sampled
    replicates: pd.DataFrame
    values: pd.DataFrame
    checkpoints: pd.DataFrame  # of all trials; `collected`: deleted to save `bytes`
    runs: pd.DataFrame  # every attempt of trials and replicates, from `start` to `stop` (time)

    @property
    def metric(self) -> str:
        return self.info["objective"]["metric"]

    @property
    def minimise(self) -> bool:
        return self.info["objective"]["direction"] == "minimize"

    @property
    def objectives(self) -> list[dict[str, str]]:
        """Metric and direction of each objective; the first is the one that ranks."""
        return _objectives(self.info)

    @property
    def metrics(self) -> list[str]:
        """The columns of `history` that are metrics."""
        columns = (c for c in self.history.columns if c not in HISTORY_COLUMNS)
        return [column for column in columns if not column.endswith(ERROR)]

    @property
    def settings(self) -> list[str]:
        """The columns of `trials` that are settings of the trial."""
        return [column for column in self.trials.columns if column not in TRIAL_COLUMNS]


class Advice(NamedTuple):
    """Whether the first rung comes late enough to judge by."""

    kimg: float  # where the first rung is
    rho: float  # rank correlation of the values there with the final ones, -1 to 1
    trials: int  # over how many completed trials
    survivors: bool  # others were stopped, and are not among them
    short: bool  # the grace period is too short
    suggestion: float | None  # the first rung that can be trusted; None if there is none

    @property
    def text(self) -> str:
        """What was found."""
        text = (
            f"rank correlation between the best value at the first rung ({self.kimg:g} kimg) and "
            f"the end is {self.rho:.2f} over {self.trials} completed trials."
        )
        left = " Only survivors can be compared, which makes this estimate low."
        return text + left * self.survivors

    @property
    def action(self) -> str:
        """What to do about it; "" if nothing."""
        if not self.short:
            return ""
        if self.suggestion is None:
            return "No rung reaches 0.7: try a later first rung (--set scheduler.grace_kimg=…)."
        return (
            f"Try --set scheduler.grace_kimg={self.suggestion:g}, the first rung that reaches 0.7."
        )


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


def read_study(path: Path) -> list[dict[str, Any]]:
    """Read the journal of a study folder: at least one record, the first of which opens it.

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
    return records


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
                protocol = record["protocols"].get(_objectives(info)[0]["metric"])
                if measured.setdefault(record["trial"], protocol) != protocol:
                    rows[record["trial"]].update(value=math.nan, best_kimg=math.nan)
                    measured[record["trial"]] = protocol
                _advance(rows[record["trial"]], history[-1], _objectives(info))
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


def write_tables(study: Study) -> None:
    """Write study.json and the CSV files, each replaced in one step."""
    _replace(study.folder.study, json.dumps(study.info, indent=2, sort_keys=True) + "\n")
    again = () if study.replicates.empty else ("replicates",)
    for name in ("trials", "history", "rungs", *again):
        _replace(study.folder.table(name), getattr(study, name).to_csv(index=False))


def better(minimise: bool, value: float, than: float) -> bool:
    """Whether `value` is better than another; any value is better than nan."""
    return math.isnan(than) or (value < than if minimise else value > than)


def ranked(study: Study) -> pd.DataFrame:
    """Trials with a finite value, best first; those trained to the full budget before all others.

    A value reached at a low rung is not comparable with one at the full budget, so a stopped
    trial is the best only while nothing has completed. Finalists that other seeds have judged come
    before everything else, by the mean over these: their own value got them chosen, and flatters.
    One that failed with more than half of them does not: a mean of its lucky seeds flatters, too.
    """
    scored = study.trials[study.trials["value"].notna()]
    ended = study.replicates[~study.replicates["state"].isin(["running", "interrupted"])]
    tried = ended["of"].value_counts().to_dict()
    means = {n: v for n, v in _replicated(study).items() if 2 * len(v) >= tried[n]}
    return (
        scored.assign(
            _mean=scored["trial"].map({trial: sum(v) / len(v) for trial, v in means.items()}),
            _full=scored["state"] != "completed",
        )
        .sort_values(
            ["_mean", "_full", "value", "trial"],
            ascending=[study.minimise, True, study.minimise, True],
        )
        .drop(columns=["_mean", "_full"])
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


def pareto(study: Study) -> list[int]:
    """Completed trials that no other completed one beats in all objectives, first objective first.

    To beat is to be at least as good in each objective and better in one. A trial that lacks one
    of the values is left out.
    """
    done = study.trials.loc[study.trials["state"] == "completed", "trial"]
    table = study.values[study.values["trial"].isin(done)].dropna()
    signs = [1 if each["direction"] == "minimize" else -1 for each in study.objectives]
    points = table[[each["metric"] for each in study.objectives]].to_numpy(dtype=float) * signs
    free = [
        not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any() for point in points
    ]
    front = table.loc[np.array(free, dtype=bool)].sort_values(
        [study.metric, "trial"], ascending=[study.minimise, True]
    )
    return front["trial"].astype(int).tolist()


def finalists(study: Study) -> pd.DataFrame:
    """One row per finalist, best first: what it got in the search, and with other seeds.

    `single` is its value in the search; `seeds` how many replicates completed; `mean` and `sd` of
    their values, without `single`, which is the best of many and so flatters; `low` to `high` the
    95 % interval of the mean; `best` the probability that its mean is the best, as the last round
    of the race saw it; `collapsed` the share of its replicates that diverged. nan where unknown.
    """
    values = _replicated(study)
    chosen = [*study.info.get("finals", []), *study.replicates["of"]]
    numbers = [int(trial) for trial in dict.fromkeys(chosen)]
    found = posterior({trial: values.get(trial, []) for trial in numbers}, study.minimise)
    raced = {int(trial): p for trial, p in study.info.get("race", {}).get("best", {}).items()}
    single = dict(zip(study.trials["trial"], study.trials["value"], strict=True))
    rows = []
    for trial in numbers:
        states = study.replicates.loc[study.replicates["of"] == trial, "state"]
        judged = int(states.isin(["completed", "diverged"]).sum())
        rows.append(
            {
                "trial": trial,
                "single": single.get(trial, math.nan),
                "seeds": len(values.get(trial, [])),
                **{name: getattr(found, name)[trial] for name in ("mean", "sd", "low", "high")},
                "best": raced.get(trial, found.best[trial]),
                "collapsed": (states == "diverged").sum() / judged if judged else math.nan,
            }
        )
    table = pd.DataFrame(rows, columns=FINALIST_COLUMNS)
    return table.sort_values("mean", ascending=study.minimise, kind="stable", ignore_index=True)


def full_measurements(study: Study) -> pd.DataFrame:
    """One row per finalist and metric of the full protocol: what its best weights are worth.

    `value` is the mean and `sd` the standard deviation over `seeds` draws of `samples` each;
    `protocol` the short hash of how.
    """
    protocols = study.info.get("protocols") or {}
    rows = []
    for trial, told in study.info.get("full", {}).items():
        for metric, found in told["values"].items():
            digest = told["protocols"][metric]
            rows.append(
                {
                    "trial": int(trial),
                    "metric": metric,
                    **{k: math.nan if found[k] is None else found[k] for k in ("value", "sd")},
                    "seeds": len(found["each"]),
                    "samples": protocols.get(digest, {}).get("samples"),
                    "protocol": digest,
                }
            )
    return pd.DataFrame(rows, columns=FULL_COLUMNS)


def rung_agreement(study: Study) -> pd.DataFrame:
    """One row per rung below the full budget: kimg, trials, rho.

    `rho` is Spearman's rank correlation between the best value up to that rung, by which trials
    are judged there, and the final one over the completed trials: -1 to 1, nan below 5 trials or
    without spread.
    """
    done = study.trials[study.trials["state"] == "completed"].set_index("trial")["value"]
    rows = []
    known = study.metric in study.history
    start = 0.0
    for kimg in (study.info.get("rungs") or [])[:-1] if known else []:
        at = study.history["kimg"].astype(float)
        seen = study.history[(at > start) & (at <= kimg * (1 + 1e-9))]
        if _grows(study.info):
            start = kimg * (1 + 1e-9)  # measured with fewer samples up to here
        values = seen[study.metric].astype(float).groupby(seen["trial"])
        early = values.min() if study.minimise else values.max()
        both = pd.concat([early, done], axis=1, keys=["early", "final"]).dropna()
        rows.append({"kimg": float(kimg), "trials": len(both), "rho": _spearman(both)})
    return pd.DataFrame(rows, columns=["kimg", "trials", "rho"])


def grace_advice(study: Study) -> Advice | None:
    """Judge the first rung by the trials that have completed; None while they say nothing.

    It is too short if it stops trials on a correlation below 0.5, seen over at least 8 of them.
    Several objectives are not ranked by one value: None.
    """
    table = rung_agreement(study)
    if len(study.objectives) > 1 or table.empty or math.isnan(table["rho"].iloc[0]):
        return None
    kimg, trials, rho = table.iloc[0]
    cuts = (study.info.get("scheduler") or {}).get("name") != "none"
    trusted = table.loc[table["rho"] >= LONG, "kimg"]
    return Advice(
        float(kimg),
        float(rho),
        int(trials),
        survivors=bool((study.trials["state"] == "stopped").any()),
        short=cuts and rho < SHORT and trials >= 8,
        suggestion=float(trusted.iloc[0]) if len(trusted) else None,
    )


def train_config(study: Study, trial: int) -> dict[str, Any]:
    """Return one trial of a study as a configuration that `raygen train --config` accepts."""
    seeds = study.trials.set_index("trial")["seed"]
    return {
        "family": study.info["family"],
        "data": {k: v for k, v in study.info["data"]["source"].items() if v is not None},
        "objective": study.info["objective"]["metric"],
        "evaluation": {k: v for k, v in study.info["evaluation"].items() if v is not None},
        "compute": study.info.get("compute", {}),
        "seed": int(seeds[trial]),
        "kimg": study.info["budget"]["kimg"],
        "milestones": study.info["milestones"],
        **({"rungs": study.info["rungs"]} if _grows(study.info) else {}),
        "threads": max(1, int(study.info["resources"]["cpus"])),
        "trial": study.configs[trial],
    }


def _grows(info: Mapping[str, Any]) -> bool:
    """Whether trials are measured with more samples from rung to rung."""
    return bool((info.get("evaluation") or {}).get("first_samples"))


def _objectives(info: Mapping[str, Any]) -> list[dict[str, str]]:
    return info.get("objectives") or [info["objective"]]


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
        **study,
        "protocols": {**study.get("protocols", {}), **info.get("protocols", {})},
        "protocol_of": dict(study.get("protocol_of", {})),
        "retries_used": 0,
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
    row: dict[str, Any], report: Mapping[str, Any], objectives: Sequence[Mapping[str, str]]
) -> None:
    """A trial is as good as its best milestone by the first objective at which all are finite."""
    row.update(kimg=report["kimg"], seconds=report["seconds"])
    values = [report.get(each["metric"], math.nan) for each in objectives]
    minimise = objectives[0]["direction"] == "minimize"
    if not any(map(math.isnan, values)) and better(minimise, values[0], row["value"]):
        row.update(value=values[0], best_kimg=report["kimg"])


def _decided(record: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the rungs; of several objectives the value of the first, and the place taken."""
    row = {"band": 0.0, **{key: record[key] for key in RUNG_COLUMNS if key in record}}
    if isinstance(row["value"], list):
        row |= {"value": row["value"][0], "rank": record["rank"], "kept": record["kept"]}
    return row


def _values(
    info: Mapping[str, Any], trials: list[dict[str, Any]], history: list[dict[str, Any]]
) -> pd.DataFrame:
    names = [each["metric"] for each in _objectives(info)]
    reports = {(report["trial"], report["kimg"]): report for report in history}
    rows = []
    for row in trials:
        report = reports.get((row["trial"], row["best_kimg"]))
        if report is not None:
            rows.append({"trial": row["trial"], **{n: report.get(n, math.nan) for n in names}})
    return pd.DataFrame(rows, columns=["trial", *names])


def _replicated(study: Study) -> dict[int, list[float]]:
    """Values of the replicates that completed, by finalist."""
    table = study.replicates
    done = table[(table["state"] == "completed") & table["value"].notna()]
    values: dict[int, list[float]] = {}
    for trial, value in zip(done["of"].tolist(), done["value"].tolist(), strict=True):
        values.setdefault(int(trial), []).append(float(value))
    return values


def _spearman(both: pd.DataFrame) -> float:
    ranks = both.rank()
    if len(both) < NEEDED or (ranks.std() == 0).any():
        return math.nan
    return float(np.corrcoef(ranks["early"], ranks["final"])[0, 1])


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
    "Advice",
    "Study",
    "StudyFolder",
    "TrialFolder",
    "best_trial",
    "better",
    "finalists",
    "fold",
    "full_measurements",
    "grace_advice",
    "load_study",
    "pareto",
    "ranked",
    "read_records",
    "read_study",
    "rung_agreement",
    "train_config",
    "write_tables",
]
