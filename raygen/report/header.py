"""The head of the page: what was searched, and how it ended; its end: on what, at what cost."""

from datetime import UTC, datetime
from html import escape
from typing import Any

from raygen.report import leads
from raygen.report.labels import STATE_LOOKS, arrow, direction_words, metric_label, number, percent
from raygen.report.tables import compute_saved, state_counts
from raygen.results import Results
from raygen.results.notes import read_notes
from raygen.words import counted, duration

BADGES = {"finished": "✓", "running": "…", "interrupted": "◀", "failed": "✕", "crashed": "✕"}


def header(study: Results) -> str:
    """Name, state, and what was searched."""
    info = study.info
    state = str(info.get("state", "running"))
    return (
        f'<header id="top"><h1>{escape(str(info.get("name", study.folder.root.name)))} '
        f'{badge(state)}</h1><p class="lead">{escape(leads.searched(study))}</p>'
        f"{_notes(study)}</header>"
    )


def _notes(study: Results) -> str:
    lines = "".join(
        f"<li><time>{datetime.fromtimestamp(at, UTC):%Y-%m-%d}</time> {escape(text)}</li>"
        for at, text in read_notes(study.folder.root)
    )
    return f'<ul class="notes" aria-label="Notes">{lines}</ul>' if lines else ""


def study_facts(study: Results) -> str:
    """Objective, data, trials, cost, machine and start of a study."""
    facts = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(study) if value
    )
    return f'<dl class="facts main-facts">{facts}</dl>'


def badge(state: str) -> str:
    """The state of a study as a sign and a word."""
    sign = BADGES.get(state, "?")
    return f'<span class="badge badge-{escape(state)}">{sign} {escape(state)}</span>'


def _facts(study: Results) -> list[tuple[str, str]]:
    info = study.info
    direction = info["objective"]["direction"]
    data = info["data"]
    started = info.get("started")
    when = f"{datetime.fromtimestamp(started, UTC):%Y-%m-%d %H:%M} UTC" if started else ""
    classes = data.get("classes") or []
    return [
        (
            "Objective",
            f"{escape(metric_label(study.metric))} {arrow(direction)}"
            f"<small>{direction_words(direction)}{_protocol_note(study)}</small>",
        ),
        (
            "Data",
            f"{escape(str(data.get('name', '')))}<small>{number(data.get('train'))} training, "
            f"{number(data.get('test'))} test images"
            + (
                f", {counted(len(classes), 'class').replace('classs', 'classes')}"
                if classes
                else ""
            )
            + "</small>"
            if data
            else "",
        ),
        ("Trials", f"{_chips(study)}"),
        (
            "Cost",
            f"{_wall_time(info)}<small>{duration(study.spent('seconds'))} of training"
            f"{_evaluating(study)}, "
            f"{number(study.spent('kimg'))} kimg{_repeats(study)}"
            f"{_stopping(study)}{_space(study)}{_reason(info)}</small>",
        ),
        ("Machine", escape(_machine(info))),
        (
            "Started",
            f"{when}<small>seed {escape(str(info.get('seed', '—')))}{_resumed(info)}</small>",
        ),
    ]


def _evaluating(study: Results) -> str:
    share = study.evaluating
    return "" if share is None else f" ({share:.0%} of it evaluations)"


def _protocol_note(study: Results) -> str:
    key = study.info["protocol_of"].get(study.metric)
    if not key:
        return ""
    record = study.info["protocols"].get(key) or {}
    words = f", {number(record['samples'])} samples" if "samples" in record else ""
    if "encoder" in record:
        words += f", encoder {record['encoder']}"
    return f"{escape(words)}, protocol <code>{escape(str(key))}</code>"


def _wall_time(info: dict[str, Any]) -> str:
    if info["state"] == "running":
        return "not finished"
    many = f" in {counted(len(info['sessions']), 'session')}" if info["sessions"][1:] else ""
    return f"{duration(info['seconds'])} wall time{many}"


def _repeats(study: Results) -> str:
    again = study.replicates["kimg"].sum()
    return f", {number(float(again))} of it for finalists with new seeds" if again else ""


def _stopping(study: Results) -> str:
    stopped = int((study.trials["state"] == "stopped").sum())
    bill = compute_saved(study)
    if not stopped or bill.share <= 0:
        return ""
    ended = f"early stopping ended {counted(stopped, 'trial')} and saved {percent(bill.share)}"
    return f"; {ended}: {number(bill.kimg)} instead of {number(bill.kimg_full)} kimg"


def _space(study: Results) -> str:
    gone = study.checkpoints[study.checkpoints["collected"].astype(bool)]
    if gone.empty:
        return ""
    freed = number(float(gone["bytes"].sum()) / 1e6)
    return f"; {counted(len(gone), 'checkpoint')} of ended trials deleted to save {freed} MB"


def _reason(info: dict[str, Any]) -> str:
    return f"; {escape(info['reason'])}" if info["reason"] else ""


def _resumed(info: dict[str, Any]) -> str:
    """Whether a study was resumed, and how its earlier sessions ended."""
    before = [session["state"] for session in info["sessions"][:-1]]
    if not before:
        return ""
    ended = escape(", ".join(before))
    return f"; resumed {counted(len(before), 'time')} (earlier sessions: {ended})"


def _chips(study: Results) -> str:
    total = study.info["budget"].get("trials")
    counts = state_counts(study)
    states = " ".join(
        f'<span class="state state-{state}"><i>{STATE_LOOKS[str(state)].glyph}</i> {count} '
        f"{STATE_LOOKS[str(state)].text}</span>"
        for state, count in counts.items()
    )
    asked = f" of {number(total)}" if total and total != study.begun else ""
    asked += f" + {counted(study.copies, 'copy', 'copies')}" if study.copies else ""
    retries = study.info["retries_used"]
    again = f"<br>lost and retried: {counted(retries, 'time')}" if retries else ""
    moves = study.info["moves"]
    again += f"<br>saved and moved to another machine: {counted(moves, 'time')}" if moves else ""
    return f"{study.begun}{asked}<small>{states}{again}</small>"


def _machine(info: dict[str, Any]) -> str:
    env, resources = info["environment"], info["resources"]
    parts = [str(env["device"])] if env.get("device") else []
    workers = resources.get("workers")
    if isinstance(workers, dict):
        parts.append(f"{workers['min']} to {workers['max']} workers per trial")
    elif workers:
        parts.append(counted(int(workers), "worker") + " per trial")
    return ", ".join(parts)
