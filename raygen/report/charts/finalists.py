"""Finalists: their values in the search, with new seeds, and measured in full."""

import math
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.posterior import holm, scatters
from raygen.report.blocks import chart, note, scroll
from raygen.report.charts.chart import Chart
from raygen.report.contrast import seed_values
from raygen.report.drawing import BEST, SINGLE, axis_title, layout, python_values, selected
from raygen.report.gains import against
from raygen.report.labels import (
    ABSENT,
    STATE_LOOKS,
    arrow,
    interval_words,
    number,
    percent,
    short_metric,
)
from raygen.report.tables import at_best, judged
from raygen.results import ERROR, Results, finalists, full_measurements
from raygen.words import counted


def finalists_table(study: Results) -> pd.DataFrame:
    """One row per value of a finalist: trial, seed, state, value; `state` single: in the search.

    A replicate that diverged has the best value it reached; the means leave it out.
    """
    columns = ["trial", "seed", "state", "value"]
    chosen = finalists(study)["trial"]
    single = study.trials[study.trials["trial"].isin(chosen)].assign(state="single")[columns]
    again = study.replicates.drop(columns="trial").rename(columns={"of": "trial"})[columns]
    return pd.concat([single, again], ignore_index=True).dropna(subset="value")


def finalists_figure(means: pd.DataFrame, table: pd.DataFrame, info: dict[str, Any]) -> go.Figure:
    """Each finalist: its value in the search, with new seeds, and their mean with its interval.

    `means` as `results.finalists`, `table` as `finalists_table`.
    """
    place = {trial: row for row, trial in enumerate(means["trial"])}
    table = table.assign(place=table["trial"].map(place))
    figure = go.Figure()
    repeated = means[means["seeds"] > 0].assign(place=lambda t: t["trial"].map(place))
    half = (repeated["high"] - repeated["mean"]).fillna(0)
    figure.add_trace(
        go.Scatter(
            x=python_values(repeated["mean"]),
            y=python_values(repeated["place"]),
            customdata=[int(trial) for trial in repeated["trial"]],
            mode="markers",
            name="mean over new seeds, 95% interval",
            marker={"symbol": "square", "size": 11, "color": BEST[0]},
            error_x={"type": "data", "array": python_values(half), "thickness": 2, "width": 6},
            hovertemplate="trial %{customdata}<br>mean %{x:.4g}<extra></extra>",
            meta={"role": "accent", "linked": True},
        )
    )
    looks = [
        ("completed", "new seed", "circle-open", BEST[0], "accent"),
        ("diverged", "new seed, diverged", STATE_LOOKS["diverged"].symbol,
         STATE_LOOKS["diverged"].colour, "state-diverged"),
        ("single", "in the search (one seed)", "diamond-open", SINGLE, "single"),
    ]  # fmt: skip
    for state, name, symbol, colour, role in looks:
        rows = table[table["state"] == state]
        if len(rows):
            figure.add_trace(
                go.Scatter(
                    x=python_values(rows["value"]),
                    y=python_values(rows["place"]),
                    customdata=[int(trial) for trial in rows["trial"]],
                    text=[str(seed) for seed in rows["seed"]],
                    mode="markers",
                    name=name,
                    marker={"symbol": symbol, "size": 10, "color": colour},
                    hovertemplate="trial %{customdata}, seed %{text}<br>%{x:.4g}<extra></extra>",
                    meta={"role": role, "linked": True},
                )
            )
    figure.add_trace(selected("markers"))
    title = axis_title(short_metric(info["objective"]["metric"]), info)
    layout(figure, title, "", None, height=130 + 44 * len(means))
    ticks = [f"trial {trial}  " for trial in means["trial"]]
    figure.update_yaxes(
        tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.4, -0.6],
        automargin=True, showgrid=False,
    )  # fmt: skip
    return figure


def finalists_sentence(study: Results) -> tuple[str, bool]:
    """How the best did with new seeds, and whether there is a chart to draw."""
    table = finalists(study)
    if table.empty:
        valued = bool(study.trials["value"].notna().any())
        end = ": every value is one seed." if valued else "."
        if len(study.objectives) > 1:
            why = "where several objectives are traded off, no one value says which is the best"
            return f"There are no finalists: {why}{end}", False
        return f"No trial was retrained with new seeds{end}", False
    rows = list(judged(study).values())
    if not rows:
        chosen = counted(len(table), "finalist")
        return f"{chosen} to be retrained with new seeds; no run has finished yet.", True
    best = rows[0]
    text = (
        f"With new seeds, trial {int(best['trial'])} is the best of "
        f"{counted(len(table), 'finalist')}: {number(best['mean'])} over "
        f"{counted(int(best['seeds']), 'seed')}{interval_words(best['low'], best['high'])}, "
        + against(
            study, best["mean"], best["single"], f"its {number(best['single'])} in the search"
        )
    )
    if pd.notna(best["best"]) and len(table) > 1:
        text += f"; it is the best with probability {percent(best['best'])}"
    broken = int((study.replicates["state"] == "diverged").sum())
    if broken:
        text += f"; {counted(broken, 'run')} of {len(study.replicates)} diverged"
    over = (study.info.get("race") or {}).get("settled")
    return text + ("." if over else ". The race is not over."), True


def finalists_section(study: Results) -> tuple[str, str]:
    """How the best trials did with new seeds."""
    lead, drawable = finalists_sentence(study)
    if not drawable:
        return lead, ""
    remark = (
        '<p class="note">Search values are optimistic (best of many) and are not part of the '
        "means. Intervals and probabilities: Student's t with each finalist's own variance, to "
        "which the pooled one of all counts as one more value (Smyth 2004). Means are over "
        "completed runs; &ldquo;diverged&rdquo; is the share of runs that diverged.</p>"
    )
    tables = means_html(study) + full_measurements_html(study)
    return lead, chart("finalists", "Finalists", lead) + tables + remark + note(
        scatter_words(study)
    )


def scatter_words(study: Results) -> str:
    """How much of the scatter between seeds comes from the samples alone; "" if unknown."""
    numbers = [int(trial) for trial in finalists(study)["trial"]]
    scatter = scatters({trial: seed_values(study, trial) for trial in numbers})
    errors = [at_best(study, trial).get(study.metric + ERROR) for trial in numbers]
    known = [float(error) ** 2 for error in errors if error is not None and error == error]
    whole = sum(each.variance for each in scatter.values()) / max(1, len(scatter))
    if not known or not whole:
        return ""
    share = min(1.0, sum(known) / len(known) / whole)
    return (
        f"Of the variance between seeds {percent(share)} comes from drawing new samples, the rest "
        "from training with another seed."
    )


def means_html(study: Results) -> str:
    """One row per finalist, best first: the search against the mean over new seeds."""
    metric = f"{short_metric(study.metric)} {arrow(study.info['objective']['direction'])}"
    rows_of = finalists(study).to_dict("records")
    values = {int(row["trial"]): seed_values(study, int(row["trial"])) for row in rows_of}
    first = int(rows_of[0]["trial"])
    same = holm(values, first) if values[first] else {}
    heads = ["trial", f"{metric} in the search", "new seeds", "mean", "range", "SD",
             "95% interval", "probability best", f"p against {first} (Holm)",
             "diverged"]  # fmt: skip
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    rows = []
    for row in rows_of:
        each = values[int(row["trial"])]
        p = same.get(int(row["trial"]), math.nan)
        bounds = f"{number(row['low'])} to {number(row['high'])}"
        cells = [
            number(row["single"]),
            str(row["seeds"]),
            f"<strong>{number(row['mean'])}</strong>",
            f"{number(min(each))} to {number(max(each))}" if each else ABSENT,
            number(row["sd"], 3),
            bounds if pd.notna(row["low"]) else ABSENT,
            percent(row["best"]) if pd.notna(row["best"]) else ABSENT,
            number(p, 2),
            percent(row["collapsed"]) if pd.notna(row["collapsed"]) else ABSENT,
        ]
        link = f'<td><a href="#trial-{row["trial"]}">{row["trial"]}</a></td>'
        rows.append(f"<tr>{link}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    html = f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return scroll("finalists", html)


def full_measurements_html(study: Results) -> str:
    """One row per finalist, one column per metric: mean ± SD over draws; "" if none was measured.

    Measured in full: many samples, several draws, both splits. A column holds values of one
    protocol: a finalist that was measured in another way, in another session, has a column of its
    own.
    """
    table = full_measurements(study)
    if table.empty:
        return ""
    columns = list(dict.fromkeys(zip(table["metric"], table["protocol"], strict=True)))
    heads = []
    for metric, protocol in columns:
        same = table[(table["metric"] == metric) & (table["protocol"] == protocol)].iloc[0]
        # Bounds of the likelihood have no samples: None where no metric of the table has any.
        samples = f"{same['samples']:,.0f} samples, " if pd.notna(same["samples"]) else ""
        draws = "1 draw" if same["seeds"] == 1 else f"{same['seeds']} draws"
        how = f"{samples}{draws}, <code>{escape(str(protocol))}</code>"
        heads.append(f'<th scope="col">{escape(metric)}<br><small>{how}</small></th>')
    rows, replicates = [], study.replicates.set_index("trial").to_dict("index")
    for trial, measurements in table.groupby("trial", sort=False):
        cells = {}
        for row in measurements.to_dict("records"):
            scatter = f" ± {number(row['sd'], 2)}" if pd.notna(row["sd"]) else ""
            cells[row["metric"], row["protocol"]] = number(row["value"]) + scatter
        text = "".join(f"<td>{cells.get(column, '')}</td>" for column in columns)
        replicate = replicates.get(trial)
        name = f'<a href="#trial-{trial}">{trial}</a>'
        if replicate is not None:
            of = replicate["of"]
            name = f'<a href="#trial-{of}">{of}</a>, seed {replicate["seed"]}'
        rows.append(f"<tr><td>{name}</td>{text}</tr>")
    html = (
        f'<table><thead><tr><th scope="col">trial</th>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    reasons = "".join(
        f"<p>Not measured: {escape(why)}.</p>" for why in study.info["left_out"].values()
    )
    first = "<p>Measured on new samples, not those that chose them:</p>"
    return first + scroll("finalists in full", html) + reasons


def _draw(study: Results) -> go.Figure:
    return finalists_figure(finalists(study), finalists_table(study), study.info)


CHART = Chart("finalists", _draw)
