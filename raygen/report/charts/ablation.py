"""Ablation: from the default to the best, one change at a time: which changes bring the gain.

Biedenkapp et al., "Efficient Parameter Importance Analysis via Ablation with Surrogates", AAAI
2017: of the changes that are left, the one that a surrogate expects most of comes next. Estimates:
nothing is trained again.
"""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from raygen.report import response_surface
from raygen.report.blocks import chart, note
from raygen.report.charts.chart import Chart
from raygen.report.drawing import BEST, SINGLE, axis_title, layout, python_values, safe
from raygen.report.labels import listed, number, percent, setting, short_metric, short_names
from raygen.report.memo import once_per_study
from raygen.results import Results

COLUMNS = ["step", "name", "before", "after", "value", "change"]


@once_per_study
def ablation_table(study: Results) -> pd.DataFrame:
    """One row per change: step, name, before, after (texts), value (expected then), change.

    Row 0 is the default itself. `change` is positive where the step is expected to improve.
    Settings of a branch change together with the choice of it. Empty without a default, if the
    default is the best, or without a surrogate that can be trusted.
    """
    pair, model = response_surface.ends(study), response_surface.fit_surface(study)
    if pair is None or model is None or not model.trusted:
        return pd.DataFrame(columns=COLUMNS)
    here, goal = (response_surface.example(study, trial) for trial in pair)
    left = [
        g for g in _groups(study, [p.name for p in model.parameters]) if _differs(here, goal, g)
    ]
    value = float(model.predict(response_surface.encode(model.parameters, here))[0])
    rows = [(0, "default", "", "", value, 0.0)]
    while left:
        reached = {}
        for place, group in enumerate(left):
            trial = here.copy()
            trial[group] = goal[group]
            encoded = response_surface.encode(model.parameters, trial)
            reached[place] = float(model.predict(encoded)[0])
        sign = 1 if study.minimise else -1
        place = min(reached, key=lambda at: sign * reached[at])
        group = left.pop(place)
        texts = [[setting(frame[name].iloc[0]) for name in group] for frame in (here, goal)]
        changed = [i for i in range(len(group)) if texts[0][i] != texts[1][i]]
        before, after = (", ".join(side[i] for i in changed) for side in texts)
        here[group] = goal[group]
        name = ", ".join(group[i] for i in changed)
        rows.append(
            (len(rows), name, before, after, reached[place], sign * (value - reached[place]))
        )
        value = reached[place]
    return pd.DataFrame(rows, columns=COLUMNS)


def ablation_figure(table: pd.DataFrame, info: dict[str, Any]) -> go.Figure:
    """The expected value after each change, from the default on top to the best."""
    short = short_names({n for names in table["name"] for n in names.split(", ")})
    labels = [_label(row, short) for row in table.to_dict("records")]
    figure = go.Figure(
        go.Scatter(
            x=python_values(table["value"]),
            y=python_values(table["step"]),
            customdata=labels,
            mode="lines+markers",
            line={"shape": "vh", "color": BEST[0], "width": 2},
            marker={"size": 9, "color": BEST[0]},
            hovertemplate="%{customdata}<br>expected %{x:.4g}<extra></extra>",
            meta={"role": "accent"},
        )
    )
    layout(figure, f"expected {axis_title(short_metric(info['objective']['metric']), info)}",
           "", None, height=100 + 30 * len(table))  # fmt: skip
    if len(table):
        figure.add_vline(float(table["value"].iloc[0]), layer="below", name="rung",
                         line={"dash": "dash", "width": 1.2, "color": SINGLE})  # fmt: skip
    figure.update_yaxes(
        tickvals=python_values(table["step"]), ticktext=[f"{text}  " for text in labels],
        range=[len(table) - 0.4, -0.6], automargin=True, showgrid=False,
    )  # fmt: skip
    return figure


def ablation_sentence(study: Results) -> tuple[str, bool]:
    """Which changes from the default brought the gain, and whether there is a chart to draw."""
    model = response_surface.fit_surface(study)
    if model is None:
        return f"An ablation needs {response_surface.NEEDED} completed or stopped trials.", False
    if response_surface.ends(study) is None:
        return "No ablation: there is no default, or it won.", False
    if not model.trusted:
        return f"No ablation: {model.doubt}.", False
    table = ablation_table(study)
    steps = table[table["step"] > 0]
    whole = float(steps["change"].sum())
    if steps.empty or whole <= 0:
        return "The surrogate predicts no gain from the default to the best.", True
    first = steps.sort_values("change", ascending=False).iloc[0]
    short = short_names({n for names in steps["name"] for n in names.split(", ")})
    names = listed(short[name] for name in first["name"].split(", "))
    return (
        f"Between the default and the best, {names} ({first['before']} → {first['after']}) "
        f"brings {percent(float(first['change']) / whole)} of the expected gain, to "
        f"{number(float(table['value'].iloc[-1]))}; estimated from {model.trials} trials, "
        f"leave-one-out R² {model.explained}."
    ), True


def ablation_part(study: Results) -> str:
    """The end of the section on importance."""
    text, drawable = ablation_sentence(study)
    drawing = chart("ablation", "From the default to the best", text) if drawable else ""
    return f"<h3>From the default to the best</h3>{note(text)}{drawing}"


def _draw(study: Results) -> go.Figure:
    return ablation_figure(ablation_table(study), study.info)


def _label(row: dict[Any, Any], short: dict[str, str]) -> str:
    if not row["step"]:
        return "default"
    names = ", ".join(short[name] for name in row["name"].split(", "))
    text = f"{names}: {row['before']} → {row['after']}"
    return safe(text if len(text) <= 64 else text[:63] + "…")


def _groups(study: Results, names: list[str]) -> list[list[str]]:
    """Settings that change together: a choice, and what exists only in one of its branches."""
    parents = {
        item["name"]: next(iter(item.get("condition") or {}), None)
        for item in study.info["parameters"]
    }
    groups: dict[str, list[str]] = {}
    for name in names:
        root = name
        while parents.get(root) in names:
            root = str(parents[root])
        groups.setdefault(root, []).append(name)
    return list(groups.values())


def _differs(here: pd.DataFrame, goal: pd.DataFrame, group: list[str]) -> bool:
    return any(setting(here[name].iloc[0]) != setting(goal[name].iloc[0]) for name in group)


CHART = Chart("ablation", _draw)
