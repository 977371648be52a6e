"""Are finalists worth their compute? Other seeds for the best three, or more trials instead.

    uv run python benchmarks/finalists.py

From the configurations of curves.csv.gz that were trained with five seeds: 30 are drawn at random
and compared by one seed. Then either the best three get k more seeds, and the best mean is taken,
or 3k more configurations are tried, for the same compute. What is taken is judged by a seed that
nobody saw. The last line is one JSON object: the change of that value by each, in percent.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

CURVES = Path(__file__).parent / "curves.csv.gz"
POOL, BEST, SEEDS, DRAWS = 30, 3, 5, 4000


def values_of(table: pd.DataFrame, family: str) -> np.ndarray:
    """Values at the full budget (configurations, seeds), lower is better."""
    rows = table[table["family"] == family]
    rows = rows[rows["kimg"] == rows["kimg"].max()]
    number = rows["seed"] - 100 * rows["config"]
    wide = rows.assign(number=number).pivot_table(index="config", columns="number", values="value")
    return wide.dropna().to_numpy()[:, :SEEDS]


def gains(values: np.ndarray, random: np.random.Generator) -> dict[str, float]:
    """Percent by which what is taken changes, against the best by one seed."""
    logs: dict[str, list[float]] = {}
    for _ in range(DRAWS):
        order, seeds = random.permutation(len(values)), random.permutation(SEEDS)
        unseen, seen = seeds[-1], values[:, seeds[0]]
        top = order[:POOL][np.argsort(seen[order[:POOL]])[:BEST]]
        taken = {"one seed": top[0]}
        for k in range(1, SEEDS - 1):
            means = values[top][:, seeds[: k + 1]].mean(axis=1)
            taken[f"{k} more seeds of {BEST}"] = top[means.argmin()]
            more = order[: POOL + BEST * k]
            taken[f"{BEST * k} more trials"] = more[seen[more].argmin()]
        for name, config in taken.items():
            logs.setdefault(name, []).append(float(np.log(values[config, unseen])))
    start = np.mean(logs["one seed"])
    return {
        name: round(100 * float(np.expm1(np.mean(log) - start)), 2) for name, log in logs.items()
    }


def main() -> None:
    table, random = pd.read_csv(CURVES, low_memory=False), np.random.default_rng(0)
    by_family = {family: gains(values_of(table, family), random) for family in ("gan", "vae")}
    for family, changes in by_family.items():
        print(family, *(f"{name}: {change:+.2f}%" for name, change in changes.items()), sep="\n  ")
    print(json.dumps(by_family))


if __name__ == "__main__":
    main()
