"""Costs and their fronts, against every pair of trials."""

from collections.abc import Callable
from typing import Any

import numpy as np

from raygen.report.charts.costs import CHART, costs_table, front
from raygen.results import Results
from report.journals import end, report, suggest

Make = Callable[..., Results]


def random_study(make_study: Make, minimise: bool = True) -> Results:
    rng = np.random.default_rng(1)
    records: list[Any] = []
    for trial in range(40):
        more = {"seconds": float(rng.integers(10, 99)), "million_parameters": 1.0}
        drawn = suggest(trial, {"width": 16 + trial})
        records += [*drawn, report(trial, 16, float(rng.random() + 1), **more)]
        records += [end(trial, "completed" if rng.random() < 0.7 else "stopped")]
    direction = "minimize" if minimise else "maximize"
    return make_study(records, objective={"metric": "fd_classifier", "direction": direction})


def beaten(table: Any, row: Any, sign: int) -> bool:
    """Whether another completed trial is at least as good in both, and better in one."""
    done = table[table["state"] == "completed"]
    value, cost = sign * done["value"], done["seconds"]
    least = (value <= sign * row["value"]) & (cost <= row["seconds"])
    better = (value < sign * row["value"]) | (cost < row["seconds"])
    return bool((least & better).any())


def test_the_front_is_who_no_other_completed_trial_beats(make_study: Make) -> None:
    for sign, minimise in ((1, True), (-1, False)):
        table = costs_table(random_study(make_study, minimise))
        way = "minimize" if minimise else "maximize"
        free = {
            int(row["trial"])
            for row in table.to_dict("records")
            if row["state"] == "completed" and not beaten(table, row, sign)
        }

        assert set(front(table, "seconds", (way, "minimize"))["trial"]) == free


def test_a_cost_that_is_the_same_for_all_has_no_panel(make_study: Make) -> None:
    study = random_study(make_study)

    assert "seconds" in costs_table(study)
    assert "million_parameters" not in costs_table(study)
    assert "images_per_second" not in costs_table(study)
    assert CHART.draw(study).layout.xaxis.title.text == "training time (s)"
