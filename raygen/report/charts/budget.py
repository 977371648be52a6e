"""Budget and quality: do early values predict final ones, and what did each rung save?"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report.blocks import chart, html_table, note
from raygen.report.charts.chart import Chart
from raygen.report.drawing import axis_title, layout, marks, selected, value_axis
from raygen.report.labels import ABSENT, listed, number, short_metric
from raygen.report.memo import once_per_study
from raygen.report.remarks import thinned
from raygen.report.tables import AxisScale, only_drawn, value_scale
from raygen.results import Results, best_until, judgement, spearman
from raygen.words import counted

COLUMNS = ["trial", "state", "kimg", "early", "value"]
PANELS = 4  # rungs that are drawn; the table has them all


def budget_table(study: Results) -> pd.DataFrame:
    """One row per completed trial and rung below the full budget: trial, state, kimg, early, value.

    `early` is the best value up to that rung, which decided whether the trial continued; `value`
    is the final one.
    """
    wide = _best_until(study)
    done = study.trials[(study.trials["state"] == "completed") & study.trials["value"].notna()]
    facts = done.set_index("trial")[["state", "value"]]
    early = wide.iloc[:, :-1].loc[wide.index.isin(facts.index)].rename_axis("trial").reset_index()
    rows = early.melt("trial", var_name="kimg", value_name="early").dropna(subset="early")
    rows = rows.astype({"kimg": float}).join(facts, on="trial")
    return rows[COLUMNS].sort_values(["kimg", "trial"], ignore_index=True)


def rung_pairs(study: Results) -> pd.DataFrame:
    """One row per pair of rungs: early, late (kimg), trials that reached the late one, rho.

    `rho` is Spearman's rank correlation of the best values up to each; nan below 5 trials.
    """
    wide = _best_until(study)
    rows = []
    for at, early in enumerate(wide.columns):
        for late in wide.columns[at + 1 :]:
            both = wide[[early, late]].dropna()
            rows.append((float(early), float(late), len(both), spearman(both)))
    return pd.DataFrame(rows, columns=["early", "late", "trials", "rho"])


def rung_savings(study: Results) -> pd.DataFrame:
    """One row per rung below the full budget: kimg, stopped there, saved (kimg not trained)."""
    rungs = [float(rung) for rung in study.info["rungs"]]
    stopped = study.trials.loc[study.trials["state"] == "stopped", "kimg"].astype(float)
    rows = []
    for rung in rungs[:-1]:
        count = int(np.isclose(stopped, rung).sum())
        rows.append((rung, count, count * (rungs[-1] - rung)))
    return pd.DataFrame(rows, columns=["kimg", "stopped", "saved"])


def budget_figure(table: pd.DataFrame, info: dict[str, Any], scale: AxisScale | None) -> go.Figure:
    """One panel per rung: the value there against the final one, and the line of no change."""
    rungs = sorted(table["kimg"].unique())[:PANELS]
    figure = make_subplots(cols=max(1, len(rungs)), shared_yaxes=True, horizontal_spacing=0.03)
    for col, rung in enumerate(rungs, start=1):
        rows = table[table["kimg"] == rung]
        figure.add_trace(_no_change(rows), row=1, col=col)
        trace = marks(rows, "completed", "early").update(showlegend=False)
        figure.add_trace(trace, row=1, col=col)
        figure.add_trace(selected("markers"), row=1, col=col)
    metric = axis_title(short_metric(info["objective"]["metric"]), info)
    layout(figure, "", f"final {metric}", scale, height=360)
    for col, rung in enumerate(rungs, start=1):
        axis = {**value_axis(scale), "range": None}
        title = f"{metric} up to {number(rung)} kimg"
        figure.update_xaxes(**axis, title_text=title, row=1, col=col)
        if col > 1:
            figure.update_yaxes(title_text="", row=1, col=col)
    return figure


def budget_sentence(study: Results) -> tuple[str, bool]:
    """How well early values predict final ones, and whether there is a chart to draw."""
    if budget_table(study).empty:
        return "No trial has completed the full budget after a rung: nothing to compare.", False
    pairs, rungs = rung_pairs(study), study.info["rungs"]
    final = pairs[(pairs["late"] == rungs[-1]) & pairs["rho"].notna()]
    saved = float(rung_savings(study)["saved"].sum())
    bill = f" Early stopping saved {number(saved)} kimg." if saved else ""
    if final.empty:
        return f"Too few completed trials to tell what early values predict.{bill}", True
    words = listed(
        f"{_correlation(row)} at {number(row['early'])} kimg" for row in final.to_dict("records")
    )
    count = counted(int(final["trials"].iloc[0]), "completed trial")
    only = ", survivors only" if saved else ""
    return f"Rank correlation with the final value ({count}{only}): {words}.{bill}", True


def budget_section(study: Results) -> tuple[str, str]:
    """Whether early values predict final ones, and what early stopping saved."""
    lead, drawable = budget_sentence(study)
    if not drawable:
        return lead, ""
    rows = []
    for pair in rung_pairs(study).to_dict("records"):
        rungs = f"{number(pair['early'])} → {number(pair['late'])} kimg"
        rho = _correlation(pair) if pd.notna(pair["rho"]) else ABSENT
        rows.append([rungs, rho, str(pair["trials"])])
    pairs = html_table(["rungs", "rank correlation", "trials"], rows)
    cuts = html_table(
        ["rung", "stopped there", "saved"],
        [[f"{number(row['kimg'])} kimg", str(row["stopped"]), f"{number(row['saved'])} kimg"]
         for row in rung_savings(study).to_dict("records")],
    )  # fmt: skip
    remark = note(
        "The further a point lies from the dotted line, the more the trial gained after the rung. "
        "Stopped trials have no final value, which lowers the correlation of the others."
    )
    drawing = chart("budget", "Budget and quality", lead)
    return lead, f'{drawing}<div class="pair">{pairs}{cuts}</div>{remark}{note(thinned(study))}'


def _draw(study: Results) -> go.Figure:
    table = only_drawn(study, budget_table(study))
    return budget_figure(table, study.info, value_scale(study))


def _correlation(pair: dict[Any, Any]) -> str:
    """A row of `rung_pairs` in words."""
    return f"{pair['rho']:.2f} ({judgement(pair['rho'], int(pair['trials']))})"


def _no_change(rows: pd.DataFrame) -> go.Scatter:
    ends = [float(f(rows[["early", "value"]].to_numpy(dtype=float))) for f in (np.min, np.max)]
    return go.Scatter(
        x=ends, y=ends, mode="lines", showlegend=False, hoverinfo="skip",
        line={"dash": "dot", "width": 1.2, "color": "#888888"}, meta={"role": "guide"},
    )  # fmt: skip


_best_until = once_per_study(best_until)

CHART = Chart("budget", _draw)
