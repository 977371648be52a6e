"""One study folder -> one HTML file that opens from disk, years later, without a network."""

import json
import math
import shlex
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from raygen.report.figures import FIGURES
from raygen.report.filter_bar import filter_bar
from raygen.report.header import header
from raygen.report.labels import STATE_LOOKS, arrow, short_metric, short_names
from raygen.report.sections import SECTIONS
from raygen.report.tables import varying
from raygen.results import Study, load_study, ranked

# No network, no plug-ins, no frames: the page can only show what it carries.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
SCRIPTS = ("core", "charts", "parallel", "table", "actions")  # one scope, in this order
DIGITS = 6  # significant digits of a number in a figure


def write_report(study_path: Path, output: Path | None = None) -> Path:
    """Write the report of a study and return where; default reports/<folder name>.html.

    The same study folder gives the same bytes. The file appears in one step.

    Raises:
        InputError: the folder holds no readable study.
    """
    study = load_study(study_path)
    target = output or Path("reports") / f"{study_path.resolve().name}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(render(study), encoding="utf-8")
    partial.replace(target)
    return target


def render(study: Study) -> str:
    """The whole page as text."""
    name = escape(str(study.info.get("name", study.folder.root.name)))
    links = "".join(f'<a href="#{part.key}">{part.title}</a>' for part in SECTIONS)
    body = "".join(_section(study, number) for number in range(len(SECTIONS)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{name} · raygen report</title><style>{_asset('page.css')}</style></head><body>"
        f'<nav aria-label="Sections"><div>{links}</div></nav>'
        f"<main>{header(study)}{filter_bar(study)}{body}</main>"
        '<aside id="selection" aria-label="Selected trial" aria-live="polite" hidden></aside>'
        '<div id="hover" aria-hidden="true" hidden></div>'
        '<dialog id="lightbox" aria-label="enlarged picture"></dialog>'
        f'<script type="application/json" id="data">{embed(page_data(study))}</script>'
        f"<script>{get_plotlyjs()}</script><script>{_script()}</script></body></html>\n"
    )


def page_data(study: Study) -> dict[str, Any]:
    """Everything the scripts work on: both tables in full, and the figures."""
    return {
        "name": str(study.info.get("name", "study")),
        "metric": short_metric(study.metric),
        "objective": study.metric,
        "arrow": arrow(study.info["objective"]["direction"]),
        "folder": shlex.quote(str(study.folder.root)),
        "rank": [int(trial) for trial in ranked(study)["trial"]],
        "trials": _table(study.trials),
        "history": _table(study.history),
        "settings": short_names(parameter.name for parameter in varying(study)),
        "states": {state: f"{look.glyph} {look.text}" for state, look in STATE_LOOKS.items()},
        "figures": {name: figure_data(draw(study)) for name, draw in FIGURES.items()},
    }


def figure_data(figure: Any) -> dict[str, Any]:
    """A figure as plain JSON values, without its template: the page has one for all."""
    spec = figure.to_plotly_json()
    spec["layout"].pop("template", None)
    return plain({"data": spec["data"], "layout": spec["layout"]}, DIGITS)


def plain(value: Any, digits: int | None = None) -> Any:
    """Numpy and nested values as JSON values; nan and infinity become null."""
    if isinstance(value, dict):
        return {str(key): plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if hasattr(value, "tolist"):  # numpy scalar or array
        return plain(value.tolist(), digits)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{digits}g}") if digits else value
    return value if isinstance(value, bool | int | str | None) else str(value)


def embed(value: Any) -> str:
    """JSON that no text inside can break out of: every < is written as an escape."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _section(study: Study, number: int) -> str:
    part = SECTIONS[number]
    lead, body = part.html(study)
    return (
        f'<section id="{part.key}" aria-labelledby="title-{part.key}">'
        f'<h2 id="title-{part.key}">{part.title}</h2>'
        f'<p class="lead">{escape(lead)}</p>{body}</section>'
    )


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    columns = [plain(frame[name].tolist()) for name in frame.columns]
    return {
        "columns": list(frame.columns),
        "rows": [list(row) for row in zip(*columns, strict=True)],
    }


def _script() -> str:
    parts = "".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _asset(name: str) -> str:
    return files("raygen.report").joinpath(name).read_text(encoding="utf-8")
