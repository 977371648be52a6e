"""A journal written by hand, and the tables that must follow from it."""

import json
import math
import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raygen import __version__
from raygen.best import better
from raygen.document import flatten
from raygen.errors import InputError
from raygen.journal import read_records, read_study
from raygen.results import (
    Results,
    best_trial,
    finalists,
    full_measurements,
    grace_advice,
    load_results,
    pareto,
    ranked,
    rung_agreement,
    train_config,
    write_tables,
)
from raygen.results.changes import changed, changes
from raygen.study_folder import StudyFolder

Record = dict[str, Any]


def opened(direction: str = "minimize") -> Record:
    objective = {"metric": "score", "direction": direction}
    return {"kind": "open", "study": {"name": "by hand", "objective": objective}}


def suggest(trial: int, **config: Any) -> Record:
    return {"kind": "suggest", "trial": trial, "config": config, "seed": 100 + trial}


def start(trial: int) -> Record:
    return {"kind": "start", "trial": trial, "node": f"node-{trial}"}


def report(trial: int, kimg: float, score: float | None, **metrics: float | None) -> Record:
    return {
        "kind": "report", "trial": trial, "kimg": kimg, "seconds": 10 * kimg,
        "images_per_second": 100.0, "metrics": {"score": score, **metrics},
        "protocols": {"score": "aa11"},
    }  # fmt: skip


def end(trial: int, state: str, reason: str = "") -> Record:
    return {"kind": "end", "trial": trial, "state": state, "reason": reason}


def decide(trial: int, kimg: float, decision: str) -> Record:
    return {
        "kind": "decide", "trial": trial, "kimg": kimg, "value": 5.0, "cutoff": 4.0, "peers": 3,
        "decision": decision,
    }  # fmt: skip


CLOSE = {"kind": "close", "state": "finished", "time": 99.0, "seconds": 50.0}
PROTOCOL = {"kind": "protocol", "hash": "aa11", "record": {"metric": "score", "samples": 500}}
JOURNAL = [
    opened(),
    suggest(0, model={"width": 32}, loss={"name": "hinge"}),
    start(0),
    PROTOCOL,
    report(0, 1, 9.0, recall=0.1),
    suggest(1, model={"width": 48}, loss={"name": "wasserstein", "steps": 3}),
    start(1),
    report(1, 1, 5.0),
    decide(1, 1, "stop"),
    end(1, "stopped", "below the cutoff"),
    report(0, 3, 4.0, recall=0.3),
    report(0, 9, 6.0, recall=0.2),
    end(0, "completed"),
    suggest(2, model={"width": 64}, loss={"name": "hinge"}),
    start(2),
    report(2, 1, None),
    end(2, "diverged", "generator loss is nan"),
    suggest(3, model={"width": 80}, loss={"name": "hinge"}),
    CLOSE,
]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a journal of records (or of raw text) and return its study's folder."""

    def write(*records: Record | str) -> Path:
        # Times and parameters are in every record; here they stand for nothing.
        rest = {"time": 0.0, "params": {}}
        lines = [r if isinstance(r, str) else json.dumps(rest | r) + "\n" for r in records]
        StudyFolder(tmp_path).journal.write_text("".join(lines), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def study(write: Write) -> Results:
    return load_results(write(*JOURNAL))


def test_every_trial_has_its_last_state_and_the_reason_for_it(study: Results) -> None:
    found = study.trials.set_index("trial")

    assert found["state"].to_dict() == {0: "completed", 1: "stopped", 2: "diverged", 3: "running"}
    assert found["reason"].to_dict() == {
        0: "", 1: "below the cutoff", 2: "generator loss is nan", 3: "",
    }  # fmt: skip
    assert found["node"].to_dict() == {0: "node-0", 1: "node-1", 2: "node-2", 3: ""}
    assert found["seed"].to_dict() == {0: 100, 1: 101, 2: 102, 3: 103}


@pytest.mark.parametrize(
    ("direction", "value", "kimg"), [("minimize", 4.0, 3.0), ("maximize", 9.0, 1.0)]
)
def test_the_value_of_a_trial_is_its_best_in_the_direction_of_the_objective(
    write: Write, direction: str, value: float, kimg: float
) -> None:
    row = load_results(write(opened(direction), *JOURNAL[1:])).trials.iloc[0]

    assert (row["value"], row["best_kimg"]) == (value, kimg)


def test_a_value_from_fewer_samples_does_not_compete_with_one_from_more(write: Write) -> None:
    few, more = ({"protocols": {"score": name}} for name in ("bb22", "cc33"))
    reports = [report(0, 1, 2.0) | few, report(0, 3, 7.0) | more, report(0, 9, 8.0) | more]
    study = load_results(
        write(opened(), suggest(0, width=1), start(0), *reports, end(0, "completed"))
    )

    row = study.trials.iloc[0]

    assert (row["value"], row["best_kimg"]) == (7.0, 3.0)
    assert study.info["protocols_of"]["score"] == ["bb22", "cc33"]


def test_full_measurements_are_read_back_with_their_samples(write: Write) -> None:
    value = {"value": 4.5, "sd": 0.5, "spread": None, "each": [4.0, 5.0]}
    final = {
        "kind": "final",
        "trial": 0,
        "values": {"score": value},
        "protocols": {"score": "aa11"},
    }
    study = load_results(write(*JOURNAL[:-1], final, CLOSE))

    table = full_measurements(study)

    assert table.to_dict("records") == [
        {
            "trial": 0, "metric": "score", "value": 4.5, "sd": 0.5, "seeds": 2, "samples": 500,
            "protocol": "aa11",
        }
    ]  # fmt: skip
    assert full_measurements(load_results(write(*JOURNAL))).empty


def test_how_far_a_trial_came_is_its_last_report_and_not_its_best(study: Results) -> None:
    row = study.trials.iloc[0]

    assert (row["kimg"], row["seconds"]) == (9.0, 90.0)


def test_a_metric_that_was_not_finite_is_nan_in_both_tables(study: Results) -> None:
    assert math.isnan(study.trials.iloc[2]["value"])
    assert math.isnan(study.trials.iloc[2]["best_kimg"])
    (row,) = study.history[study.history["trial"] == 2]["score"]
    assert math.isnan(row)


def test_a_null_in_between_does_not_hide_the_best_value(write: Write) -> None:
    folder = write(opened(), suggest(0), report(0, 1, 7.0), report(0, 2, None), report(0, 3, 8.0))

    assert load_results(folder).trials.iloc[0]["value"] == 7.0


def test_the_history_has_one_row_per_report_in_the_order_they_came(study: Results) -> None:
    assert list(zip(study.history["trial"], study.history["kimg"], strict=True)) == [
        (0, 1), (1, 1), (0, 3), (0, 9), (2, 1),
    ]  # fmt: skip
    assert study.history["recall"].dropna().tolist() == [0.1, 0.3, 0.2]


def test_the_rungs_table_has_one_row_per_decision(study: Results) -> None:
    assert study.rungs.to_dict("records") == [
        {"trial": 1, "kimg": 1, "value": 5.0, "cutoff": 4.0, "band": 0.0, "peers": 3,
         "decision": "stop"}
    ]  # fmt: skip


def test_the_end_of_the_study_and_its_protocols_are_in_its_facts(study: Results) -> None:
    assert study.info["state"] == "finished"
    assert (study.info["finished"], study.info["seconds"]) == (99.0, 50.0)
    assert study.info["protocols"] == {"aa11": PROTOCOL["record"]}
    assert study.info["protocol_of"] == {"score": "aa11"}


def test_a_second_protocol_of_a_metric_is_seen(write: Write) -> None:
    other = {**report(0, 10, 3.0), "protocols": {"score": "bb22"}}

    info = load_results(write(*JOURNAL[:12], other)).info

    assert info["protocols_of"] == {"score": ["aa11", "bb22"]}


def test_a_torn_last_line_is_left_out(write: Write, study: Results) -> None:
    torn = load_results(write(*JOURNAL, '{"kind": "suggest", "tri'))

    pd.testing.assert_frame_equal(torn.trials, study.trials)


def test_a_torn_line_in_the_middle_is_named_by_its_number(write: Write) -> None:
    folder = write(*JOURNAL[:2], '{"kind": "sta\n', *JOURNAL[3:])

    with pytest.raises(InputError, match=r"journal\.jsonl:3: not a journal record"):
        load_results(folder)


@pytest.mark.parametrize("last", [report(0, 10, 2.0), end(0, "completed", "ünïcödé"), CLOSE])
def test_a_journal_cut_at_any_byte_of_its_last_record_still_loads(
    write: Write, last: Record
) -> None:
    folder = write(*JOURNAL[:12], json.dumps({"time": 0.0, **last}, ensure_ascii=False) + "\n")
    journal = StudyFolder(folder).journal
    whole = journal.read_bytes()
    before = len(whole[:-1].rpartition(b"\n")[0]) + 1

    for size in range(before, len(whole) + 1):
        journal.write_bytes(whole[:size])
        assert len(load_results(folder).trials) == 2


def test_a_journal_cut_at_any_byte_loads_or_is_one_line_of_error(write: Write) -> None:
    folder = write(*JOURNAL)
    journal = StudyFolder(folder).journal
    whole = journal.read_bytes()
    first = whole.index(b"\n")

    for size in range(0, len(whole), 7):
        journal.write_bytes(whole[:size])
        if size < first:
            with pytest.raises(InputError):
                load_results(folder)
        else:
            load_results(folder)


def test_a_folder_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing: no such study folder") as raised:
        load_results(tmp_path / "missing")

    assert raised.value.exit_code == 2


def test_a_folder_without_a_journal_is_not_a_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a study"):
        load_results(tmp_path)


@pytest.mark.parametrize("text", ["", "\n\n", '{"kind": "op'])
def test_a_study_without_a_single_record_is_empty(write: Write, text: str) -> None:
    with pytest.raises(InputError, match="the study is empty"):
        load_results(write(text))


@pytest.mark.parametrize("text", ['{"a": 1}\n', '{"kind": "close"}\n', "[1]\n", "1\n", "hello\n"])
def test_lines_of_another_program_are_not_a_study(write: Write, text: str) -> None:
    with pytest.raises(InputError, match=r"journal\.jsonl"):
        load_results(write(text))


def test_completed_trials_rank_before_better_values_of_stopped_ones(write: Write) -> None:
    values = {0: ("completed", 8.0), 1: ("stopped", 1.0), 2: ("completed", 7.0)}
    records = [opened()]
    for trial, (state, value) in values.items():
        records += [suggest(trial), report(trial, 1, value), end(trial, state)]
    records += [suggest(3), report(3, 1, None), end(3, "diverged")]

    study = load_results(write(*records))

    assert ranked(study)["trial"].tolist() == [2, 0, 1]
    assert best_trial(study) == 2


def test_a_maximised_objective_ranks_the_largest_value_first(write: Write) -> None:
    records = [opened("maximize")]
    for trial, value in enumerate([2.0, 5.0, 3.0]):
        records += [suggest(trial), report(trial, 1, value), end(trial, "completed")]

    assert ranked(load_results(write(*records)))["trial"].tolist() == [1, 2, 0]


def test_equal_values_rank_by_age(write: Write) -> None:
    records = [opened()]
    records += [suggest(0), suggest(1)]
    for trial in (1, 0):
        records += [report(trial, 1, 2.0), end(trial, "completed")]

    assert ranked(load_results(write(*records)))["trial"].tolist() == [0, 1]


def test_without_any_value_there_is_no_best_trial(write: Write) -> None:
    with pytest.raises(InputError, match="no trial has a value yet"):
        best_trial(load_results(write(opened(), suggest(0), report(0, 1, None))))


def test_settings_of_absent_branches_stay_absent_and_whole_numbers_whole(study: Results) -> None:
    steps = study.trials["loss.steps"].tolist()

    assert pd.isna(steps[0])
    assert steps[1] == 3
    assert type(steps[1]) is int
    assert study.trials["model.width"].dtype.kind == "i"
    assert study.settings == ["model.width", "loss.name", "loss.steps"]


def test_a_study_without_reports_or_decisions_has_empty_tables_with_columns(write: Write) -> None:
    study = load_results(write(opened()))

    assert study.trials.empty
    assert study.history.columns.tolist() == ["trial", "kimg", "seconds", "images_per_second"]
    assert "decision" in study.rungs.columns
    assert ranked(study).empty


def test_the_files_that_are_written_read_back_as_the_tables(study: Results) -> None:
    write_tables(study)

    assert json.loads(study.folder.study.read_text(encoding="utf-8")) == study.info
    for name in ("trials", "history", "rungs"):
        table = getattr(study, name)
        back = pd.read_csv(study.folder.table(name)).fillna({"reason": "", "node": ""})
        both = (frame.astype(object).where(frame.notna(), None) for frame in (back, table))
        pd.testing.assert_frame_equal(*both)
    assert not list(study.folder.root.glob("*.partial"))


def test_a_whole_number_of_one_branch_is_written_without_a_decimal_point(study: Results) -> None:
    write_tables(study)

    text = pd.read_csv(study.folder.table("trials"), dtype=str)
    assert text["loss.steps"].dropna().tolist() == ["3"]


def test_nested_settings_become_dotted_names() -> None:
    nested = {"a": 1, "loss": {"name": "hinge", "inner": {"x": None}}, "list": [1, 2]}

    assert flatten(nested) == {"a": 1, "loss.name": "hinge", "loss.inner.x": None, "list": [1, 2]}
    assert flatten({}) == {}


def run(trial: int, *values: float, state: str = "completed", **more: Any) -> list[Record]:
    """A whole trial that reports at 1, 2, ... kimg; more: of= for a finalist's replicate."""
    reports = [report(trial, kimg, value) for kimg, value in enumerate(values, start=1)]
    return [{**suggest(trial), **more}, start(trial), *reports, end(trial, state)]


def test_replicates_of_finalists_are_in_their_own_table_and_no_other(write: Write) -> None:
    again = [suggest(2, width=32) | {"of": 0, "by": "finalist"}, start(2), report(2, 1, 5.0)]
    study = load_results(
        write(opened(), *run(0, 4.0), *run(1, 3.0), *again, decide(2, 1, "continue"),
              {**report(2, 2, 4.5), "variation": 0.4}, end(2, "completed"))
    )  # fmt: skip

    assert study.replicates.to_dict("records") == [
        {"trial": 2, "of": 0, "seed": 102, "state": "completed", "reason": "", "value": 4.5,
         "best_kimg": 2, "kimg": 2, "seconds": 20, "variation": 0.4}
    ]  # fmt: skip
    assert study.trials["trial"].tolist() == [0, 1]
    assert study.history["trial"].tolist() == [0, 1]
    assert set(study.configs) == {0, 1}
    assert study.rungs.empty
    assert study.settings == []


def test_replicates_have_a_file_only_if_there_are_any(write: Write, study: Results) -> None:
    write_tables(study)
    assert not study.folder.table("replicates").exists()

    again = load_results(write(*JOURNAL[:-1], *run(4, 4.0, of=0)))
    write_tables(again)

    back = pd.read_csv(again.folder.table("replicates"))
    assert back[["trial", "of", "value"]].to_numpy().tolist() == [[4, 0, 4.0]]


def test_finalists_rank_by_other_seeds_and_not_by_the_value_that_got_them_chosen(
    write: Write,
) -> None:
    records = [opened(), *run(0, 1.0), *run(1, 2.0), *run(2, 1.5)]
    records += [{"kind": "finals", "trials": [0, 1]}]
    records += [*run(3, 5.0, of=0), *run(4, 3.0, of=1), *run(5, 4.0, of=1)]
    study = load_results(write(*records))

    assert ranked(study)["trial"].tolist() == [1, 0, 2]
    assert best_trial(study) == 1
    assert study.info["finals"] == [0, 1]


def test_a_finalist_whose_replicates_have_not_completed_gives_way(write: Write) -> None:
    records = [opened(), *run(0, 1.0), *run(1, 2.0), *run(2, 9.0, of=1)]
    records += run(3, 0.5, of=0, state="diverged")

    assert best_trial(load_results(write(*records))) == 1


def test_a_finalist_that_fails_with_most_seeds_does_not_win_by_the_lucky_one(write: Write) -> None:
    records = [opened(), *run(0, 1.0), *run(1, 2.0), {"kind": "finals", "trials": [0, 1]}]
    records += [*run(2, 1.1, of=0), *run(3, 2.0, of=1)]
    records += [line for n in (4, 5) for line in run(n, 9.0, of=0, state="diverged")]

    assert ranked(load_results(write(*records)))["trial"].tolist() == [1, 0]


def test_the_mean_of_a_finalist_leaves_out_the_value_it_was_selected_on(write: Write) -> None:
    records = [opened(), *run(0, 1.0), *run(1, 2.0), {"kind": "finals", "trials": [0, 1]}]
    records += [*run(2, 9.0, of=0), *run(3, 10.0, of=0), *run(4, 11.0, of=0)]
    records += [*run(5, 18.0, of=1), *run(6, 20.0, of=1), *run(7, 22.0, of=1)]
    records += run(8, 3.0, of=1, state="diverged")
    table = finalists(load_results(write(*records))).set_index("trial")

    # Variances 1 and 4 pool to 2.5, which counts as one more value of each: 3 degrees of freedom.
    first, second = 3.182 * math.sqrt(1.5 / 3), 3.182 * math.sqrt(3.5 / 3)
    assert table.loc[0, ["single", "seeds", "mean", "sd"]].tolist() == [1.0, 3, 10.0, 1.0]
    assert table.loc[0, "low"] == pytest.approx(10 - first, abs=1e-3)
    assert table.loc[1, "high"] == pytest.approx(20 + second, abs=1e-3)
    assert table["collapsed"].tolist() == [0, 0.25]
    assert table["best"].tolist() == pytest.approx([1, 0], abs=0.01)


def test_the_probability_of_a_finalist_is_that_of_the_last_round(write: Write) -> None:
    records = [opened(), *run(0, 1.0), *run(1, 2.0), {"kind": "finals", "trials": [0, 1]}]
    race = {"kind": "race", "seeds": 1, "means": {"0": 3.0}, "dropped": [], "settled": False}
    records += [*run(2, 3.0, of=0), {**race, "best": {"0": 0.5, "1": 0.5}}]
    records += [*run(3, 4.0, of=1), {**race, "best": {"0": 0.8, "1": 0.2}}]
    study = load_results(write(*records))

    assert finalists(study)["best"].tolist() == [0.8, 0.2]
    assert study.info["race"]["settled"] is False


def test_finalists_without_a_replicate_yet_know_their_own_value_only(write: Write) -> None:
    (row,) = finalists(
        load_results(write(opened(), *run(0, 1.0), {"kind": "finals", "trials": [0]}))
    ).to_dict("records")

    assert (row["trial"], row["single"], row["seeds"]) == (0, 1.0, 0)
    assert all(math.isnan(row[name]) for name in ("mean", "sd", "low", "high", "collapsed"))
    assert finalists(load_results(write(opened(), *run(0, 1.0)))).empty


def two(metric: str = "size", direction: str = "maximize") -> Record:
    """A study of two objectives."""
    start = opened()
    both = [start["study"]["objective"], {"metric": metric, "direction": direction}]
    return {**start, "study": {**start["study"], "objectives": both}}


def test_all_objectives_are_those_where_the_first_was_best(write: Write) -> None:
    records = [suggest(0), report(0, 1, 5.0, size=1.0), report(0, 2, 3.0, size=0.5)]
    records += [report(0, 3, 4.0, size=9.0), end(0, "completed"), suggest(1)]
    study = load_results(write(two(), *records))

    assert study.values.to_dict("records") == [{"trial": 0, "score": 3.0, "size": 0.5}]
    assert study.values.columns.tolist() == ["trial", "score", "size"]


def test_the_front_holds_what_no_completed_trial_beats(write: Write) -> None:
    points = {0: (1.0, 1.0), 1: (2.0, 3.0), 2: (3.0, 2.0), 3: (2.0, 2.0), 4: (0.1, 9.0)}
    records = [two()]
    for trial, (score, size) in points.items():
        state = "stopped" if trial == 4 else "completed"
        records += [suggest(trial), report(trial, 1, score, size=size), end(trial, state)]
    records += [suggest(5), report(5, 1, 0.0, size=None), end(5, "completed")]

    # 2 and 3 lose to 1; 4 was stopped and 5 lacks an objective, so neither can beat anything.
    assert pareto(load_results(write(*records))) == [0, 1]


def test_a_milestone_without_one_of_the_objectives_counts_for_none(write: Write) -> None:
    records = [suggest(0), report(0, 1, 5.0, size=2.0), report(0, 2, 1.0, size=None)]

    (row,) = load_results(write(two(), *records)).trials.to_dict("records")

    assert (row["value"], row["best_kimg"]) == (5.0, 1)


def test_equal_trials_are_both_on_the_front_and_one_objective_has_one(write: Write) -> None:
    records = [opened(), *run(0, 2.0), *run(1, 2.0), *run(2, 3.0)]

    assert pareto(load_results(write(*records))) == [0, 1]
    assert pareto(load_results(write(opened()))) == []


def test_a_decision_on_several_objectives_says_the_place_and_not_a_cut_off(write: Write) -> None:
    record = {**decide(0, 1, "continue"), "value": [5.0, 1.0], "cutoff": None, "rank": 2, "kept": 3}
    records = [suggest(0), report(0, 1, 5.0, size=1.0), record]
    (row,) = load_results(write(two(), *records)).rungs.to_dict("records")

    assert (row["value"], row["rank"], row["kept"]) == (5.0, 2, 3)
    assert row["cutoff"] is None or math.isnan(row["cutoff"])


def timed(*records: Record) -> list[Record]:
    """Records one second apart, from second 1000."""
    return [{"time": 1000.0 + second, **record} for second, record in enumerate(records)]


def closed(state: str, seconds: float) -> Record:
    return {"kind": "close", "state": state, "seconds": seconds}


def reopened(**facts: Any) -> Record:
    changed = {"budget.trials": [2, 4]}
    return {"kind": "reopen", "study": {**opened()["study"], **facts}, "changed": changed}


def test_a_resumed_study_runs_again_and_its_sessions_add_up(write: Write) -> None:
    records = timed(opened(), suggest(0), PROTOCOL, closed("interrupted", 30.0))
    again = {**reopened(seed=7), "time": 5000.0}
    study = load_results(write(*records, again, {**suggest(1), "time": 5011.0}))

    assert (study.info["state"], study.info["finished"]) == ("crashed", None)
    assert study.info["seed"] == 7
    assert study.info["seconds"] == 30 + 11
    assert [each["state"] for each in study.info["sessions"]] == ["interrupted", "running"]
    assert study.info["sessions"][1]["changed"] == {"budget.trials": [2, 4]}
    assert study.info["protocols"] == {"aa11": PROTOCOL["record"]}
    assert study.trials["trial"].tolist() == [0, 1]


def test_the_start_of_a_study_is_that_of_its_first_session(write: Write) -> None:
    first = opened()
    first["study"]["started"] = 900.0
    # What reopens a study repeats when it began.
    records = [*timed(first, closed("finished", 1.0)), {**reopened(started=900.0), "time": 5000.0}]

    info = load_results(write(*records)).info

    assert info["started"] == 900.0
    assert [each["started"] for each in info["sessions"]] == [900.0, 5000.0]


def test_a_session_without_an_end_counts_until_its_last_record(write: Write) -> None:
    crashed = timed(opened(), suggest(0), start(0))
    again = [{**reopened(), "time": 9000.0}, {**closed("finished", 50.0), "time": 9050.0}]
    info = load_results(write(*crashed, *again)).info

    assert info["seconds"] == 2 + 50
    assert info["sessions"][0]["state"] == "crashed"
    assert info["sessions"][0]["finished"] == 1002.0
    assert (info["state"], info["finished"]) == ("finished", 9050.0)


def test_an_interrupted_trial_that_goes_on_is_running_again(write: Write) -> None:
    records = [suggest(0), start(0), report(0, 1, 5.0), end(0, "interrupted", "Ctrl-C")]
    records += [closed("interrupted", 30.0), reopened()]
    on = {**start(0), "node": "node-9", "attempt": 2, "kimg": 1}

    (row,) = load_results(write(opened(), *records, on)).trials.to_dict("records")
    assert (row["state"], row["reason"], row["node"]) == ("running", "", "node-9")

    study = load_results(write(opened(), *records, on, report(0, 2, 4.0), end(0, "completed")))
    (row,) = study.trials.to_dict("records")
    assert (row["state"], row["value"], row["seconds"]) == ("completed", 4.0, 20)
    assert study.history["kimg"].tolist() == [1, 2]


def test_evaluations_are_a_share_of_the_training_time_over_all_sessions(write: Write) -> None:
    def timed(trial: int, kimg: float, seconds: float | None) -> Record:
        return {**report(trial, kimg, 5.0), "evaluation_seconds": seconds}

    ended = [end(0, "completed"), suggest(1), start(1)]
    records = [suggest(0), start(0), timed(0, 1, 2.0), timed(0, 2, 3.0), *ended]
    resumed = [closed("interrupted", 30.0), reopened(), timed(1, 1, 1.0)]
    study = load_results(write(opened(), *records, *resumed))

    assert study.evaluating == pytest.approx((2 + 3 + 1) / study.spent("seconds"))
    assert load_results(write(opened(), suggest(0), start(0), timed(0, 1, None))).evaluating is None
    assert load_results(write(opened())).evaluating is None


def test_a_lost_trial_goes_on_counting_as_running_while_it_is_tried_again(write: Write) -> None:
    retry = {"kind": "retry", "trial": 0, "attempt": 2, "reason": "gone", "kimg": 1, "wait": 30.0}
    study = load_results(write(opened(), suggest(0), start(0), report(0, 1, 5.0), retry))

    assert study.trials["state"].tolist() == ["running"]
    assert study.info["retries_used"] == 1


def test_a_trial_that_begins_anew_keeps_what_was_reported_of_it(write: Write) -> None:
    # Its checkpoint was lost with the node; milestones that are known are not reported again.
    records = [suggest(0), start(0), report(0, 1, 3.0), report(0, 2, 8.0), decide(0, 2, "continue")]
    records += [{**start(0), "node": "other", "attempt": 2, "kimg": 0.0}, decide(0, 2, "continue")]
    records += [report(0, 3, 6.0), end(0, "completed")]
    study = load_results(write(opened(), *records))
    (row,) = study.trials.to_dict("records")

    assert study.history["kimg"].tolist() == [1, 2, 3]
    assert (row["value"], row["kimg"], row["seconds"], row["node"]) == (3.0, 3, 30, "other")
    assert len(study.rungs) == 1


def test_a_collected_checkpoint_is_gone_until_it_is_written_again(write: Write) -> None:
    kept = {"kind": "checkpoint", "trial": 0, "kimg": 1, "role": "last"}
    gone = {"kind": "collect", "trial": 0, "role": "last", "bytes": 500}
    records = [opened(), suggest(0), kept, {**kept, "role": "best"}, gone]

    table = load_results(write(*records)).checkpoints.set_index("role")
    assert table["collected"].to_dict() == {"last": True, "best": False}
    assert table.loc["last", ["kimg", "bytes"]].tolist() == [1, 500]

    table = load_results(write(*records, {**kept, "kimg": 2})).checkpoints.set_index("role")
    assert table["collected"].tolist() == [False, False]
    assert math.isnan(table.loc["last", "bytes"])


def test_what_earlier_studies_taught_is_counted_by_study(write: Write) -> None:
    warm = {"kind": "warm", "source": 4, "params": {}, "values": [3.0]}
    studies = [{**warm, "study": name} for name in ("a", "b", "a")]
    studies.append({**warm, "study": "b", "values": None})  # a point to try, without a value
    study = load_results(write(opened(), *studies, suggest(0)))

    assert study.info["warm"] == {"a": {"told": 2, "points": 0}, "b": {"told": 1, "points": 1}}
    assert study.trials["trial"].tolist() == [0]


def test_a_standard_error_has_a_column_of_its_own_and_is_no_metric(write: Write) -> None:
    records = [suggest(0), {**report(0, 1, 5.0, size=2.0), "sd": {"score": 0.25}}]
    study = load_results(write(opened(), *records))

    assert study.history["score.sd"].tolist() == [0.25]
    assert study.metrics == ["score", "size"]


def test_any_value_is_better_than_none_and_equal_is_not_better() -> None:
    assert better(True, 1.0, 2.0)
    assert not better(False, 1.0, 2.0)
    assert not better(True, 2.0, 2.0)
    assert better(True, 9.0, math.nan)


RUNGS = [1, 2, 3]


def rungs(**facts: Any) -> Record:
    start = opened()
    return {**start, "study": {**start["study"], "rungs": RUNGS, **facts}}


def test_ranks_reversed_between_rung_and_end_correlate_minus_one(write: Write) -> None:
    trials = [run(t, 20.0 + t, 15.0 + t, 9.0 - t) for t in range(6)]
    table = rung_agreement(load_results(write(rungs(), *chain(*trials))))

    assert table["kimg"].tolist() == [1, 2]
    assert table["rho"].tolist() == pytest.approx([-1, -1])
    assert table["trials"].tolist() == [6, 6]


def test_a_rung_is_judged_by_the_best_value_up_to_it(write: Write) -> None:
    # The second value is worse everywhere; the best up to there still has the order of the end.
    trials = [run(t, 10.0 + t, 50.0 - t, 1.0 + t) for t in range(6)]

    table = rung_agreement(load_results(write(rungs(), *chain(*trials))))

    assert table["rho"].tolist() == pytest.approx([1, 1])


def test_the_rank_correlation_is_spearman_s(write: Write) -> None:
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: rho = 1 - 6 * 4 / (5 * 24) = 0.8.
    trials = [run(t, 10.0 + t, 9.5, final) for t, final in enumerate([2.0, 1.0, 4.0, 3.0, 5.0])]

    assert rung_agreement(load_results(write(rungs(), *chain(*trials))))["rho"][0] == pytest.approx(
        0.8
    )


def test_four_completed_trials_are_too_few_for_a_correlation(write: Write) -> None:
    trials = [run(t, 9.0 + t, 5.0 + t, 1.0 + t) for t in range(4)]
    study = load_results(write(rungs(), *chain(*trials)))

    assert rung_agreement(study)["rho"].isna().all()
    assert grace_advice(study) is None
    assert grace_advice(load_results(write(opened()))) is None


def test_a_first_rung_that_says_nothing_is_too_early_and_the_next_good_one_is_named(
    write: Write,
) -> None:
    trials = [run(t, 30.0 - t, 10.0 + t, 1.0 + t) for t in range(8)]
    trials.append(run(8, 50.0, state="stopped"))
    advice = grace_advice(load_results(write(rungs(), *chain(*trials))))

    assert advice is not None
    assert (advice.kimg, advice.trials, advice.short, advice.suggestion) == (1, 8, True, 2)
    assert "--set scheduler.grace_kimg=2" in advice.action
    assert "Only survivors" in advice.text


def test_seven_trials_are_too_few_to_blame_the_grace_period(write: Write) -> None:
    trials = [run(t, 30.0 - t, 10.0 + t, 1.0 + t) for t in range(7)]
    advice = grace_advice(load_results(write(rungs(), *chain(*trials))))

    assert advice is not None
    assert not advice.short
    assert advice.action == ""
    assert "survivors" not in advice.text


def test_without_early_stopping_there_is_no_grace_period_to_blame(write: Write) -> None:
    trials = [run(t, 30.0 - t, 20.0 - t, 1.0 + t) for t in range(8)]
    study = load_results(write(rungs(scheduler={"name": "none"}), *chain(*trials)))
    advice = grace_advice(study)

    assert advice is not None
    assert not advice.short
    assert advice.suggestion is None


# ---- of any content ------------------------------------------------------------------------

FINALS = {"kind": "finals", "trials": [0]}
OBJECTIVE = {"metric": "score", "direction": "minimize"}


def refused(write: Write, *records: Record | str) -> str:
    """The message on a journal, from its last colon of the path on."""
    with pytest.raises(InputError) as caught:
        load_results(write(*records))
    return str(caught.value).partition("journal.jsonl:")[2]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({**decide(0, 1, "stop"), "cutoff": "x"}, "decide: cutoff: 'x': must be a number"),
        ({**decide(0, 1, "stop"), "cutoff": True}, "decide: cutoff: True: must be a number"),
        ({**decide(0, 1, "stop"), "rank": 1}, "decide: rank: belongs to several objectives"),
        ({**decide(0, 1, "stop"), "value": [1.0]}, "decide: value: must be one value for each"),
        ({**decide(0, 1, "stop"), "decision": "go"}, "decide: decision: 'go': must be one of stop"),
        (report(1, 1, 5.0), "report: trial: 1: no such trial so far: the last one is 0"),
        (report(0, 1, 5.0), "report: kimg: 1: must rise: its last report was at 1 kimg"),
        ({**report(0, 2, 5.0), "metrics": {"score": "x"}}, "report: metrics: score: 'x': must be"),
        ({**report(0, 2, 5.0), "metrics": None}, "report: metrics: None: must be a mapping"),
        ({**report(0, 2, 5.0), "time": -1}, "report: time: -1: must be a time in seconds"),
        ({**report(0, 2, 5.0), "time": 1e300}, "report: time: 1e+300: must be a time in seconds"),
        (suggest(0), "suggest: trial: 0: was suggested before"),
        ({**suggest(1), "config": [1]}, "suggest: config: must be a mapping of settings"),
        ({**suggest(1), "trial": -1}, "suggest: trial: -1: must be a whole number, 0 or above"),
        ({**suggest(1), "of": 7}, "suggest: of: 7: no such trial so far: the last one is 0"),
        ({**start(0), "attempt": None}, "start: attempt: None: must be a whole number"),
        ({"kind": "start", "trial": 0}, "start: node: is missing"),
        ({"kind": "checkpoint", "trial": 0, "kimg": 1, "role": "../x"}, "checkpoint: role: '../x'"),
        (end(0, "running"), "end: state: 'running': must be one of completed, stopped"),
        ({"kind": "finals", "trials": []}, "finals: trials: must be a list of at least 1"),
        ({"kind": "race", "seeds": 1, "means": {"x": 1.0}}, "race: means: x: 'x': must be the"),
        ({"kind": "close", "state": "finished", "seconds": None}, "close: seconds: None: must be"),
        ({"kind": "reopen", "study": {}}, "reopen: study: objective: is missing"),
        ({"kind": "reopen", "study": {"objective": OBJECTIVE, "budget": 3}},
         "reopen: study: budget: 3: must be a mapping"),
        (opened(), "open: the study was opened before"),
        ({"kind": ["end"]}, "kind: must be a text"),
        ({"trial": 0}, "has no kind"),
    ],
)  # fmt: skip
def test_a_record_that_no_reader_could_follow_is_one_line_with_its_number(
    write: Write, record: Record, said: str
) -> None:
    message = refused(write, opened(), suggest(0), report(0, 1, 5.0), record)

    assert message.startswith(f"4: not a journal record: {said}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([suggest(0)], "1: not a journal record: suggest: does not open a study"),
        ([opened(), suggest(0), decide(0, 1, "stop")],
         "3: not a journal record: decide: trial: 0: the trial has reported no value yet"),
        ([opened(), suggest(0), end(0, "completed"), end(0, "failed")],
         "4: not a journal record: end: trial: 0: the trial has ended (ended)"),
        ([opened(), suggest(0), FINALS, {**suggest(1), "of": 0}, {**suggest(2), "of": 1}],
         "5: not a journal record: suggest: of: 1: is a finalist with another seed"),
    ],
)  # fmt: skip
def test_a_record_that_may_not_stand_where_it_stands_is_one_line(
    write: Write, records: list[Record], said: str
) -> None:
    assert refused(write, *records).startswith(said)


def test_a_record_of_a_newer_raygen_is_told_from_a_broken_one(write: Write) -> None:
    message = refused(write, opened(), {"kind": "promote", "trial": 0, "to": "production"})

    assert message.startswith(
        f"2: a record of kind 'promote', which this raygen ({__version__}) does not know; "
        "made by a newer raygen?"
    )


def test_a_field_of_a_newer_raygen_is_left_alone(write: Write) -> None:
    study = load_results(write(opened(), {**suggest(0, width=8), "priority": {"of": ["it"]}}))

    assert study.trials["width"].tolist() == [8]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "is nested too deeply"),
        ('{"a":' * 100_000, "is nested too deeply"),
        ('{"kind": "end", "kind": "end"}', "'kind' appears twice"),
        ('{"kind": "end", "time": NaN}', "NaN is not a JSON number"),
        ('{"kind": "end", "time": -Infinity}', "-Infinity is not a JSON number"),
        ('{"kind": "end", "time": ' + "9" * 5000 + "}", "a number of more than 4,300 digits"),
        ('{"kind": "end", "reason": "\\ud800"}', "a text has half of a surrogate pair"),
        (
            '{"kind": "end", "trial": 0, "state": "lost", "reason": "", "time": 1e999}',
            "end: time: inf: must be a time",
        ),
        ("null", "not an object"),
        ('{"kind": ', "Expecting value at column 10"),
    ],
)
def test_a_line_that_is_no_object_of_strict_json_is_one_line(
    write: Write, line: str, said: str
) -> None:
    assert refused(write, opened(), f"{line}\n").startswith(f"2: not a journal record: {said}")


def test_bytes_that_are_not_utf8_are_one_line(write: Write) -> None:
    journal = StudyFolder(write(opened())).journal
    # A surrogate half as UTF-8 would have it: json.loads takes it from bytes.
    journal.write_bytes(journal.read_bytes() + b'{"kind": "\xed\xa0\x80"}\n')

    with pytest.raises(InputError, match=r"journal\.jsonl:2: .*: is not UTF-8 at column 11"):
        load_results(journal.parent)


def test_a_whole_surrogate_pair_is_a_character(write: Write) -> None:
    records = [opened(), suggest(0), end(0, "failed", "\U0001f642")]

    assert "\\ud83d" in json.dumps(records[-1])
    assert load_results(write(*records)).trials["reason"].tolist() == ["\U0001f642"]


def test_who_goes_on_with_a_search_needs_every_time_and_every_number(write: Write) -> None:
    folder = write(opened(), suggest(1))
    assert len(read_study(folder)) == 2
    with pytest.raises(InputError, match="trial: 1: is not the next trial, which is 0"):
        read_study(folder, strict=True)

    journal = StudyFolder(folder).journal
    journal.write_text(json.dumps(opened()) + "\n")
    assert len(read_study(folder)) == 1
    with pytest.raises(InputError, match="open: time: is missing"):
        read_study(folder, strict=True)


def test_a_pipe_as_a_journal_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(StudyFolder(tmp_path).journal)

    with pytest.raises(InputError, match="is a pipe"):
        load_results(tmp_path)


def test_a_study_that_does_not_say_how_it_trained_gives_no_configuration(study: Results) -> None:
    with pytest.raises(InputError, match=r"journal\.jsonl:1: the study does not record its family"):
        train_config(study, 0)


def test_facts_that_only_a_journal_can_add_are_not_taken_from_its_first_record(
    write: Write,
) -> None:
    start = opened()
    start["study"] |= {"warm": 3, "finals": "x", "race": None, "full": [], "sessions": 7}
    info = load_results(write(start, suggest(0))).info

    assert not {"warm", "finals", "race", "full"} & set(info)
    assert len(info["sessions"]) == 1


def test_a_journal_that_raygen_wrote_is_read_strictly(repository: Path) -> None:
    records = read_records(repository / "reports" / "journal.jsonl", strict=True)

    assert {record.kind for record in records} >= {"open", "decide", "race", "close"}


def test_the_way_to_a_copy_of_a_population_changes_a_whole_schedule_at_once(write: Write) -> None:
    steps = {"schedule": "steps", "values": [1e-3, 8e-4], "at": [0.25]}
    first = {"optimizer": {"generator_lr": 1e-3, "beta1": 0.5}, "batch_size": 16}
    copy = {"optimizer": {"generator_lr": steps, "beta1": 0.0}, "batch_size": 16}
    records = [opened(), {**suggest(0), "config": first}, {**suggest(1), "config": copy}]
    study = load_results(write(*records))

    made = changes(study, 0, 1)

    assert [change.names for change in made] == [
        ("optimizer.generator_lr",), ("optimizer.beta1",)
    ]  # fmt: skip
    assert changed(study, 0, made[:1])["optimizer"] == {"generator_lr": steps, "beta1": 0.5}
    assert changed(study, 0, made) == copy
