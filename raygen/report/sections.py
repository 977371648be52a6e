"""The sections of the page, in reading order: study -> HTML. Each opens with its answer."""

import json
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

from raygen.document import flatten
from raygen.report import leads
from raygen.report.blocks import code
from raygen.report.charts.budget import budget_section
from raygen.report.charts.curves import curves_section
from raygen.report.charts.finalists import finalists_section
from raygen.report.charts.importance import importance_section
from raygen.report.charts.parallel import parallel_section
from raygen.report.charts.progress import progress_section
from raygen.report.charts.slices import slices_section
from raygen.report.charts.timeline import timeline_section
from raygen.report.charts.tradeoffs import tradeoffs_section
from raygen.report.comparison import comparison
from raygen.report.header import study_facts
from raygen.report.health_checks import health
from raygen.report.labels import metric_label, setting
from raygen.report.samples import samples_section
from raygen.report.trials_table import trials_table
from raygen.report.uses import audit_section, augment_section
from raygen.report.verdict import verdict_section
from raygen.results import Results
from raygen.words import counted

CHECK_MARKS = {"pass": ("✓", "PASS"), "warn": ("!", "WARN"), "open": ("·", "OPEN")}


class Section(NamedTuple):
    """One part of the page; `html` returns the lead sentence (plain text) and the body."""

    key: str
    title: str
    html: Callable[[Results], tuple[str, str]]


def health_section(study: Results) -> tuple[str, str]:
    """Whether the result can be trusted."""
    checks = health(study)
    rows = "".join(
        f'<tr class="check-{check.state}"><td><b class="mark">{CHECK_MARKS[check.state][0]}</b> '
        f'{CHECK_MARKS[check.state][1]}</td><th scope="row">{escape(check.name)}</th>'
        f"<td>{escape(check.text)}{f' <em>{escape(check.action)}</em>' if check.action else ''}"
        "</td></tr>"
        for check in checks
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("result", "check", "finding"))
    body = (
        f'<table class="checks"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        if checks
        else ""
    )
    return leads.checks(study), body


def trials_section(study: Results) -> tuple[str, str]:
    """Everything, as a table."""
    if study.trials.empty:
        return "No trial has started yet.", ""
    return leads.trials(study), trials_table(study)


def reproduce_section(study: Results) -> tuple[str, str]:
    """Everything needed to run this study again."""
    info = study.info
    data = info["data"]
    facts = {
        "seed": info.get("seed"),
        "data": data.get("name"),
        "data fingerprint": data.get("fingerprint"),
        "space file": info.get("space_file"),
        "space hash": info.get("space_hash"),
        "sampler": info["sampler"].get("name"),
        "scheduler": _pairs(info.get("scheduler")),
        "budget": _pairs(info.get("budget")),
        "resources": _pairs(info.get("resources")),
        "earlier studies": _taught(info.get("warm") or {}),
        "changed on resuming": _changes(info["sessions"]),
        "raygen": info.get("raygen"),
        **info["environment"],
    }
    rows = "".join(
        f"<div><dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    command = code(str(info["command"])) if info.get("command") else ""
    downloads = "".join(
        f'<button type="button" class="toggle-button" data-download="{name}">{name}.csv</button>'
        for name in ("trials", "history", *(["replicates"] if len(study.replicates) else []))
    )
    space = study.folder.space
    text = space.read_text(encoding="utf-8", errors="replace") if space.is_file() else ""
    parts = [
        command,
        study_facts(study),
        f'<dl class="facts">{rows}</dl>',
        _protocols(info["protocols"]),
        f"<details><summary>Search space (YAML)</summary>{code(text)}</details>" if text else "",
        f'<p class="controls needs-js">Download {downloads}</p>',
    ]
    return leads.reproduce(study), "".join(parts)


SECTIONS = [
    Section("verdict", "Verdict", verdict_section),
    Section("health", "Health checks", health_section),
    Section("best", "Best configurations", comparison),
    Section("finalists", "Finalists", finalists_section),
    Section("samples", "Samples", samples_section),
    Section("progress", "Search progress", progress_section),
    Section("curves", "Learning curves", curves_section),
    Section("budget", "Budget and quality", budget_section),
    Section("importance", "Importance", importance_section),
    Section("parallel", "Combinations", parallel_section),
    Section("slices", "Slices", slices_section),
    Section("tradeoffs", "Trade-offs", tradeoffs_section),
    Section("augment", "Generated data", augment_section),
    Section("audit", "Copying", audit_section),
    Section("timeline", "Timeline", timeline_section),
    Section("trials", "Trials", trials_section),
    Section("reproduce", "Reproduce", reproduce_section),
]


def _protocols(records: dict[str, Any]) -> str:
    if not records:
        return ""
    blocks = "".join(
        f"<h4><code>{escape(key)}</code> {escape(metric_label(str(record.get('metric', ''))))}</h4>"
        f'<dl class="facts">'
        + "".join(
            f"<div><dt>{escape(str(name))}</dt><dd>{escape(_short(value))}</dd></div>"
            for name, value in sorted(record.items())
        )
        + "</dl>"
        for key, record in sorted(records.items())
    )
    return f"<details><summary>Measurement protocols</summary>{blocks}</details>"


def _short(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else setting(value)


def _taught(studies: dict[str, dict[str, int]]) -> str:
    return ", ".join(
        f"{name} ({counted(n['told'], 'trial')} used, {n['points']} tried again)"
        for name, n in studies.items()
    )


def _changes(sessions: list[dict[str, Any]]) -> str:
    """What was changed when the study was resumed: "budget.trials 16 → 32"."""
    changes = []
    for session in sessions:
        for key, (old, new) in session.get("changed", {}).items():
            before, after = flatten({key: old}), flatten({key: new})
            changes += [
                f"{name} {_short(before.get(name))} → {_short(after.get(name))}"
                for name in {**before, **after}
                if before.get(name) != after.get(name)
            ]
    return ", ".join(changes)


def _pairs(record: dict[str, Any] | None) -> str:
    return ", ".join(f"{key} {setting(value)}" for key, value in (record or {}).items())
