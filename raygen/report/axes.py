"""Parallel coordinates as two tables: the axes with their ticks, and the lines across them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from raygen.report.importance import importance
from raygen.report.labels import ABSENT, number, setting, short_metric, short_names
from raygen.report.tables import (
    ABSENT_POSITION,
    Parameter,
    Scale,
    projected,
    value_scale,
    varying,
)
from raygen.results import Study

BUCKETS = 5  # colour steps, 0 = the best fifth
MOST_AXES = 12
AXIS_COLUMNS = ["axis", "name", "label", "kind", "ticks", "low", "high", "log", "flip", "choices"]
LINE_COLUMNS = ["trial", "axis", "position", "text", "bucket"]


def axes(study: Study) -> pd.DataFrame:
    """One row per axis, most important setting first, the objective last.

    `ticks` is a list of (position 0..1, text); `flip` says that high values lie at the bottom, so
    that the top of the objective is always the better end. Settings that never vary have no axis.
    """
    scale = value_scale(study)
    chosen = varying(study)
    if scale is None or not chosen:
        return pd.DataFrame(columns=AXIS_COLUMNS)
    order = {name: place for place, name in enumerate(importance(study)["name"])}
    chosen = sorted(chosen, key=lambda parameter: order.get(parameter.name, len(order)))
    short = short_names(parameter.name for parameter in chosen)
    rows = [_axis(parameter, short[parameter.name]) for parameter in chosen[:MOST_AXES]]
    rows.append(_objective(study.metric, scale, study.minimise))
    return pd.DataFrame([{"axis": place, **row} for place, row in enumerate(rows)])


def lines(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """One row per trial and axis of `axes`: trial, axis, position (0..1), text, bucket.

    An absent setting, and the objective of a trial without a value, lies at ABSENT_POSITION with
    the text "—". `bucket` is the fifth of the trials it is in by projected value (0 best,
    -1 no value).
    """
    if table.empty:
        return pd.DataFrame(columns=LINE_COLUMNS)
    known = {parameter.name: parameter for parameter in varying(study)}
    order = list(projected(study)["trial"])
    bucket = {trial: place * BUCKETS // len(order) for place, trial in enumerate(order)}
    parts = []
    for axis in table.to_dict("records"):
        column = study.trials["value" if axis["kind"] == "objective" else axis["name"]]
        unit = known[axis["name"]].unit if axis["name"] in known else _objective_unit(axis)
        position = column.map(unit).astype(float).fillna(ABSENT_POSITION)
        text = [setting(value) for value in column]
        parts.append(
            pd.DataFrame(
                {
                    "trial": study.trials["trial"].astype(int),
                    "axis": axis["axis"],
                    "position": position.round(4),
                    "text": text,
                }
            )
        )
    whole = pd.concat(parts, ignore_index=True)
    whole["bucket"] = whole["trial"].map(bucket).fillna(-1).astype(int)
    return whole.sort_values(["trial", "axis"], ignore_index=True)


def parameter_ticks(parameter: Parameter) -> list[tuple[float, str]]:
    """Positions in a range, 0 to 1, and what is there: every choice, or the ends."""
    if parameter.kind == "choice":
        return [(parameter.unit(choice), choice) for choice in parameter.choices]
    return _ticks(Scale(float(parameter.low or 0), float(parameter.high or 0), parameter.log))


def _axis(parameter: Parameter, label: str) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "label": label,
        "kind": parameter.kind,
        "ticks": parameter_ticks(parameter),
        "low": parameter.low,
        "high": parameter.high,
        "log": parameter.log,
        "flip": False,
        "choices": list(parameter.choices),
    }


def _objective(metric: str, scale: Scale, flip: bool) -> dict[str, Any]:
    ticks = _ticks(scale)
    return {
        "name": metric,
        "label": short_metric(metric),
        "kind": "objective",
        "ticks": [(1 - at, text) for at, text in ticks] if flip else ticks,
        "low": scale.low,
        "high": scale.high,
        "log": scale.log,
        "flip": flip,
        "choices": [],
    }


def _objective_unit(axis: Mapping[Any, Any]) -> Callable[[float], float]:
    scale = Scale(axis["low"], axis["high"], axis["log"])

    def unit(value: float) -> float:
        if value is None or math.isnan(value):
            return math.nan
        return 1 - scale.unit(value) if axis["flip"] else scale.unit(value)

    return unit


def _ticks(scale: Scale) -> list[tuple[float, str]]:
    """Both ends, and between them the decades of a log axis or the middle of a linear one."""
    inner: list[float] = []
    if scale.log:
        first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
        inner = [10.0**power for power in range(first, last + 1)]
    elif scale.high > scale.low:
        inner = [(scale.low + scale.high) / 2]
    places = [(scale.unit(value), value) for value in inner if scale.low < value < scale.high]
    kept = [(at, value) for at, value in places if 0.1 < at < 0.9]
    ends = [(0.0, scale.low), (1.0, scale.high)] if scale.high > scale.low else [(0.5, scale.low)]
    return [(at, ABSENT if value is None else number(value, 3)) for at, value in ends + kept]
