"""The table of the finalists: what the search said of each, and what other seeds say."""

from html import escape

from raygen.report.blocks import scroll
from raygen.report.labels import ABSENT, arrow, number, percent, short_metric
from raygen.results import Study, finalists


def finalists_table(study: Study) -> str:
    """One row per finalist, best first."""
    metric = f"{short_metric(study.metric)} {arrow(study.info['objective']['direction'])}"
    heads = ["trial", f"{metric} in the search", "other seeds", "their mean", "sd",
             "95 % interval", "probability best", "diverged"]  # fmt: skip
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    rows = []
    for row in finalists(study).to_dict("records"):
        known = row["low"] == row["low"]
        cells = [
            number(row["single"]),
            str(row["seeds"]),
            f"<strong>{number(row['mean'])}</strong>",
            number(row["sd"], 3),
            f"{number(row['low'])} to {number(row['high'])}" if known else ABSENT,
            _share(row["best"]),
            _share(row["collapsed"]),
        ]
        link = f'<td><a href="#trial-{row["trial"]}">{row["trial"]}</a></td>'
        rows.append(f"<tr>{link}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return scroll("finalists", table)


def _share(value: float) -> str:
    return percent(value) if value == value else ABSENT
