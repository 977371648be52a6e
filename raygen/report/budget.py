"""Do early values foretell the final ones? Rung by rung, what each rung saved, and the points."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report.drawing import axis_title, layout, marks, selected, value_axis
from raygen.report.labels import number, short_metric
from raygen.report.memo import once
from raygen.report.tables import Scale
from raygen.results import Study, best_until, spearman

EARLY = ["trial", "state", "kimg", "early", "value"]


def early_values(study: Study) -> pd.DataFrame:
    """One row per completed trial and rung below the full budget: trial, state, kimg, early, value.

    `early` is the best value up to that rung, by which the trial was judged there; `value` the
    final one.
    """
    wide = _best_until(study)
    done = study.trials[(study.trials["state"] == "completed") & study.trials["value"].notna()]
    facts = done.set_index("trial")[["state", "value"]]
    early = wide.iloc[:, :-1].loc[wide.index.isin(facts.index)].rename_axis("trial").reset_index()
    rows = early.melt("trial", var_name="kimg", value_name="early").dropna(subset="early")
    rows = rows.astype({"kimg": float}).join(facts, on="trial")
    return rows[EARLY].sort_values(["kimg", "trial"], ignore_index=True)


def rung_pairs(study: Study) -> pd.DataFrame:
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


def rung_savings(study: Study) -> pd.DataFrame:
    """One row per rung below the full budget: kimg, stopped there, saved (kimg not trained)."""
    rungs = [float(rung) for rung in study.info.get("rungs") or []]
    stopped = study.trials.loc[study.trials["state"] == "stopped", "kimg"].astype(float)
    rows = []
    for rung in rungs[:-1]:
        count = int(np.isclose(stopped, rung).sum())
        rows.append((rung, count, count * (rungs[-1] - rung)))
    return pd.DataFrame(rows, columns=["kimg", "stopped", "saved"])


def budget_figure(table: pd.DataFrame, info: dict, scale: Scale | None) -> go.Figure:
    """One panel per rung: the value there against the final one, and the line of no change."""
    rungs = sorted(table["kimg"].unique())[:4]
    figure = make_subplots(cols=max(1, len(rungs)), shared_yaxes=True, horizontal_spacing=0.03)
    for col, rung in enumerate(rungs, start=1):
        some = table[table["kimg"] == rung]
        figure.add_trace(_no_change(some), row=1, col=col)
        trace = marks(some, "completed", x="early").update(showlegend=False)
        figure.add_trace(trace, row=1, col=col)
        figure.add_trace(selected("markers"), row=1, col=col)
    metric = axis_title(short_metric(info["objective"]["metric"]), info)
    layout(figure, "", f"final {metric}", scale, height=360)
    for col, rung in enumerate(rungs, start=1):
        axis = {**value_axis(scale), "range": None}
        title = f"{metric} until {number(rung)} kimg"
        figure.update_xaxes(**axis, title_text=title, row=1, col=col)
        if col > 1:
            figure.update_yaxes(title_text="", row=1, col=col)
    return figure


def _no_change(some: pd.DataFrame) -> go.Scatter:
    ends = [float(f(some[["early", "value"]].to_numpy(dtype=float))) for f in (np.min, np.max)]
    return go.Scatter(
        x=ends, y=ends, mode="lines", showlegend=False, hoverinfo="skip",
        line={"dash": "dot", "width": 1.2, "color": "#888888"}, meta={"role": "guide"},
    )  # fmt: skip


_best_until = once(best_until)
