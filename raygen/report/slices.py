"""The objective against one setting at a time, the most important ones first."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from raygen.report.drawing import layout, metric_axis, plain, safe, selected, value_axis
from raygen.report.importance import importance
from raygen.report.labels import STATE_LOOKS, setting, short_names
from raygen.report.tables import Parameter, Scale, varying
from raygen.results import Study

TOP = 6
COLUMNS_OF_PANELS = 3
SLICES = [
    "trial",
    "state",
    "value",
    "name",
    "label",
    "kind",
    "at",
    "text",
    "log",
    "low",
    "high",
    "choices",
]


def by_importance(study: Study) -> list[Parameter]:
    """Settings that varied, the most important first."""
    order = {name: place for place, name in enumerate(importance(study)["name"])}
    return sorted(varying(study), key=lambda parameter: order.get(parameter.name, len(order)))


def slices(study: Study, top: int = TOP) -> pd.DataFrame:
    """One row per trial with a value and setting that it has, of the `top` most important ones.

    `at` is the number itself, or the text of a choice; `low` to `high` its range, `log` its scale.
    """
    chosen = by_importance(study)[:top]
    short = short_names(parameter.name for parameter in chosen)
    scored = study.trials[study.trials["value"].notna()]
    parts = []
    for parameter in chosen:
        column = scored[parameter.name]
        some = scored.loc[column.map(setting) != "—", ["trial", "state", "value"]]
        column = column.loc[some.index]
        texts = [setting(value) for value in column]
        numeric = parameter.kind != "choice"
        facts = {
            "name": parameter.name, "label": short[parameter.name], "kind": parameter.kind,
            "at": column.astype(float) if numeric else pd.Series(texts, some.index, dtype=object),
            "text": texts, "log": parameter.log, "low": parameter.low, "high": parameter.high,
        }  # fmt: skip
        choices = pd.Series([parameter.choices] * len(some), some.index, dtype=object)
        parts.append(some.assign(**facts, choices=choices).astype({"at": object}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SLICES)


def slices_figure(table: pd.DataFrame, info: dict[str, Any], scale: Scale | None) -> go.Figure:
    """One panel per setting; dotted lines are the ends of its range."""
    names = list(dict.fromkeys(table["name"]))
    columns = min(COLUMNS_OF_PANELS, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure = make_subplots(rows=rows, cols=columns, shared_yaxes=True, horizontal_spacing=0.03,
                           vertical_spacing=0.28 / rows)  # fmt: skip
    layout(figure, "", "", None, height=80 + 270 * rows)
    for place, name in enumerate(names):
        row, col = place // columns + 1, place % columns + 1
        some = table[table["name"] == name]
        for state in STATE_LOOKS:
            mine = some[some["state"] == state]
            if len(mine):
                figure.add_trace(_points(mine, state, place == 0), row=row, col=col)
        figure.add_trace(selected("markers"), row=row, col=col)
        figure.update_xaxes(**_axis(some, len(table["trial"].unique())), row=row, col=col)
    figure.update_yaxes(**value_axis(scale))
    objective = info["objective"]
    title = metric_axis(table.rename(columns={"value": objective["metric"]}), objective)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text=title["title_text"], row=row, col=1)
    return figure


def _axis(some: pd.DataFrame, everyone: int) -> dict[str, Any]:
    first = some.iloc[0]
    having = "" if len(some) == everyone else f" ({len(some)} of {everyone} trials have it)"
    found: dict[str, Any] = {"title_text": safe(first["label"]) + having}
    if first["kind"] == "choice":
        return {
            **found,
            "type": "category",
            "categoryorder": "array",
            "categoryarray": list(first["choices"]),
        }
    if first["log"]:
        found |= {"type": "log", "dtick": 1, "tickformat": ",.3~r"}
    return {**found, "nticks": 6} if not first["log"] else found


def _points(mine: pd.DataFrame, state: str, legend: bool) -> go.Scatter:
    look = STATE_LOOKS[state]
    return go.Scatter(
        x=[value if isinstance(value, str) else float(value) for value in mine["at"]],
        y=plain(mine["value"]),
        customdata=[int(trial) for trial in mine["trial"]],
        text=[safe(text) for text in mine["text"]],
        mode="markers",
        name=look.text,
        showlegend=legend,
        legendgroup=state,
        opacity=0.8,
        marker={"symbol": look.symbol, "size": 7, "color": look.colour},
        hovertemplate="trial %{customdata}<br>%{text}: %{y:.4g}<extra></extra>",
        meta={"role": f"state-{state}", "linked": True},
    )
