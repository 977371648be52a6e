"""Do intervals over a few seeds hold the next seed as often as they say?

    uv run python benchmarks/seed_intervals.py

Of the configurations of curves.csv.gz that were trained with five seeds, three of the best quarter
are drawn, as finalists are. From n seeds of each, an interval for one more seed is made with the
pooled variance of the three, with each one's own, and with the pooled one as so many more values of
it (raygen.posterior). The last line is one JSON object: by table, n and variance, the share of
intervals that hold a seed that was left out (0.95 is right), and their median half width.
"""

import json

import numpy as np
import pandas as pd
from scipy import stats

from finalists import CURVES, SEEDS, values_of

DRAWS, LEVEL = 4000, 0.95
PRIORS = {"pooled": np.inf, "own": 0.0, "1": 1.0, "2": 2.0, "4": 4.0}


def coverage(values: np.ndarray, random: np.random.Generator) -> dict[str, dict[str, float]]:
    """Share of intervals that hold an unseen seed, and median half width, by seeds and variance."""
    best = values[np.argsort(np.median(values, axis=1))[: len(values) // 4]]
    answer: dict[str, dict[str, float]] = {}
    for count in range(2, SEEDS):
        held: dict[str, list[bool]] = {name: [] for name in PRIORS}
        widths: dict[str, list[float]] = {name: [] for name in PRIORS}
        for _ in range(DRAWS):
            three = random.permuted(best[random.choice(len(best), 3, replace=False)], axis=1)
            seen, unseen = three[:, :count], three[:, count]
            own, freedom = seen.var(axis=1, ddof=1), count - 1
            for name, prior in PRIORS.items():
                variance = np.full(3, own.mean())
                degrees = 3.0 * freedom
                if np.isfinite(prior):
                    degrees = prior + freedom
                    variance = (prior * variance + freedom * own) / degrees
                half = stats.t.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(variance * (1 + 1 / count))
                held[name] += (np.abs(unseen - seen.mean(axis=1)) <= half).tolist()
                widths[name] += half.tolist()
        for name in PRIORS:
            key = f"{count} seeds, {name}"
            share = round(float(np.mean(held[name])), 3)
            answer[key] = {"held": share, "half": round(float(np.median(widths[name])), 4)}
    return answer


def main() -> None:
    table, random = pd.read_csv(CURVES, low_memory=False), np.random.default_rng(0)
    answers = {family: coverage(values_of(table, family), random) for family in ("gan", "vae")}
    for family, rows in answers.items():
        for key, row in rows.items():
            print(f"{family} {key}: holds {row['held']:.1%}, half width {row['half']:g}")
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
