"""The progress of a study, now or at an earlier time, as plain values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from raygen.journal import Record, read_study
from raygen.journal.records import OfTrial, Reopen, Retry, Start
from raygen.results import (
    Results,
    best_model,
    dollars_of,
    failed,
    finalists,
    fold,
    fresh,
    gpus_of,
    grace_advice,
    pareto,
    ranked,
)
from raygen.results.liveness import state_now
from raygen.status.moment import until
from raygen.study_folder import StudyFolder


def status(path: Path, at: str | None = None) -> dict[str, Any]:
    """The progress of a study, now or at a time, as plain JSON values; None where unknown.

    `state` is finished, interrupted, failed (`reason` may say why), running, or crashed: never
    closed, and no process on this machine has it open. `running` lists the trials that have not
    ended, `silent` being the seconds since a trial's last record; `front` is that of several
    objectives; `model` is the checkpoint to use. `budget` has what is limited, with what was `used`
    of it (of the target: the best value); `evaluating` is the share of the training time that
    evaluations took. Times are unix seconds, durations seconds.

    Raises:
        InputError: the folder holds no readable study, or `at` is not understood.
    """
    records = read_study(path, strict=True)
    kept, moment = until(records, at)
    study = fold(StudyFolder(path), kept)
    info = study.info
    state = _state(study, records[len(kept) :])
    running = _running(study, kept, moment)
    live = state == "running"
    seconds = info["seconds"] + live * max(0.0, moment - (kept[-1].time or 0.0))
    worked = _worked(study, running if live else ())
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
        "model": _model(study),
        "front": pareto(study) if len(study.objectives) > 1 else None,
        "budget": _budget(study, seconds, worked),
        "evaluating": study.evaluating,
        "retries": {"used": info["retries_used"], "in_a_row": info["recovery"].get("retries")},
        "moved": info["moves"],
        "finalists": [
            {key: None if pd.isna(value) else value for key, value in row.items()}
            for row in finalists(study).to_dict("records")
        ],
        "advice": advice and {"text": advice.text, "action": advice.action},
        "command": info.get("resume_command") if goes_on else None,
    }


def _state(study: Results, later: Sequence[Record]) -> str:
    """The state at the moment that was asked for; `later` are the records after it."""
    if later and study.info["state"] == "running":
        return "crashed" if isinstance(later[0], Reopen) else "running"
    return state_now(study.folder, study.info)


def _running(study: Results, records: Sequence[Record], moment: float) -> list[dict[str, Any]]:
    heard: dict[int, float] = {}
    attempt: dict[int, int] = {}
    for record in records:
        if isinstance(record, OfTrial):
            heard[record.trial] = record.time or 0.0
        if isinstance(record, Start | Retry):
            attempt[record.trial] = record.attempt
    full = study.info["budget"].get("kimg")
    nodes = dict(zip(study.trials["trial"], study.trials["node"], strict=True))
    return [
        {
            "trial": row["trial"],
            "of": row.get("of"),
            "kimg": float(row["kimg"]),
            "budget": full,
            "silent": max(0.0, moment - heard[row["trial"]]),
            "attempt": attempt.get(row["trial"], 1),
            "node": nodes.get(row["trial"]),
        }
        for table in (study.trials, study.replicates)
        for row in table[table["state"] == "running"].to_dict("records")
    ]


def _best(study: Results) -> dict[str, Any] | None:
    order = ranked(study)
    if order.empty:
        return None
    first = order.iloc[0]
    best = {"trial": int(first["trial"]), "value": float(first["value"])}
    best |= {"kimg": float(first["best_kimg"]), "state": str(first["state"])}
    for row in finalists(study).to_dict("records"):
        if row["trial"] == best["trial"] and row["seeds"]:
            best |= {"mean": row["mean"], "seeds": row["seeds"]}
    return best


def _model(study: Results) -> dict[str, Any] | None:
    """The checkpoint to use, its value when it was chosen, and on new samples."""
    model = best_model(study)
    if model is None:
        return None
    measured = (fresh(study, model) or {}).get(study.metric, {})
    reason = failed(study).get(model.run)
    return {
        **model._asdict(),
        "words": model.words,
        "afresh": measured.get("value"),
        "failed": reason,
        "left_out": study.info["left_out"],
    }


def _worked(study: Results, running: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of workers by the kind of their GPU, with those since the last record."""
    worked = dict(study.info["worked"])
    latest = study.runs.drop_duplicates("trial", keep="last").set_index("trial")
    for row in running:
        if row["trial"] in latest.index:
            run = latest.loc[row["trial"]]
            more = row["silent"] * float(run["workers"])
            worked[run["accelerator"]] = worked.get(run["accelerator"], 0.0) + more
    return worked


def _budget(
    study: Results, seconds: float, worked: dict[str, float]
) -> dict[str, dict[str, float | None]]:
    limits = study.info["budget"]
    value = ranked(study)["value"]
    used = {
        "trials": study.begun,
        "hours": seconds / 3600,
        "gpu_hours": sum(worked.values()) * gpus_of(study.info) / 3600,
        "dollars": dollars_of(study.info, worked),
        "total_kimg": study.spent("kimg"),
        "target": float(value.iloc[0]) if len(value) else None,
    }
    return {
        name: {"used": amount, "limit": limits[name]}
        for name, amount in used.items()
        if limits.get(name) is not None
    }
