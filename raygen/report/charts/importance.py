"""Importance: which settings matter, by PED-ANOVA on the trials of a study.

Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces", IJCAI 2023: compare where the best trials lie with where all trials lie,
one setting at a time, by the Pearson divergence of two Parzen densities. Three additions:

* A setting that exists only in one branch of the space counts with the branch's own term. With
  P_top(b) and P_all(b) the shares of the trials in branch b, the divergence of the joint density
  splits exactly into sum_b P_top(b)^2 / P_all(b) - 1 (the choice of branch: the parent's) and
  P_top(b)^2 / P_all(b) * divergence inside b (the child's).
* Both densities use the same kernels, so top / all is bounded by n / n_top: stable for 8 trials.
* What a random choice of as many trials would score is subtracted: a few dozen trials always
  show some divergence.

Limits: effects of one setting at a time (no interactions); relative to where the search looked.
"""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from raygen.report.blocks import chart, data_table
from raygen.report.charts.ablation import ablation_part
from raygen.report.charts.chart import Chart
from raygen.report.drawing import BEST, layout, python_values, safe
from raygen.report.labels import listed, percent, short_names
from raygen.report.memo import once_per_study
from raygen.report.tables import SearchedSetting, projected, varying
from raygen.results import Results
from raygen.words import counted

NEEDED = 8  # trials
EVIDENT = 0.005  # below this, the lower end of an interval prints as 0%
TOP = 0.25  # the share of trials called good
RESAMPLES = 200
GRID = 48
MIXING = 0.3  # kernel weight a choice gives to the other choices
COLUMNS = ["name", "share", "low", "high", "trials"]


@once_per_study
def importance_table(study: Results) -> pd.DataFrame:
    """One row per setting that varied, most important first: name, share, low, high, trials.

    `share` sums to 1 (all 0 if nothing stands out from chance); `low` to `high` is the 5% to
    95% range over 200 seeded bootstrap samples of the trials; `trials` is how many had the
    setting. Empty below 8 settled trials.
    """
    order = settled(study)
    chosen = varying(study)
    if len(order) < NEEDED or not chosen:
        return pd.DataFrame(columns=COLUMNS)
    kernels = [_kernel(parameter, order[parameter.name]) for parameter in chosen]
    rng = np.random.default_rng(0)
    n = len(order)
    every_trial = np.ones((n, 1))
    resampled = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).T.astype(float)
    places = np.argsort(rng.random((RESAMPLES, n)), axis=1).T
    share = _shares(kernels, every_trial, places)[:, 0]
    spread = _shares(kernels, resampled, places)
    low, high = np.quantile(spread, [0.05, 0.95], axis=1)
    table = pd.DataFrame(
        {
            "name": [parameter.name for parameter in chosen],
            "share": share,
            # The interval comes from resampled data; it must at least include the estimate.
            "low": np.minimum(low, share),
            "high": np.maximum(high, share),
            "trials": [int(order[parameter.name].notna().sum()) for parameter in chosen],
        }
    )
    return table.sort_values(["share", "name"], ascending=[False, True], ignore_index=True)


def by_importance(study: Results) -> list[SearchedSetting]:
    """Settings that varied, the most important first."""
    order = {name: place for place, name in enumerate(importance_table(study)["name"])}
    return sorted(varying(study), key=lambda parameter: order.get(parameter.name, len(order)))


@once_per_study
def settled(study: Results) -> pd.DataFrame:
    """Trials whose settings decided how they ended, best first; diverged ones are the worst.

    Completed and stopped trials are ordered by their value projected to the full budget. Failed,
    lost, interrupted and running trials say nothing about their settings.
    """
    trials = study.trials
    place = {trial: rank for rank, trial in enumerate(projected(study)["trial"])}
    scored = trials["value"].notna() & trials["state"].isin(["completed", "stopped"])
    kept = trials[scored | (trials["state"] == "diverged")]
    rank = kept["trial"].map(place).where(kept["state"] != "diverged", len(trials)).astype(float)
    return (
        kept.assign(_rank=rank)
        .sort_values(["_rank", "trial"], ignore_index=True)
        .drop(columns="_rank")
    )


def divergence(kernel: np.ndarray, everyone: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Branch-weighted Pearson divergence of top from all, per sample.

    Shapes: kernel (grid, n), zero columns for trials without the setting; everyone, top (n, b)
    weights -> (b,).
    """
    present = (kernel.sum(axis=0) > 0).astype(float)
    share_all = present @ everyone / everyone.sum(axis=0)
    share_top = present @ top / top.sum(axis=0)
    density_all = _density(kernel @ everyone)
    density_top = _density(kernel @ top)
    ratio = np.divide(
        density_top, density_all, out=np.ones_like(density_top), where=density_all > 0
    )
    inside = (density_all * (ratio - 1) ** 2).sum(axis=0)
    weight = np.divide(share_top**2, share_all, out=np.zeros_like(share_all), where=share_all > 0)
    return weight * inside


def importance_figure(table: pd.DataFrame) -> go.Figure:
    """Share of each setting as bars with their bootstrap interval, most important on top."""
    top = table.head(12).iloc[::-1]
    short = short_names(table["name"])
    figure = go.Figure(
        go.Bar(
            x=python_values(top["share"]),
            y=[safe(short[name]) for name in top["name"]],
            orientation="h",
            width=0.55,
            marker={"color": BEST[0]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": python_values(top["high"] - top["share"]),
                "arrayminus": python_values(top["share"] - top["low"]),
                "thickness": 1.2,
                "width": 4,
                "color": "#555555",
            },
            customdata=[
                [safe(name), f"{low:.0%}", f"{high:.0%}", int(trials)]
                for name, low, high, trials in top[["name", "low", "high", "trials"]].to_numpy()
            ],
            hovertemplate="%{customdata[0]}<br>share %{x:.0%} (%{customdata[1]} to "
            "%{customdata[2]})<br>set in %{customdata[3]} trials<extra></extra>",
            meta={"role": "accent"},
        )
    )
    layout(figure, "importance (share of the difference)", "", None, height=90 + 30 * len(top))
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(automargin=True, ticksuffix="  ")
    return figure


def importance_sentence(study: Results) -> tuple[str, bool]:
    """What separated good trials from the rest, and whether there is a chart to draw."""
    trials = len(settled(study))
    if trials < NEEDED:
        return (
            f"Importance needs {NEEDED} trials that completed, were stopped or diverged; this "
            f"study has {trials}."
        ), False
    table = importance_table(study)
    if table.empty:
        return "Every trial had the same settings: nothing to compare.", False
    if table["share"].iloc[0] == 0:
        return f"No setting separated good from bad by more than chance in {trials} trials.", True
    short = short_names(table["name"])
    certain = table[table["low"] >= EVIDENT]
    if certain.empty:
        yet = " so far" if study.info["state"] == "running" else ""
        return (
            f"No setting clearly separated good from bad{yet}: over {counted(trials, 'trial')}, "
            "every interval includes 0."
        ), True
    big = certain[certain["share"] >= 0.1].head(3)
    big = certain.head(1) if big.empty else big
    parts = listed(
        f"{short[name]} ({percent(share)})"
        for name, share in zip(big["name"], big["share"], strict=True)
    )
    unsure = " With so few trials, the order is only a hint." if trials < 20 else ""
    return f"What separated good trials from the rest: {parts}.{unsure}", True


def importance_section(study: Results) -> tuple[str, str]:
    """Which settings matter, and which changes brought the gain."""
    lead, drawable = importance_sentence(study)
    if not drawable:
        return lead, ablation_part(study)
    remark = (
        '<p class="note">PED-ANOVA (Watanabe, Bansal and Hutter, 2023): where the best quarter of '
        "the trials lies compared with all trials, beyond what chance would give. Whiskers: "
        "5% to 95% over 200 bootstrap samples. Each setting is taken alone, without interactions, "
        "and relative to where the search looked.</p>"
    )
    drawing = chart("importance", "Importance of the settings", lead)
    rows = [[str(row["name"]), percent(row["share"]), f"{percent(row['low'])} to "
             f"{percent(row['high'])}", counted(int(row["trials"]), "trial")]
            for row in importance_table(study).to_dict("records")]  # fmt: skip
    numbers = data_table("Numbers", ["setting", "share", "5% to 95%", "set in"], rows)
    return lead, drawing + remark + numbers + ablation_part(study)


def _draw(study: Results) -> go.Figure:
    return importance_figure(importance_table(study))


def _shares(kernels: list[np.ndarray], weights: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Divergence above chance of every setting, normalised per sample: (settings, b)."""
    top = _top_weights(weights)
    # Chance: the same weights and the same number of top trials, in a random order.
    random = np.stack(
        [_top_weights(weights[place, b % weights.shape[1]][:, None])[np.argsort(place), 0]
         for b, place in enumerate(places.T)], axis=1
    )  # fmt: skip
    against = weights if weights.shape[1] > 1 else np.repeat(weights, random.shape[1], axis=1)
    rows = []
    for kernel in kernels:
        chance = divergence(kernel, against, random).mean()
        rows.append(np.maximum(divergence(kernel, weights, top) - chance, 0))
    above = np.array(rows)
    total = above.sum(axis=0)
    return np.divide(above, total, out=np.zeros_like(above), where=total > 0)


def _top_weights(weights: np.ndarray) -> np.ndarray:
    """Keep the weight of the best quarter (at least 3 trials) in rank order: (n, b) -> (n, b)."""
    total = weights.sum(axis=0)
    target = np.maximum(np.ceil(TOP * total), 3)
    before = np.cumsum(weights, axis=0) - weights
    return np.clip(target - before, 0, weights)


def _kernel(parameter: SearchedSetting, column: pd.Series) -> np.ndarray:
    """One Parzen kernel per trial, summing to 1 over the grid: (grid, n); zeros if absent."""
    units = column.map(parameter.unit).to_numpy(dtype=float)
    present = ~np.isnan(units)
    if parameter.kind == "choice":
        levels = np.linspace(0, 1, max(2, len(parameter.choices)))
        same = np.isclose(levels[:, None], units[None, :])
        kernel = np.where(same, 1 - MIXING, MIXING / (len(levels) - 1))
    else:
        points = np.linspace(0, 1, GRID)[:, None]
        spread = units[present].std() if present.any() else 0.0
        few = max(3, math.ceil(TOP * present.sum()))
        # Half of Silverman's width, which is made for one Gaussian: in 40 simulated searches of 30
        # trials the setting that mattered came first in 85% (full width: 68%).
        width = max(0.5 * spread * few**-0.2, 1.5 / GRID)
        kernel = np.exp(-0.5 * ((points - np.nan_to_num(units)[None, :]) / width) ** 2)
    return np.where(present, kernel / kernel.sum(axis=0), 0.0)


def _density(mass: np.ndarray) -> np.ndarray:
    total = mass.sum(axis=0)
    return np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)


CHART = Chart("importance", _draw)
