"""What ran where and when: one bar per attempt of a trial, one row per place that trains."""

from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from raygen.report.drawing import gapped, layout, safe, selected, time_unit
from raygen.report.labels import STATE_LOOKS
from raygen.report.memo import once
from raygen.results import Study

COLUMNS = ["trial", "attempt", "of", "state", "node", "device", "lane", "start", "stop"]
WIDTH = 11  # pixels of a bar


class Use(NamedTuple):
    """How well the places were used."""

    lanes: int  # places that trained at the same time
    busy: float  # seconds of training, over all places
    open: float  # seconds from the first start to the last stop
    nodes: int
    slowest: int  # trial
    longest: float  # seconds it ran


@once
def timeline(study: Study) -> pd.DataFrame:
    """One row per attempt: trial, attempt, of, state, node, device, lane, start, stop.

    Times in seconds since the study began. `of` is the finalist that an attempt repeats (-1: none).
    A lane is a place that trains one trial at a time: a device, or, on CPUs, as many as ran at once
    on a node.
    """
    runs = study.runs.dropna(subset=["start"]).copy()
    if runs.empty:
        return pd.DataFrame(columns=COLUMNS)
    zero = min(float(runs["start"].min()), float(study.info.get("started") or runs["start"].min()))
    runs["start"], runs["stop"] = runs["start"] - zero, runs["stop"] - zero
    runs = runs.sort_values(["start", "trial"], ignore_index=True)
    free: dict[tuple[str, str], list[float]] = {}
    lanes = []
    for row in runs.to_dict("records"):
        mine = free.setdefault((row["node"], row["device"]), [])
        idle = [at for at, until in enumerate(mine) if until <= row["start"] + 1e-6]
        number = idle[0] if idle else len(mine)
        mine[number : number + 1] = [row["stop"]]
        lanes.append(f"{row['node']} {row['device']} {number + 1}")
    return runs.assign(lane=lanes)[COLUMNS]


def use(table: pd.DataFrame) -> Use:
    """Sums over a timeline of at least one row."""
    length = table["stop"] - table["start"]
    trials = length.groupby(table["trial"]).sum()
    return Use(
        table["lane"].nunique(),
        float(length.sum()),
        float(table["stop"].max() - table["start"].min()),
        table["node"].nunique(),
        int(trials.index[int(trials.to_numpy().argmax())]),
        float(trials.max()),
    )


def timeline_figure(table: pd.DataFrame) -> go.Figure:
    """Bars as thick lines, the sign of its state at the end of each."""
    figure = go.Figure()
    lanes = sorted(table["lane"].unique())
    size, unit = time_unit(table["stop"]) if len(table) else (1.0, "s")
    places = table["lane"].map({lane: place for place, lane in enumerate(lanes)})
    table = table.assign(place=places, start=table["start"] / size, stop=table["stop"] / size)
    for again in (False, True):
        some = table[(table["of"] >= 0) == again]
        if len(some):
            figure.add_trace(_bars(some, again))
    for state, look in STATE_LOOKS.items():
        some = table[table["state"] == state]
        if len(some) and state != "completed":
            figure.add_trace(
                go.Scatter(
                    x=[round(float(at), 5) for at in some["stop"]],
                    y=[int(place) for place in some["place"]],
                    customdata=[int(trial) for trial in some["trial"]],
                    mode="markers",
                    name=look.text,
                    marker={"symbol": look.symbol, "size": 8, "color": look.colour},
                    hovertemplate=f"trial %{{customdata}}, {look.text}<extra></extra>",
                    meta={"role": f"state-{state}", "linked": True},
                )
            )
    figure.add_trace(selected("markers"))
    layout(figure, f"since the study began ({unit})", "", None, height=120 + 26 * len(lanes))
    figure.update_yaxes(
        tickvals=list(range(len(lanes))), ticktext=[f"{safe(lane)}  " for lane in lanes],
        range=[len(lanes) - 0.4, -0.6], automargin=True, showgrid=False,
    )  # fmt: skip
    return figure


def _bars(some: pd.DataFrame, again: bool) -> go.Scatter:
    """All bars in one trace, a gap between two; an attempt of a finalist counts as that trial."""
    trial = some["of"].where(some["of"] >= 0, some["trial"]) if again else some["trial"]
    ends: list[dict[str, Any]] = []
    gap = 0.003 * float(some["stop"].max() - some["start"].min())
    rows = zip(range(len(some)), trial, some["start"], some["stop"], some["place"], strict=True)
    for bar, number, start, stop, place in rows:
        # A sliver stays visible between two bars of one lane.
        stop = max(start + 0.5 * (stop - start), stop - gap)
        ends += [{"trial": bar, "number": number, "at": float(at), "place": place}
                 for at in (start, stop)]  # fmt: skip
    x, y, _, numbers = gapped(pd.DataFrame(ends), "at", "place", "number")
    return go.Scatter(
        x=[None if at is None else round(at, 5) for at in x],
        y=y,
        customdata=numbers,
        mode="lines",
        name="other seeds of a finalist" if again else "training",
        line={"width": WIDTH, "color": "#CC79A7" if again else "#0072B2"},
        opacity=0.6,
        hovertemplate="trial %{customdata}<extra></extra>",
        meta={"role": "again" if again else "bar", "linked": True},
    )
