"""What ran where and when: one bar per attempt of a trial, one row per place that trains."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raygen.report.blocks import chart, data_table, note
from raygen.report.charts.chart import Chart
from raygen.report.drawing import gapped, layout, marks, safe, selected, states_of, time_unit
from raygen.report.labels import STATE_LOOKS, percent
from raygen.report.memo import once_per_study
from raygen.report.remarks import thinned
from raygen.report.tables import only_drawn
from raygen.results import Results
from raygen.words import counted, duration

COLUMNS = ["trial", "attempt", "of", "state", "node", "device", "lane", "start", "stop"]
WIDTH = 11  # pixels of a bar
MOST_PLACES = 200  # rows of the table below


class Usage(NamedTuple):
    """How well the places were used."""

    lanes: int  # places that trained at the same time
    busy: float  # seconds of training, over all places
    open: float  # seconds from the first start to the last stop
    nodes: int
    slowest: int  # trial
    longest: float  # seconds it ran


@once_per_study
def timeline_table(study: Results) -> pd.DataFrame:
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
    busy_until: dict[tuple[str, str], list[float]] = {}  # of every lane of a device
    lanes = []
    for row in runs.to_dict("records"):
        stops = busy_until.setdefault((row["node"], row["device"]), [])
        idle = [lane for lane, stop in enumerate(stops) if stop <= row["start"] + 1e-6]
        lane = idle[0] if idle else len(stops)
        stops[lane : lane + 1] = [row["stop"]]
        lanes.append(f"{row['node']} {row['device']} {lane + 1}")
    return runs.assign(lane=lanes)[COLUMNS]


def usage(table: pd.DataFrame) -> Usage:
    """Sums over a timeline of at least one row."""
    length = table["stop"] - table["start"]
    trials = length.groupby(table["trial"]).sum()
    return Usage(
        table["lane"].nunique(),
        float(length.sum()),
        float(table["stop"].max() - table["start"].min()),
        table["node"].nunique(),
        int(trials.index[int(trials.to_numpy().argmax())]),
        float(trials.max()),
    )


def most_at_once(table: pd.DataFrame) -> int:
    """How many trials of a timeline ran at the same time, at most."""
    starts, stops = (np.sort(table[end].to_numpy(float)) for end in ("start", "stop"))
    ended = np.searchsorted(stops, starts + 1e-6, side="right")
    return int((np.arange(1, len(starts) + 1) - ended).max(initial=0))


def timeline_figure(table: pd.DataFrame) -> go.Figure:
    """Bars as thick lines, the sign of its state at the end of each."""
    figure = go.Figure()
    lanes = sorted(table["lane"].unique())
    size, unit = time_unit(table["stop"]) if len(table) else (1.0, "s")
    places = table["lane"].map({lane: place for place, lane in enumerate(lanes)})
    table = table.assign(place=places, start=table["start"] / size, stop=table["stop"] / size)
    for again in (False, True):
        rows = table[(table["of"] >= 0) == again]
        if len(rows):
            figure.add_trace(_bars(rows, again))
    ends = table.assign(end=[round(float(stop), 5) for stop in table["stop"]])
    for state in states_of(ends):
        if state != "completed":
            hover = f"trial %{{customdata}}, {STATE_LOOKS[state].text}"
            rows = ends[ends["state"] == state]
            figure.add_trace(marks(rows, state, "end", "place", hover=hover))
    figure.add_trace(selected("markers"))
    layout(figure, f"since the study began ({unit})", "", None, height=120 + 26 * len(lanes))
    figure.update_yaxes(
        tickvals=list(range(len(lanes))), ticktext=[f"{safe(lane)}  " for lane in lanes],
        range=[len(lanes) - 0.4, -0.6], automargin=True, showgrid=False,
    )  # fmt: skip
    return figure


def timeline_sentence(study: Results) -> tuple[str, bool]:
    """How busy the workers were, and whether there is a chart to draw."""
    table = timeline_table(study)
    if table.empty:
        return "No trial has recorded times.", False
    used = usage(table)
    if used.open <= 0:
        return f"{counted(len(table), 'attempt')}, too short to tell apart.", True
    idle = max(0.0, 1 - used.busy / (used.open * used.lanes))
    lost = int(table["state"].isin(["lost", "failed"]).sum())
    losses = f"; {counted(lost, 'attempt')} lost or failed" if lost else ""
    return (
        f"Up to {counted(used.lanes, 'trial')} at once on {counted(used.nodes, 'node')} for "
        f"{duration(used.open)}, {percent(idle)} idle; the longest was trial {used.slowest} "
        f"with {duration(used.longest)}{losses}."
    ), True


def timeline_section(study: Results) -> tuple[str, str]:
    """Whether the machines were used well."""
    lead, drawable = timeline_sentence(study)
    if not drawable:
        return lead, ""
    table = timeline_table(study)
    lanes = table.assign(busy=table["stop"] - table["start"]).groupby("lane")
    sums = zip(lanes["busy"].sum().items(), lanes["trial"].count(), strict=True)
    rows = [[str(lane), str(count), duration(float(busy))] for (lane, busy), count in sums]
    numbers = data_table("Time per worker", ["worker", "attempts", "training"], rows[:MOST_PLACES])
    drawing = chart("timeline", "Timeline of the cluster", lead)
    return lead, drawing + numbers + note(thinned(study))


def _draw(study: Results) -> go.Figure:
    return timeline_figure(only_drawn(study, timeline_table(study)))


def _bars(rows: pd.DataFrame, again: bool) -> go.Scatter:
    """All bars in one trace, a gap between two; an attempt of a finalist counts as that trial."""
    trials = rows["of"].where(rows["of"] >= 0, rows["trial"]) if again else rows["trial"]
    ends: list[dict[str, Any]] = []
    gap = 0.003 * float(rows["stop"].max() - rows["start"].min())
    bars = zip(trials, rows["start"], rows["stop"], rows["place"], strict=True)
    for bar, (trial, start, stop, place) in enumerate(bars):
        # A sliver stays visible between two bars of one lane.
        stop = max(start + 0.5 * (stop - start), stop - gap)
        ends += [{"trial": bar, "number": trial, "at": float(at), "place": place}
                 for at in (start, stop)]  # fmt: skip
    x, y, _, numbers = gapped(pd.DataFrame(ends), "at", "place", "number")
    return go.Scatter(
        x=[None if at is None else round(at, 5) for at in x],
        y=y,
        customdata=numbers,
        mode="lines",
        name="finalist with a new seed" if again else "training",
        line={"width": WIDTH, "color": "#CC79A7" if again else "#0072B2"},
        opacity=0.6,
        hovertemplate="trial %{customdata}<extra></extra>",
        meta={"role": "again" if again else "bar", "linked": True},
    )


CHART = Chart("timeline", _draw)
