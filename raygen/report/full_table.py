"""The table of the finalists measured in full: many samples, several draws, both splits."""

from html import escape

import pandas as pd

from raygen.report.blocks import scroll
from raygen.report.labels import number
from raygen.results import Study, full_measurements


def full_table(study: Study) -> str:
    """One row per finalist, one column per metric: mean ± SD over draws; "" if none was measured.

    A column holds values of one protocol: a finalist that was measured in another way, in another
    session, has a column of its own.
    """
    table = full_measurements(study)
    if table.empty:
        return ""
    columns = list(dict.fromkeys(zip(table["metric"], table["protocol"], strict=True)))
    heads = []
    for metric, protocol in columns:
        mine = table[(table["metric"] == metric) & (table["protocol"] == protocol)].iloc[0]
        # Bounds of the likelihood have no samples: None where no metric of the table has any.
        samples = f"{mine['samples']:,.0f} samples, " if pd.notna(mine["samples"]) else ""
        draws = "1 draw" if mine["seeds"] == 1 else f"{mine['seeds']} draws"
        how = f"{samples}{draws}, <code>{escape(str(protocol))}</code>"
        heads.append(f'<th scope="col">{escape(metric)}<br><small>{how}</small></th>')
    rows, again = [], study.replicates.set_index("trial").to_dict("index")
    for trial, mine in table.groupby("trial", sort=False):
        cells = {
            (row["metric"], row["protocol"]): number(row["value"])
            + (f" ± {number(row['sd'], 2)}" if row["sd"] == row["sd"] else "")
            for row in mine.to_dict("records")
        }
        text = "".join(f"<td>{cells.get(column, '')}</td>" for column in columns)
        row = again.get(trial)
        name = f'<a href="#trial-{trial}">{trial}</a>'
        if row is not None:
            name = f'<a href="#trial-{row["of"]}">{row["of"]}</a>, seed {row["seed"]}'
        rows.append(f"<tr><td>{name}</td>{text}</tr>")
    whole = (
        f'<table><thead><tr><th scope="col">trial</th>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return "<p>Measured afresh, on other samples than those that chose them:</p>" + scroll(
        "finalists in full", whole
    )
