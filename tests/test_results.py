"""A journal written by hand, and the tables that must follow from it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raygen.errors import InputError
from raygen.results import (
    Study,
    StudyFolder,
    best_trial,
    flatten,
    load_study,
    ranked,
    write_tables,
)

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


CLOSE = {"kind": "close", "state": "completed", "time": 99.0, "seconds": 50.0}
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
        lines = [r if isinstance(r, str) else json.dumps(r) + "\n" for r in records]
        StudyFolder(tmp_path).journal.write_text("".join(lines), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def study(write: Write) -> Study:
    return load_study(write(*JOURNAL))


def test_every_trial_has_its_last_state_and_the_reason_for_it(study: Study) -> None:
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
    row = load_study(write(opened(direction), *JOURNAL[1:])).trials.iloc[0]

    assert (row["value"], row["best_kimg"]) == (value, kimg)


def test_how_far_a_trial_came_is_its_last_report_and_not_its_best(study: Study) -> None:
    row = study.trials.iloc[0]

    assert (row["kimg"], row["seconds"]) == (9.0, 90.0)


def test_a_metric_that_was_not_finite_is_nan_in_both_tables(study: Study) -> None:
    assert math.isnan(study.trials.iloc[2]["value"])
    assert math.isnan(study.trials.iloc[2]["best_kimg"])
    (row,) = study.history[study.history["trial"] == 2]["score"]
    assert math.isnan(row)


def test_a_null_in_between_does_not_hide_the_best_value(write: Write) -> None:
    folder = write(opened(), suggest(0), report(0, 1, 7.0), report(0, 2, None), report(0, 3, 8.0))

    assert load_study(folder).trials.iloc[0]["value"] == 7.0


def test_the_history_has_one_row_per_report_in_the_order_they_came(study: Study) -> None:
    assert list(zip(study.history["trial"], study.history["kimg"], strict=True)) == [
        (0, 1), (1, 1), (0, 3), (0, 9), (2, 1),
    ]  # fmt: skip
    assert study.history["recall"].dropna().tolist() == [0.1, 0.3, 0.2]


def test_the_rungs_table_has_one_row_per_decision(study: Study) -> None:
    assert study.rungs.to_dict("records") == [
        {"trial": 1, "kimg": 1, "value": 5.0, "cutoff": 4.0, "peers": 3, "decision": "stop"}
    ]


def test_the_end_of_the_study_and_its_protocols_are_in_its_facts(study: Study) -> None:
    assert study.info["state"] == "completed"
    assert (study.info["finished"], study.info["seconds"]) == (99.0, 50.0)
    assert study.info["protocols"] == {"aa11": PROTOCOL["record"]}
    assert study.info["protocol_of"] == {"score": "aa11"}


def test_a_study_that_was_never_closed_is_running(write: Write) -> None:
    assert load_study(write(*JOURNAL[:-1])).info["state"] == "running"


def test_a_second_protocol_of_a_metric_is_seen(write: Write) -> None:
    other = {**report(0, 10, 3.0), "protocols": {"score": "bb22"}}

    info = load_study(write(*JOURNAL, other)).info

    assert info["protocols_of"] == {"score": ["aa11", "bb22"]}


def test_a_torn_last_line_is_left_out(write: Write, study: Study) -> None:
    torn = load_study(write(*JOURNAL, '{"kind": "suggest", "tri'))

    pd.testing.assert_frame_equal(torn.trials, study.trials)


def test_a_torn_line_in_the_middle_is_named_by_its_number(write: Write) -> None:
    folder = write(*JOURNAL[:2], '{"kind": "sta\n', *JOURNAL[3:])

    with pytest.raises(InputError, match=r"journal\.jsonl:3: not a journal record"):
        load_study(folder)


@pytest.mark.parametrize("last", [report(0, 9, 2.0), end(0, "completed", "ünïcödé"), CLOSE])
def test_a_journal_cut_at_any_byte_of_its_last_record_still_loads(
    write: Write, last: Record
) -> None:
    folder = write(*JOURNAL[:12], json.dumps(last, ensure_ascii=False) + "\n")
    journal = StudyFolder(folder).journal
    whole = journal.read_bytes()
    before = len(whole[:-1].rpartition(b"\n")[0]) + 1

    for size in range(before, len(whole) + 1):
        journal.write_bytes(whole[:size])
        assert len(load_study(folder).trials) == 2


def test_a_journal_cut_at_any_byte_loads_or_is_one_line_of_error(write: Write) -> None:
    folder = write(*JOURNAL)
    journal = StudyFolder(folder).journal
    whole = journal.read_bytes()
    first = whole.index(b"\n")

    for size in range(0, len(whole), 7):
        journal.write_bytes(whole[:size])
        if size < first:
            with pytest.raises(InputError):
                load_study(folder)
        else:
            load_study(folder)


def test_a_folder_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing: no such study folder") as raised:
        load_study(tmp_path / "missing")

    assert raised.value.exit_code == 2


def test_a_folder_without_a_journal_is_not_a_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a study"):
        load_study(tmp_path)


@pytest.mark.parametrize("text", ["", "\n\n", '{"kind": "op'])
def test_a_study_without_a_single_record_is_empty(write: Write, text: str) -> None:
    with pytest.raises(InputError, match="the study is empty"):
        load_study(write(text))


@pytest.mark.parametrize("text", ['{"a": 1}\n', '{"kind": "close"}\n', "[1]\n", "1\n", "hello\n"])
def test_lines_of_another_program_are_not_a_study(write: Write, text: str) -> None:
    with pytest.raises(InputError, match=r"journal\.jsonl"):
        load_study(write(text))


def test_completed_trials_rank_before_better_values_of_stopped_ones(write: Write) -> None:
    values = {0: ("completed", 8.0), 1: ("stopped", 1.0), 2: ("completed", 7.0)}
    records = [opened()]
    for trial, (state, value) in values.items():
        records += [suggest(trial), report(trial, 1, value), end(trial, state)]
    records += [suggest(3), report(3, 1, None), end(3, "diverged")]

    study = load_study(write(*records))

    assert ranked(study)["trial"].tolist() == [2, 0, 1]
    assert best_trial(study) == 2


def test_a_maximised_objective_ranks_the_largest_value_first(write: Write) -> None:
    records = [opened("maximize")]
    for trial, value in enumerate([2.0, 5.0, 3.0]):
        records += [suggest(trial), report(trial, 1, value), end(trial, "completed")]

    assert ranked(load_study(write(*records)))["trial"].tolist() == [1, 2, 0]


def test_equal_values_rank_by_age(write: Write) -> None:
    records = [opened()]
    for trial in (1, 0):
        records += [suggest(trial), report(trial, 1, 2.0), end(trial, "completed")]

    assert ranked(load_study(write(*records)))["trial"].tolist() == [0, 1]


def test_without_any_value_there_is_no_best_trial(write: Write) -> None:
    with pytest.raises(InputError, match="no trial has a value yet"):
        best_trial(load_study(write(opened(), suggest(0), report(0, 1, None))))


def test_settings_of_absent_branches_stay_absent_and_whole_numbers_whole(study: Study) -> None:
    steps = study.trials["loss.steps"].tolist()

    assert pd.isna(steps[0])
    assert steps[1] == 3
    assert type(steps[1]) is int
    assert study.trials["model.width"].dtype.kind == "i"
    assert study.settings == ["model.width", "loss.name", "loss.steps"]


def test_a_study_without_reports_or_decisions_has_empty_tables_with_columns(write: Write) -> None:
    study = load_study(write(opened()))

    assert study.trials.empty
    assert study.history.columns.tolist() == ["trial", "kimg", "seconds", "images_per_second"]
    assert "decision" in study.rungs.columns
    assert ranked(study).empty


def test_the_files_that_are_written_read_back_as_the_tables(study: Study) -> None:
    write_tables(study)

    assert json.loads(study.folder.study.read_text(encoding="utf-8")) == study.info
    for name in ("trials", "history", "rungs"):
        table = getattr(study, name)
        back = pd.read_csv(study.folder.table(name)).fillna({"reason": "", "node": ""})
        both = (frame.astype(object).where(frame.notna(), None) for frame in (back, table))
        pd.testing.assert_frame_equal(*both)
    assert not list(study.folder.root.glob("*.partial"))


def test_a_whole_number_of_one_branch_is_written_without_a_decimal_point(study: Study) -> None:
    write_tables(study)

    text = pd.read_csv(study.folder.table("trials"), dtype=str)
    assert text["loss.steps"].dropna().tolist() == ["3"]


def test_nested_settings_become_dotted_names() -> None:
    nested = {"a": 1, "loss": {"name": "hinge", "inner": {"x": None}}, "list": [1, 2]}

    assert flatten(nested) == {"a": 1, "loss.name": "hinge", "loss.inner.x": None, "list": [1, 2]}
    assert flatten({}) == {}
