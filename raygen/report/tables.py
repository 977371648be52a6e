"""Results -> tables that several parts of the report use: pandas in, pandas out, nothing drawn."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from raygen.report.labels import ABSENT, setting
from raygen.report.memo import once_per_study
from raygen.results import Results, finalists, pareto, ranked

WIDE = 10.0  # a positive metric that spans more than this factor is shown on a log scale
DRAWN = 1000  # trials in a chart; above this a browser is slow
FENCE = 6.0  # values worse than the quartile by this many quartile ranges are off the scale


class SearchedSetting(NamedTuple):
    """One searched setting and its range."""

    name: str
    kind: str  # float, int or choice
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    def unit(self, value: Any) -> float:
        """Position in the range, 0 to 1 (log aware, clipped); nan if absent or unknown."""
        text = setting(value)
        if text == ABSENT:
            return math.nan
        if self.kind == "choice":
            if text not in self.choices:
                return math.nan
            return self.choices.index(text) / (len(self.choices) - 1) if self.choices[1:] else 0.5
        return AxisScale(float(self.low or 0), float(self.high or 0), self.log).unit(float(value))


class AxisScale(NamedTuple):
    """A numeric axis."""

    low: float
    high: float
    log: bool

    def warp(self, value: float) -> float:
        """Value -> where it lies before scaling to 0..1."""
        return math.log(max(value, self.low * 1e-3)) if self.log else value

    def unwarp(self, value: float) -> float:
        """Undo `warp`."""
        return math.exp(value) if self.log else value

    def unit(self, value: float) -> float:
        """Position of a value between low and high, 0 to 1, clipped."""
        low, high, at = self.warp(self.low), self.warp(self.high), self.warp(value)
        return 0.5 if high == low else min(1.0, max(0.0, (at - low) / (high - low)))


@once_per_study
def searched_settings(study: Results) -> list[SearchedSetting]:
    """Every searched setting, in the order of the space."""
    return [_searched(item) for item in study.info["parameters"]]


@once_per_study
def varying(study: Results) -> list[SearchedSetting]:
    """Searched settings that took at least two values (absent counts as one)."""
    columns = set(study.settings)
    return [
        parameter
        for parameter in searched_settings(study)
        if parameter.name in columns and study.trials[parameter.name].map(setting).nunique() > 1
    ]


def state_counts(study: Results) -> pd.Series:
    """Number of trials by state, most frequent first."""
    counts = study.trials["state"].value_counts().rename("trials")
    return counts.sort_index().sort_values(ascending=False, kind="stable")


@once_per_study
def value_scale(study: Results) -> AxisScale | None:
    """Axis for the objective: log if positive and wide; extreme bad values are cut off.

    One diverged trial must not flatten all others into a line. None without any value.
    """
    values = [study.trials["value"]]
    if study.metric in study.history:
        values.append(study.history[study.metric])
    return scale_of(pd.concat(values), study.minimise)


def scale_of(values: pd.Series, minimise: bool) -> AxisScale | None:
    """Axis for values of one metric, as `value_scale`; None without a finite one."""
    finite = values.replace([math.inf, -math.inf], math.nan).dropna().astype(float)
    if finite.empty:
        return None
    log = bool(finite.min() > 0 and finite.max() / finite.min() > WIDE)
    seen = np.log(finite) if log else finite
    low, high = float(seen.min()), float(seen.max())
    near, far = np.quantile(seen, [0.25, 0.75])
    if len(seen) >= 8 and far > near:
        if minimise:
            high = min(high, float(far + FENCE * (far - near)))
        else:
            low = max(low, float(near - FENCE * (far - near)))
    return AxisScale(math.exp(low), math.exp(high), True) if log else AxisScale(low, high, False)


@once_per_study
def reports(study: Results) -> pd.DataFrame:
    """One row per report of the objective, in order: trial, kimg, value (finite or nan)."""
    columns = {"trial": int, "kimg": float, "value": float}
    if study.metric not in study.history:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
    table = study.history[["trial", "kimg", study.metric]].set_axis(list(columns), axis=1)
    table["value"] = pd.to_numeric(table["value"]).replace([math.inf, -math.inf], math.nan)
    return table.sort_values(["trial", "kimg"], kind="stable").reset_index(drop=True)


def judged(study: Results) -> dict[int, dict[str, float]]:
    """The row of `finalists` of each trial that another seed has judged, best first."""
    rows = finalists(study).astype(float).to_dict("records")
    return {int(row["trial"]): {str(k): v for k, v in row.items()} for row in rows if row["seeds"]}


@once_per_study
def projected(study: Results) -> pd.DataFrame:
    """One row per trial with a value: trial, value, best first: what the full budget would give.

    A stopped trial's value is carried to the full budget by the median step that other trials
    made from rung to rung (on the scale of `value_scale`). The official ranking puts completed
    trials first; but the first trials of a search complete unopposed, and a bad one of them would
    pass for better than a good one that was cut. Used for importance and colours only.
    """
    scale = value_scale(study)
    values = study.trials.set_index("trial")["value"].dropna().astype(float)
    if scale is not None and len(values):
        at_rungs = _at_rungs(study, scale)
        steps = at_rungs.diff(axis=1).median().fillna(0)
        ahead = (steps.sum() - steps.cumsum()).to_numpy()
        reached = at_rungs.notna().cumsum(axis=1).idxmax(axis=1)  # the last rung with a value
        place = at_rungs.columns.get_indexer(pd.Index(reached))
        carried = at_rungs.ffill(axis=1).iloc[:, -1] + ahead[place] if len(at_rungs) else reached
        carried = carried[ahead[place] != 0].map(scale.unwarp)
        values.loc[carried.index] = carried
    order = values.rename("value").reset_index()
    return order.sort_values(
        ["value", "trial"], ascending=[study.minimise, True], ignore_index=True
    )


def drawn(study: Results, most: int | None = None) -> set[int]:
    """The trials that charts draw: all, or of many the best half and an even sample of the rest."""
    most = most or DRAWN
    everyone = [int(trial) for trial in study.trials["trial"]]
    if len(everyone) <= most:
        return set(everyone)
    kept = [int(trial) for trial in projected(study)["trial"].head(most // 2)]
    kept += [*leaders(study), *([0] if has_default(study) else [])]
    rest = sorted(set(everyone) - set(kept))
    places = np.linspace(0, len(rest) - 1, max(0, most - len(set(kept)))).round().astype(int)
    return {*kept, *(rest[place] for place in places)}


def only_drawn(
    study: Results, table: pd.DataFrame, also: pd.Series | None = None, most: int | None = None
) -> pd.DataFrame:
    """The rows of the trials that charts draw, and those for which `also` holds."""
    if len(study.trials) <= (most or DRAWN):
        return table
    kept = table["trial"].isin(drawn(study, most))
    return table[kept if also is None else kept | also]


class Saved(NamedTuple):
    """Early stopping's bill: kimg that completed and stopped trials saw, and would see in full."""

    kimg: float
    kimg_full: float

    @property
    def share(self) -> float:
        """The part of the full kimg that was not trained; 0 where nothing was to be."""
        return 1 - self.kimg / self.kimg_full if self.kimg_full else 0.0


def compute_saved(study: Results) -> Saved:
    """What early stopping saved of the search."""
    full = study.info["budget"].get("kimg") or max(study.info["rungs"] or [0])
    settled = study.trials[study.trials["state"].isin(["completed", "stopped"])]
    kimg = float((settled["kimg"] - settled["from_kimg"]).sum())
    # Where one of a population ends, a copy of another goes on: nothing is saved.
    population = (study.info.get("scheduler") or {}).get("name") == "pbt"
    return Saved(kimg, kimg if population else full * len(settled))


def at_best(study: Results, trial: int) -> pd.Series:
    """The report at which a trial's objective was best (all metrics); empty if it has none."""
    row = study.trials.set_index("trial").loc[trial]
    reported = study.history[study.history["trial"] == trial]
    reported = reported[reported["kimg"] == row["best_kimg"]]
    return reported.iloc[-1] if len(reported) else pd.Series(dtype=object)


def contenders(study: Results, top: int = 5) -> list[int]:
    """Trials to compare: the best `top`, then the default (trial 0) if it is not among them."""
    best = leaders(study, top)
    return best + ([0] if has_default(study) and 0 not in best else [])


def leaders(study: Results, top: int = 5) -> list[int]:
    """The best `top` trials by the official ranking, best first.

    Of several objectives: the front first, evenly thinned out if it is larger.
    """
    front = pareto(study) if len(study.objectives) > 1 else []
    if len(front) > top:
        return [front[round(at)] for at in np.linspace(0, len(front) - 1, top)]
    rest = [int(trial) for trial in ranked(study)["trial"] if trial not in front]
    return [*front, *rest][:top]


def has_default(study: Results) -> bool:
    """Whether trial 0 is the known-good starting point."""
    return bool(study.info.get("start_trials")) and bool((study.trials["trial"] == 0).any())


def differing(study: Results, trials: list[int]) -> dict[str, bool]:
    """Every setting -> whether it differs among these trials (absent counts as a value)."""
    rows = study.trials[study.trials["trial"].isin(trials)]
    names = [name for name in study.settings if (rows[name].map(setting) != ABSENT).any()]
    return {name: rows[name].map(setting).nunique() > 1 for name in names}


def _at_rungs(study: Results, scale: AxisScale) -> pd.DataFrame:
    """Warped value by trial (index) and rung in kimg (columns); nan where not reached."""
    table = reports(study)
    table = table[table["value"].notna()].astype({"kimg": float, "value": float})
    rungs = [float(rung) for rung in study.info["rungs"]]
    seen = table["kimg"].unique()
    near = {kimg: rung for kimg in seen for rung in rungs if np.isclose(kimg, rung)}
    table = table.assign(kimg=table["kimg"].map(near), value=table["value"].map(scale.warp))
    table = table[table["kimg"].notna()]
    return table.pivot_table(index="trial", columns="kimg", values="value", aggfunc="last")


def _searched(parameter: dict[str, Any]) -> SearchedSetting:
    choices = tuple(setting(choice) for choice in parameter.get("choices") or ())
    low, high, log = (parameter.get(key) for key in ("low", "high", "log"))
    return SearchedSetting(parameter["name"], parameter["kind"], low, high, bool(log), choices)
