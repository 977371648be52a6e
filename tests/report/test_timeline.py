"""Attempts by place and time, as the journal tells them."""

from collections.abc import Callable

import pytest

from raygen.report.charts.timeline import CHART, timeline_table, usage
from raygen.results import Results
from report.journals import (
    START,
    at,
    close,
    end,
    make_info,
    reopen,
    replicate,
    report,
    retry,
    start,
    suggest,
)

Make = Callable[..., Results]


def test_trials_at_the_same_time_have_lanes_of_their_own_and_later_ones_use_them_again(
    make_study: Make,
) -> None:
    study = make_study(
        [
            *at(0, *suggest(0, {"a": 1})),
            *at(1, *suggest(1, {"a": 2})),
            *at(5, end(0)),
            *at(6, *suggest(2, {"a": 3})),
            *at(9, end(1), end(2)),
        ]
    )
    table = timeline_table(study)

    assert table[["trial", "start", "stop"]].to_numpy().tolist() == [
        [0, 0, 5],
        [1, 1, 9],
        [2, 6, 9],
    ]
    assert table["lane"].tolist() == ["host cpu 1", "host cpu 2", "host cpu 1"]
    used = usage(table)
    assert (used.lanes, used.busy, used.open, used.slowest) == (2, 16, 9, 1)


def test_a_lost_attempt_ends_where_it_was_noticed_and_the_next_has_its_own_bar(
    make_study: Make,
) -> None:
    study = make_study(
        [
            *at(0, *suggest(0, {"a": 1})),
            *at(4, retry(0, 2, 0.0)),
            *at(6, start(0, 2, node="other")),
            *at(9, end(0)),
        ]
    )

    assert timeline_table(study)[["state", "node", "start", "stop"]].to_numpy().tolist() == [
        ["lost", "host", 0, 4],
        ["completed", "other", 6, 9],
    ]


def test_what_ran_when_a_session_died_stopped_with_its_last_record(make_study: Make) -> None:
    study = make_study(
        [
            *at(0, *suggest(0, {"a": 1})),
            *at(3, report(0, 2, 5.0)),
            *at(100, reopen(make_info()), start(0, 2)),
            *at(104, end(0)),
            *at(105, close()),
        ]
    )
    table = timeline_table(study)

    assert table[["state", "start", "stop"]].to_numpy().tolist() == [
        ["interrupted", 0, 3],
        ["completed", 100, 104],
    ]


def test_a_running_trial_lasts_until_the_last_record(make_study: Make) -> None:
    study = make_study([*at(0, *suggest(0, {"a": 1})), *at(7, report(0, 2, 5.0))])

    assert timeline_table(study)[["state", "stop"]].to_numpy().tolist() == [["running", 7]]


def test_other_seeds_are_bars_of_the_finalist_that_they_repeat(make_study: Make) -> None:
    records = [*suggest(4, {"a": 1}), *at(3, report(4, 16, 1.0), end(4))]
    study = make_study([*records, *at(5, *replicate(5, 4, 2.0))])
    figure = CHART.draw(study)
    again = next(trace for trace in figure.data if trace.meta["role"] == "again")

    assert set(again.customdata) == {4}
    assert timeline_table(study)["of"].tolist() == [-1, 4]


def test_journals_of_old_studies_without_times_have_no_timeline(make_study: Make) -> None:
    records = [*suggest(0, {"a": 1}), report(0, 16, 1.0), end(0)]
    bare = [{k: v for k, v in record.items() if k != "time"} for record in records]

    assert timeline_table(make_study(bare)).empty
    assert pytest.approx(make_info()["started"]) == START
