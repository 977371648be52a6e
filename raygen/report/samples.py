"""Samples of the best trials over time, beside real images; what a VAE rebuilds."""

import math
from html import escape
from pathlib import Path

import pandas as pd

from raygen.report.embedded_pictures import (
    Picture,
    embed_picture,
    nearest_milestone,
    tiles_picture,
    trial_picture,
)
from raygen.report.labels import ABSENT, listed, number, short_metric
from raygen.report.tables import leaders
from raygen.results import Results, ranked
from raygen.words import counted, duration

SHOWN = 3  # trials
STEPS = 8  # checkpoints of each
STRIPS = 200  # trials whose samples are shown wherever the trial is
TILES = 6  # of a strip
ROWS = 4  # of 8 tiles
VIEWS = {
    "reconstructions": "Test images, each above its reconstruction from its mean latent",
    "interpolation": "Interpolations, one per row",
}


def samples_section(study: Results) -> tuple[str, str]:
    """How the samples of the best trials developed."""
    shown = [(trial, checkpoints(study, trial)) for trial in leaders(study, SHOWN)]
    shown = [(trial, table) for trial, table in shown if len(table)]
    if not shown:
        return "No samples to show: no trial with a value has saved a picture.", ""
    body = _steps(study, [trial for trial, _ in shown])
    body += "".join(_strip(study, trial, table) for trial, table in shown)
    same = f"Every picture of samples uses the same {8 * ROWS} latents."
    return _lead(study, shown), f'{body}{_views(study, shown[0][0])}<p class="note">{same}</p>'


def sample_strips(study: Results) -> dict[str, str]:
    """A few samples of each trial at its best milestone, by number, as data URIs.

    Of too many trials: the best, and those that broke, whose pictures show how.
    """
    broken = study.trials.loc[study.trials["state"] == "diverged", "trial"]
    order = [*ranked(study)["trial"].tolist()[: STRIPS * 3 // 4], *broken.tolist()]
    best = dict(zip(study.trials["trial"], study.trials["best_kimg"].astype(float), strict=True))
    made = {}
    for trial in list(dict.fromkeys(int(trial) for trial in order))[:STRIPS]:
        grids = study.folder.trial(trial).all_samples()
        if not grids:
            continue
        path = grids[nearest_milestone(grids, best[trial])]
        picture = tiles_picture(path, 1, TILES, largest=32, quality=75)
        if picture is not None:
            made[str(trial)] = picture.uri
    return made


def checkpoints(study: Results, trial: int, most: int = STEPS) -> pd.DataFrame:
    """One row per picture to show of a trial: kimg, path, value (nan if unknown), best.

    The first, the last and the best are always among them; the others lie evenly between.
    """
    paths = study.folder.trial(trial).all_samples()
    history = study.history[study.history["trial"] == trial]
    value = {}
    if study.metric in study.history:
        value = dict(zip(history["kimg"].round(3), history[study.metric], strict=True))
    best = float(study.trials.set_index("trial")["best_kimg"].astype(float)[trial])
    times = list(paths)
    if not times:
        return pd.DataFrame(columns=["kimg", "path", "value", "best"])
    at_best = min(times, key=lambda kimg: abs(kimg - best)) if not math.isnan(best) else None
    kept = {times[0], times[-1], *([at_best] if at_best is not None else [])}
    for step in range(most):  # from both ends inwards, as far as there is room
        near = times[round(step * (len(times) - 1) / max(1, most - 1))]
        if len(kept) < most:
            kept.add(near)
    rows = [
        (kimg, paths[kimg], float(value.get(round(kimg, 3), math.nan)), kimg == at_best)
        for kimg in sorted(kept)
    ]
    return pd.DataFrame(rows, columns=["kimg", "path", "value", "best"])


def _lead(study: Results, strips: list[tuple[int, pd.DataFrame]]) -> str:
    trial, table = strips[0]
    measured = table[table["value"].notna()]
    first, best = measured.iloc[:1], table[table["best"]]
    name = short_metric(study.metric)
    trials = listed(f"{other}" for other, _ in strips)
    which = f"trial{'s' if len(strips) > 1 else ''} {trials}"
    if first.empty or best.empty or first.index[0] == best.index[0]:
        return f"Samples of {which} beside real images, all from the same latents."
    seconds = study.history[
        (study.history["trial"] == trial)
        & (study.history["kimg"].round(3) == round(float(best["kimg"].iloc[0]), 3))
    ]["seconds"]
    after = f" after {duration(float(seconds.iloc[0]))}" if len(seconds) else ""
    return (
        f"Trial {trial} went from {name} {number(first['value'].iloc[0])} at "
        f"{number(first['kimg'].iloc[0])} kimg to {number(best['value'].iloc[0])} at "
        f"{number(best['kimg'].iloc[0])} kimg{after}; {counted(len(strips), 'trial')} over time, "
        "beside real images."
    )


def _steps(study: Results, trials: list[int]) -> str:
    """A slider over the steps of one trial, beside real images or a step that is pinned."""
    if not study.folder.real.is_file():
        return ""
    options = "".join(f'<option value="{trial}">trial {trial}</option>' for trial in trials)
    blank = "<figure><img alt=''><figcaption></figcaption></figure>"
    return (
        '<div id="steps" class="needs-js"><div class="controls">'
        f'<select aria-label="trial">{options}</select>'
        '<input type="range" min="0" max="0" value="0" aria-label="step of its training">'
        '<button type="button" id="pin">pin this step</button></div>'
        f'<div class="hero">{blank}{blank}</div></div>'
    )


def _strip(study: Results, trial: int, table: pd.DataFrame) -> str:
    shown = []
    for row in table.to_dict("records"):
        picture = tiles_picture(Path(str(row["path"])), ROWS)
        value = f"{short_metric(study.metric)} {number(row['value'])}"
        value = value if row["value"] == row["value"] else ABSENT
        caption = f"{number(row['kimg'])} kimg · {value}" + (" · best" if row["best"] else "")
        what = f"trial {trial} at {caption}"
        shown.append(_figure(picture, what, caption, bool(row["best"]), "step"))
    real = tiles_picture(study.folder.real, ROWS)
    shown.append(_figure(real, "real training images", "real images", False, "real"))
    head = f'<h3><a href="#trial-{trial}">trial {trial}</a></h3>'
    return f'<div class="strip" data-trial="{trial}">{head}<div>{"".join(shown)}</div></div>'


def _views(study: Results, trial: int) -> str:
    """Reconstructions and interpolations of the best trial, at its best checkpoint."""
    best = float(study.trials.set_index("trial")["best_kimg"].astype(float)[trial])
    shown = []
    for name, words in VIEWS.items():
        picture = trial_picture(study, trial, name, best)
        if picture is not None:
            caption = f"{words}; trial {trial} at {number(picture.kimg)} kimg"
            shown.append(_figure(picture, caption, caption, False))
    if study.info.get("family") == "vae" and shown:
        prior = study.folder.trial(trial).all_samples()
        near = min(prior, key=lambda kimg: abs(kimg - best)) if prior else None
        picture = embed_picture(prior[near], near) if near is not None else None
        caption = f"Drawn from the prior; trial {trial} at {number(near)} kimg"
        shown.insert(1, _figure(picture, caption, caption, False))
    if not shown:
        return ""
    return f'<div class="views" data-trial="{trial}">{"".join(shown)}</div>'


def _figure(picture: Picture | None, alt: str, caption: str, best: bool, kind: str = "") -> str:
    if picture is None:
        return '<figure><div class="missing">no picture</div></figure>'
    return (
        f'<figure class="{kind}{" chosen" if best else ""}">'
        f'<button class="grid" type="button" aria-label="enlarge: {escape(alt)}">'
        f'<img alt="{escape(alt)}" src="{picture.uri}" width="{picture.width}" '
        f'height="{picture.height}" loading="lazy" decoding="async"></button>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
