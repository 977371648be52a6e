"""Tables against numbers worked out by hand."""

import math
from collections.abc import Callable

import pandas as pd
import pytest

from raygen.report.charts.curves import curves_table
from raygen.report.charts.finalists import finalists_table
from raygen.report.charts.progress import progress_table
from raygen.report.charts.tradeoffs import tradeoffs_table
from raygen.report.tables import (
    AxisScale,
    SearchedSetting,
    compute_saved,
    contenders,
    differing,
    judged,
    leaders,
    projected,
    state_counts,
    value_scale,
    varying,
)
from raygen.results import Results
from raygen.status import status
from report.journals import close, end, finals, replicate, report, suggest

Make = Callable[..., Results]


def completed(trial: int, values: list[float], **config: object) -> list[dict]:
    """A trial that reports at the rungs 2, 6 and 16."""
    reports = [report(trial, k, v) for k, v in zip((2, 6, 16), values, strict=True)]
    return [*suggest(trial, {"width": 16 + trial, **config}), *reports, end(trial)]


def stopped(trial: int, value: float) -> list[dict]:
    """A trial cut at the first rung."""
    return [
        *suggest(trial, {"width": 16 + trial}),
        report(trial, 2, value),
        end(trial, "stopped", "cut"),
    ]


def test_the_middle_of_a_log_range_is_its_geometric_mean() -> None:
    parameter = SearchedSetting("lr", "float", 1e-4, 1e-2, log=True)

    assert parameter.unit(1e-3) == pytest.approx(0.5)
    assert parameter.unit(1e-4) == 0
    assert parameter.unit(1e-2) == 1


def test_choices_are_spread_evenly_and_found_through_float_columns() -> None:
    parameter = SearchedSetting("batch", "choice", choices=("32", "64", "128"))

    assert [parameter.unit(value) for value in (32.0, 64.0, 128.0)] == [0, 0.5, 1]
    assert math.isnan(parameter.unit(math.nan))
    assert math.isnan(parameter.unit("256"))


def test_a_value_outside_the_scale_lies_on_its_end() -> None:
    assert AxisScale(1, 100, log=True).unit(-5) == 0
    assert AxisScale(1, 100, log=True).unit(1e9) == 1
    assert AxisScale(3, 3, log=False).unit(3) == 0.5


def test_best_so_far_follows_completed_trials_only(make_study: Make) -> None:
    study = make_study(
        completed(0, [30, 20, 10]) + stopped(1, 5) + completed(2, [20, 9, 8]) + stopped(3, 99)
    )

    assert progress_table(study)["best"].tolist() == [10, 10, 8, 8]


def test_best_so_far_rises_when_the_metric_is_maximised(make_study: Make) -> None:
    records = []
    for trial, value in enumerate([-900.0, -1000.0, -800.0]):
        records += [*suggest(trial, {}), report(trial, 16, value, metric="elbo"), end(trial)]
    study = make_study(records, objective={"metric": "elbo", "direction": "maximize"})

    assert progress_table(study)["best"].tolist() == [-900, -900, -800]
    assert contenders(study)[:2] == [2, 0]


def test_compute_is_the_sum_of_training_seconds_so_far(make_study: Make) -> None:
    study = make_study(completed(0, [3, 2, 1]) + stopped(1, 9))

    # The fixture trains 1.5 s per kimg: 16 kimg, then 2 kimg.
    assert progress_table(study)["compute"].tolist() == [24.0, 27.0]


def test_curves_mark_the_last_finite_report_of_each_trial(make_study: Make) -> None:
    records = [*suggest(0, {}), report(0, 2, 7.0), report(0, 6, None), end(0, "diverged", "NaN")]
    table = curves_table(make_study(records + stopped(1, 3)))

    assert table[table["last"]][["trial", "kimg"]].to_numpy().tolist() == [[0, 2], [1, 2]]
    assert table["value"].isna().sum() == 1


def test_early_stopping_saves_what_stopped_trials_did_not_see(make_study: Make) -> None:
    bill = compute_saved(make_study(completed(0, [3, 2, 1]) + stopped(1, 9) + stopped(2, 9)))

    assert bill.kimg == 16 + 2 + 2
    assert bill.kimg_full == 3 * 16
    assert bill.share == pytest.approx(28 / 48)


def test_what_was_spent_is_as_exact_as_a_milestone(make_study: Make) -> None:
    records = [r for n in range(3) for r in (*suggest(n, {}), report(n, 0.1, 1.0), end(n))]
    study = make_study(records, budget={"kimg": 0.1, "total_kimg": 1.0}, rungs=[0.1])

    assert study.spent("kimg") == 0.3 != 3 * 0.1
    assert status(study.folder.root)["budget"]["total_kimg"]["used"] == 0.3


def test_a_cut_trial_is_projected_by_the_median_step_of_the_others(make_study: Make) -> None:
    # Steps of the completed trials: -1 then -2, so a value of 7 at the first rung ends at 4.
    study = make_study(completed(0, [10, 9, 7]) + completed(1, [8, 7, 5]) + stopped(2, 7))
    table = projected(study).set_index("trial")["value"]

    assert table.to_dict() == {2: 4.0, 1: 5.0, 0: 7.0}
    assert table.index.tolist() == [2, 1, 0]


def test_projection_on_a_log_scale_multiplies(make_study: Make) -> None:
    # Each completed trial ends at a tenth of its first value.
    study = make_study(completed(0, [1000, 300, 100]) + completed(1, [10, 3, 1]) + stopped(2, 50))

    assert projected(study).set_index("trial")["value"][2] == pytest.approx(5.0)


def test_one_exploded_trial_does_not_stretch_a_linear_axis(make_study: Make) -> None:
    records = []
    for trial in range(12):
        value = -1e9 if trial == 7 else -1000.0 + trial
        records += [*suggest(trial, {}), report(trial, 16, value, metric="elbo"), end(trial)]
    scale = value_scale(make_study(records, objective={"metric": "elbo", "direction": "maximize"}))

    assert scale is not None
    assert not scale.log
    assert scale.low > -2000
    assert scale.high == -989


def test_a_positive_wide_metric_gets_a_log_axis_and_no_metric_gets_none(make_study: Make) -> None:
    scale = value_scale(make_study(completed(0, [1000, 10, 1])))

    assert scale is not None
    assert scale.log
    assert value_scale(make_study([], folder="none")) is None


def test_the_default_joins_the_best_five_once(make_study: Make) -> None:
    records = []
    for trial in range(7):
        records += completed(trial, [20 - trial] * 3)

    assert contenders(make_study(records)) == [6, 5, 4, 3, 2, 0]
    assert contenders(make_study(records, folder="b", start_trials=0)) == [6, 5, 4, 3, 2]


def test_absent_counts_as_different_and_equal_as_equal(make_study: Make) -> None:
    study = make_study(
        completed(0, [3, 2, 1], loss={"name": "hinge"}, beta=0.5)
        + completed(1, [3, 2, 1], loss={"name": "wasserstein", "penalty_weight": 10.0}, beta=0.5)
    )

    assert differing(study, [0, 1]) == {
        "width": True, "loss.name": True, "loss.penalty_weight": True, "beta": False,
    }  # fmt: skip


def test_only_settings_that_vary_are_compared(make_study: Make) -> None:
    parameters = [
        {"name": "width", "kind": "int", "low": 16, "high": 64, "log": False, "choices": None},
        {"name": "beta", "kind": "float", "low": 0, "high": 1, "log": False, "choices": None},
    ]
    study = make_study(
        completed(0, [3, 2, 1], beta=0.5) + completed(1, [3, 2, 1], beta=0.5), parameters=parameters
    )

    assert [parameter.name for parameter in varying(study)] == ["width"]


def test_states_are_counted_most_frequent_first(make_study: Make) -> None:
    study = make_study(stopped(0, 1) + completed(1, [3, 2, 1]) + stopped(2, 2) + [close()])

    assert state_counts(study).to_dict() == {"stopped": 2, "completed": 1}


def test_every_table_of_an_empty_study_is_empty(make_study: Make) -> None:
    study = make_study([])

    for table in (curves_table, progress_table, projected, state_counts):
        assert isinstance(table(study), pd.DataFrame | pd.Series)
        assert len(table(study)) == 0
    assert contenders(study) == []


BOTH = [{"metric": "fd_classifier", "direction": "minimize"},
        {"metric": "recall", "direction": "maximize"}]  # fmt: skip


def point(trial: int, value: float, recall: float, state: str = "completed") -> list[dict]:
    """A trial with two objectives."""
    drawn = suggest(trial, {"width": 16 + trial})
    return [*drawn, report(trial, 16, value, recall=recall), end(trial, state)]


def test_the_values_of_finalists_are_their_own_and_those_of_other_seeds(make_study: Make) -> None:
    study = make_study(
        completed(0, [5, 4, 3]) + completed(1, [6, 5, 2]) + completed(2, [9, 9, 9])
        + [finals(1, 0)] + replicate(3, 1, 4.0) + replicate(4, 0, None, "diverged")
    )  # fmt: skip

    assert finalists_table(study).to_dict("records") == [
        {"trial": 0, "seed": 100, "state": "single", "value": 3.0},
        {"trial": 1, "seed": 101, "state": "single", "value": 2.0},
        {"trial": 1, "seed": 103, "state": "completed", "value": 4.0},
    ]
    assert list(judged(study)) == [1]


def test_replicates_change_no_table_of_the_search(make_study: Make) -> None:
    search = completed(0, [5, 4, 3]) + stopped(1, 9)
    alone = make_study(search)
    both = make_study([*search, finals(0), *replicate(2, 0, 1.0)], folder="both")

    for table in (curves_table, progress_table, projected, state_counts):
        assert table(both).equals(table(alone))
    assert compute_saved(both) == compute_saved(alone)


def test_trade_offs_hold_every_trial_with_all_objectives_and_mark_the_front(
    make_study: Make,
) -> None:
    study = make_study(
        point(0, 5.0, 0.5) + point(1, 4.0, 0.4) + point(2, 6.0, 0.4) + point(3, 1.0, 0.9, "stopped")
        + [*suggest(4, {"width": 20}), end(4, "failed", "boom")],
        objectives=BOTH,
    )  # fmt: skip
    table = tradeoffs_table(study)

    assert table.columns.tolist() == ["trial", "state", "front", "fd_classifier", "recall"]
    assert table["trial"].tolist() == [0, 1, 2, 3]
    assert table["front"].tolist() == [True, True, False, False]


def test_of_several_objectives_the_front_is_compared_thinned_out_evenly(make_study: Make) -> None:
    front = [point(trial, 1.0 + trial, 0.1 * trial) for trial in range(9)]
    worse = point(9, 1.5, 0.0)
    study = make_study(sum(front, []) + worse, objectives=BOTH, start_trials=0)  # noqa: RUF017

    assert leaders(study) == [0, 2, 4, 6, 8]
    assert leaders(study, top=10) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
