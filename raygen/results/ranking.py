"""Which trials of a study are the best, and by what."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from raygen.errors import InputError
from raygen.failure import why_useless
from raygen.image_shape import ImageShape
from raygen.metrics import METRICS
from raygen.posterior import posterior
from raygen.results.study import Results

FINALIST_COLUMNS = [
    "trial", "single", "seeds", "mean", "sd", "low", "high", "best", "collapsed",
]  # fmt: skip
FULL_COLUMNS = ["trial", "metric", "value", "sd", "seeds", "samples", "protocol"]


class Model(NamedTuple):
    """The checkpoint to use: of a trial, or of a finalist's training with another seed."""

    run: int  # whose folder it is in: a trial's number or that of a replicate
    trial: int  # whose settings it has
    seed: int
    value: float  # by which it was chosen
    kimg: float

    @property
    def words(self) -> str:
        """Which one it is."""
        again = "" if self.run == self.trial else f", retrained with seed {self.seed}"
        return f"trials/{self.run:04d}/best.pt (trial {self.trial}{again})"


def failed(study: Results) -> dict[int, str]:
    """Why some trials and replicates drew nothing usable, by number, whatever their objective says.

    Read from what they reported at their best milestone, however short their training was.
    """
    image = ImageShape.of(study.info.get("data", {}).get("image"))
    known = study.metric in METRICS
    guess = METRICS[study.metric].value_of_guess(image) if known else None
    family = str(study.info.get("family"))
    reasons = {}
    for table in (study.trials, study.replicates):
        rows = zip(table["trial"], table["value"], table["variation"], strict=True)
        for trial, value, variation in rows:
            if reason := why_useless(family, variation, value, guess, study.minimise):
                reasons[int(trial)] = reason
    return reasons


def best_model(study: Results) -> Model | None:
    """Return the checkpoint to use, or None without one.

    That of the best trial by `ranked`, if nothing has completed; else the best of all that have,
    including the finalists' replicates. What was deleted or drew nothing usable counts only if
    there is nothing else. With several objectives, the first one decides on the front.
    """
    order = ranked(study)
    if order.empty:
        return None
    rows = order.assign(of=order["trial"])
    if len(study.objectives) == 1:
        rows = pd.concat([rows, study.replicates[study.replicates["value"].notna()]])
        done = rows[rows["state"] == "completed"]
        bad = failed(study)
        done = done.assign(_failed=done["trial"].isin(list(bad))).sort_values(
            ["_failed", "value", "trial"], ascending=[True, study.minimise, True]
        )
        rows = done if len(done) else rows
    else:
        front = pareto(study)
        rows = rows.set_index("trial", drop=False).loc[front] if front else rows
    gone = study.checkpoints[study.checkpoints["collected"].astype(bool)]
    gone = set(gone.loc[gone["role"] == "best", "trial"].astype(int))
    kept = rows[~rows["trial"].isin(list(gone))]
    if kept.empty:
        return None
    first = kept.iloc[0]
    run, trial, seed = (int(first[name]) for name in ("trial", "of", "seed"))
    return Model(run, trial, seed, float(first["value"]), float(first["best_kimg"]))


def fresh(study: Results, model: Model) -> dict[str, dict[str, Any]] | None:
    """A model's values measured after it was chosen, by metric: value, sd, each, protocol.

    They come from new samples and from images that did not choose it; None if not measured.
    """
    measured = study.info.get("full", {}).get(str(model.run))
    if measured is None:
        return None
    return {
        metric: {**value, "protocol": measured["protocols"][metric]}
        for metric, value in measured["values"].items()
    }


def ranked(study: Results) -> pd.DataFrame:
    """Trials with a finite value, best first; those trained to the full budget before all others.

    Those that drew nothing usable come last (see `failed`).

    A value reached at a low rung is not comparable with one at the full budget, so a stopped
    trial is the best only while nothing has completed. Finalists that other seeds have judged come
    before everything else, by the mean over these: their own value got them chosen and is
    optimistic. One that failed with more than half of them does not: so is a mean of lucky seeds.
    """
    scored = study.trials[study.trials["value"].notna()]
    ended = study.replicates[~study.replicates["state"].isin(["running", "interrupted"])]
    tried = ended["of"].value_counts().to_dict()
    means = {n: v for n, v in _replicated(study).items() if 2 * len(v) >= tried[n]}
    return (
        scored.assign(
            _mean=scored["trial"].map({trial: sum(v) / len(v) for trial, v in means.items()}),
            _full=scored["state"] != "completed",
            _failed=scored["trial"].isin(list(failed(study))),
        )
        .sort_values(
            ["_failed", "_mean", "_full", "value", "trial"],
            ascending=[True, study.minimise, True, study.minimise, True],
        )
        .drop(columns=["_failed", "_mean", "_full"])
    )


def best_trial(study: Results) -> int:
    """Return the number of the trial with the best settings.

    Raises:
        InputError: no trial has a value yet.
    """
    order = ranked(study)
    if order.empty:
        raise InputError(f"{study.folder.root}: no trial has a value yet")
    return int(order.iloc[0]["trial"])


def pareto(study: Results) -> list[int]:
    """Completed trials that no other completed one beats in all objectives, first objective first.

    To beat is to be at least as good in each objective and better in one. A trial that lacks one
    of the values is left out.
    """
    done = study.trials.loc[study.trials["state"] == "completed", "trial"]
    table = study.values[study.values["trial"].isin(done)].dropna()
    signs = [1 if objective["direction"] == "minimize" else -1 for objective in study.objectives]
    points = (
        table[[objective["metric"] for objective in study.objectives]].to_numpy(dtype=float) * signs
    )
    free = [
        not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any() for point in points
    ]
    front = table.loc[np.array(free, dtype=bool)].sort_values(
        [study.metric, "trial"], ascending=[study.minimise, True]
    )
    return front["trial"].astype(int).tolist()


def finalists(study: Results) -> pd.DataFrame:
    """One row per finalist, best first: what it got in the search, and with other seeds.

    `single` is its value in the search; `seeds` how many replicates completed; `mean` and `sd` of
    their values, without `single`, which is the best of many and so optimistic; `low` to `high` the
    95% interval of the mean; `best` the probability that its mean is the best, as of the last round
    of the race; `collapsed` the share of its replicates that diverged. nan where unknown.
    """
    values = _replicated(study)
    chosen = [*study.info.get("finals", []), *study.replicates["of"]]
    numbers = [int(trial) for trial in dict.fromkeys(chosen)]
    belief = posterior({trial: values.get(trial, []) for trial in numbers}, study.minimise)
    raced = {int(trial): p for trial, p in study.info.get("race", {}).get("best", {}).items()}
    single = dict(zip(study.trials["trial"], study.trials["value"], strict=True))
    rows = []
    for trial in numbers:
        states = study.replicates.loc[study.replicates["of"] == trial, "state"]
        judged = int(states.isin(["completed", "diverged"]).sum())
        rows.append(
            {
                "trial": trial,
                "single": single.get(trial, math.nan),
                "seeds": len(values.get(trial, [])),
                **{name: getattr(belief, name)[trial] for name in ("mean", "sd", "low", "high")},
                "best": raced.get(trial, belief.best[trial]),
                "collapsed": (states == "diverged").sum() / judged if judged else math.nan,
            }
        )
    table = pd.DataFrame(rows, columns=FINALIST_COLUMNS)
    return table.sort_values("mean", ascending=study.minimise, kind="stable", ignore_index=True)


def full_measurements(study: Results) -> pd.DataFrame:
    """One row per finalist and metric of the full protocol: what its best weights are worth.

    `value` is the mean and `sd` the standard deviation over `seeds` draws of `samples` each;
    `protocol` the short hash of how.
    """
    protocols = study.info["protocols"]
    rows = []
    for trial, result in study.info.get("full", {}).items():
        for metric, value in result["values"].items():
            digest = result["protocols"][metric]
            rows.append(
                {
                    "trial": int(trial),
                    "metric": metric,
                    **{k: math.nan if value[k] is None else value[k] for k in ("value", "sd")},
                    "seeds": len(value["each"]),
                    "samples": protocols.get(digest, {}).get("samples"),
                    "protocol": digest,
                }
            )
    return pd.DataFrame(rows, columns=FULL_COLUMNS)


def _replicated(study: Results) -> dict[int, list[float]]:
    """Values of the replicates that completed, by finalist."""
    table = study.replicates
    done = table[(table["state"] == "completed") & table["value"].notna()]
    values: dict[int, list[float]] = {}
    for trial, value in zip(done["of"].tolist(), done["value"].tolist(), strict=True):
        values.setdefault(int(trial), []).append(float(value))
    return values
