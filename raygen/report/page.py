"""One study folder -> one HTML file that opens from disk, years later, without a network."""

import shlex
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from raygen.errors import our_bug
from raygen.files import json_values, write_text
from raygen.report.charts import CHARTS
from raygen.report.filter_bar import filter_bar
from raygen.report.frame import document, figure_data
from raygen.report.header import header
from raygen.report.labels import STATE_LOOKS, arrow, short_metric, short_names
from raygen.report.samples import sample_strips
from raygen.report.sections import SECTIONS
from raygen.report.tables import varying
from raygen.results import Results, load_results, ranked
from raygen.results.liveness import cut_short

SCRIPTS = (
    "core",
    "pictures",
    "address",
    "charts",
    "parallel",
    "table",
    "actions",
)  # one scope, in this order


def write_report(
    study_path: Path, output: Path | None = None, refresh: float | None = None
) -> Path:
    """Write the report of a study and return where; default reports/<folder name>.html.

    The same study folder gives the same bytes. The file appears in one step. While the study runs
    an open page loads itself again every `refresh` seconds.

    Raises:
        InputError: the folder holds no readable study.
    """
    target = output or page_path(study_path)
    write_page(load_results(study_path), target, refresh)
    return target


def write_page(study: Results, target: Path, refresh: float | None = None) -> None:
    """Write the page of a study that was read; `refresh` as in `write_report`."""
    write_text(target, render_page(study, refresh if study.info["state"] == "running" else None))


def page_path(study_path: Path) -> Path:
    """Where the page of a study goes by default."""
    return Path("reports") / f"{study_path.resolve().name}.html"


def render_page(study: Results, refresh: float | None = None) -> str:
    """The whole page as text; `refresh` as in `write_report`."""
    study = cut_short(study)
    name = str(study.info.get("name", study.folder.root.name))
    links = "".join(f'<a href="#{part.key}">{part.title}</a>' for part in SECTIONS)
    top = _drawn(lambda: header(study), f"<header><h1>{escape(name)}</h1>{{}}</header>")
    bar = _drawn(lambda: filter_bar(study), "{}")
    first, *others = (_section(study, number) for number in range(len(SECTIONS)))
    body = (
        '<a class="skip" href="#verdict">Skip to the verdict</a>'
        f'<nav aria-label="Contents"><div>{links}'
        '<button type="button" id="scheme" class="needs-js">Dark</button></div></nav>'
        f"<main>{top}{first}{bar}{''.join(others)}</main>"
        '<aside id="selection" aria-label="Selected trial" aria-live="polite" hidden></aside>'
        '<div id="hover" aria-hidden="true" hidden></div>'
        '<dialog id="lightbox" aria-label="enlarged picture"></dialog>'
    )
    content = {**page_data(study), "refresh": refresh}
    return document(name, body, SCRIPTS, content, charts=True)


def page_data(study: Results) -> dict[str, Any]:
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
        "replicates": _table(study.replicates),
        "settings": short_names(parameter.name for parameter in varying(study)),
        "starts": int(study.info.get("start_trials") or 0),
        "strips": sample_strips(study),
        "states": {state: f"{look.glyph} {look.text}" for state, look in STATE_LOOKS.items()},
        "figures": {chart.name: _figure(study, chart.draw) for chart in CHARTS},
    }


def _section(study: Results, number: int) -> str:
    part = SECTIONS[number]
    try:
        lead, body = part.html(study)
    except Exception as error:  # a bug of ours in one section must not take the page with it
        lead, body = _broken(error), ""
    empty = "" if body else ' class="empty"'
    return (
        f'<section id="{part.key}"{empty} aria-labelledby="title-{part.key}">'
        f'<h2 id="title-{part.key}">{part.title}</h2>'
        f'<p class="lead">{escape(lead)}</p>{body}</section>'
    )


def _figure(study: Results, draw: Callable[[Results], Any]) -> dict[str, Any]:
    """A figure, or an empty one with the reason why it could not be drawn."""
    try:
        return figure_data(draw(study))
    except Exception as error:  # as for a section
        text = {
            "text": escape(_broken(error)),
            "showarrow": False,
            "xref": "paper",
            "yref": "paper",
        }
        return {"data": [], "layout": {"annotations": [text]}}


def _drawn(html: Callable[[], str], instead: str) -> str:
    """A part of the page, or the reason why it could not be drawn, put into `instead`."""
    try:
        return html()
    except Exception as error:  # as for a section
        return instead.format(f'<p class="warning">! {escape(_broken(error))}</p>')


def _broken(error: Exception) -> str:
    return f"This part could not be drawn: {our_bug(error)}. The study itself is intact."


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    columns = [json_values(frame[name].tolist()) for name in frame.columns]
    return {
        "columns": list(frame.columns),
        "rows": [list(row) for row in zip(*columns, strict=True)],
    }
