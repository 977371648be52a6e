"""The figures of search_quality.py as one page: a chart of all differences, and every table."""

from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from raygen.files import write_text
from raygen.report.blocks import chart, html_table
from raygen.report.frame import document, figure_data
from raygen.report.labels import number
from raygen.words import duration

TITLE = "What a search finds for its compute"


def write_page(report: dict[str, Any], path: Path) -> None:
    """Write the page of one report, as `--out` holds it."""
    lead = verdict(report)
    sections = [_section("Difference to each method", lead, chart("versus", TITLE, lead))]
    for name, tables in report["experiments"].items():
        for table, result in tables.items():
            title = f"{name}: {table}"
            text = (
                f"Full trainings are counted until the median stays at {number(result['target'])}."
            )
            sections.append(_section(title, text, _table(result)))
    facts = report["facts"]
    known = [f"{name} {value}" for name, value in facts["versions"].items()]
    text = f"{facts['date']}, {facts['machine']}, {duration(facts['seconds'])}; {', '.join(known)}."
    head = (
        f'<header><p class="kicker">raygen benchmark</p><h1>{TITLE}</h1>'
        f'<p class="lead">{escape(text)}</p></header>'
    )
    data = {"figures": {"versus": figure_data(figure(report))}}
    body = f"<main>{head}{''.join(sections)}</main><dialog id='lightbox'></dialog>"
    write_text(path, document(TITLE, body, ("versus",), data, charts=True))


def verdict(report: dict[str, Any]) -> str:
    """In how many comparisons the default is better, worse, or neither."""
    better = worse = unclear = 0
    for experiment, _, _, difference in _differences(report):
        if experiment == "ablation":  # there the default is compared with itself
            continue
        better += difference["high"] < 0
        worse += difference["low"] > 0
        unclear += difference["low"] <= 0 <= difference["high"]
    return (
        f"The default is better in {better} comparisons, worse in {worse}, and in {unclear} the "
        "interval of 95% contains no difference. Below 0 the default is better."
    )


def figure(report: dict[str, Any]) -> go.Figure:
    """A point and its interval for each table and method."""
    drawn = go.Figure()
    rows: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for experiment, table, method, difference in _differences(report):
        if experiment in ("headline", "public"):
            rows.setdefault(table, []).append((method, difference))
    for table, each in rows.items():
        middle = [100 * difference["mean"] for _, difference in each]
        drawn.add_scatter(
            x=middle, y=[f"{table} against {method}" for method, _ in each], mode="markers",
            name=table, meta={"role": "best"},
            error_x={
                "type": "data", "symmetric": False,
                "array": [100 * d["high"] - m for (_, d), m in zip(each, middle, strict=True)],
                "arrayminus": [m - 100 * d["low"] for (_, d), m in zip(each, middle, strict=True)],
            },
        )  # fmt: skip
    height = 120 + 22 * sum(len(each) for each in rows.values())
    drawn.update_layout(height=height, showlegend=False, margin={"l": 260, "t": 20})
    drawn.update_xaxes(title="difference of the default, %", zeroline=True)
    drawn.update_yaxes(autorange="reversed", automargin=True)
    return drawn


def _differences(report: dict[str, Any]) -> list[tuple[str, str, str, dict[str, float]]]:
    """Experiment, table, method, and the difference of the default to it."""
    rows = []
    for experiment, tables in report["experiments"].items():
        for table, result in tables.items():
            first, *others = result["methods"]
            for method in others:
                difference = result["methods"][method][f"{first}_against"]
                if None not in difference.values():
                    rows.append((experiment, table, method, difference))
    return rows


def _table(result: dict[str, Any]) -> str:
    first = next(iter(result["methods"]))
    parts = next(iter(result["methods"].values()))["median_at"]
    head = ["method", *(f"{float(part):.0%} of the compute" for part in parts)]
    head += [f"{first} against it", "to the target", "on diverged", "trials", "to the end", "CPU s"]
    rows = []
    for name, each in result["methods"].items():
        difference = each[f"{first}_against"].values()
        interval = "—"
        if name != first and None not in difference:
            mean, low, high = (100 * value for value in difference)
            interval = f"{mean:+.1f}% [{low:+.1f}, {high:+.1f}]"
        reach = "never" if each["to_target"] is None else f"{each['to_target']:.1f}"
        rows.append(
            [name, *(number(value) for value in each["median_at"].values()), interval, reach,
             f"{each['diverged_share']:.1%}", number(each["trials"]), number(each["completed"]),
             number(each["cpu_seconds"], 2)]
        )  # fmt: skip
    return html_table(head, rows)


def _section(title: str, lead: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p class='lead'>{escape(lead)}</p>{body}</section>"
