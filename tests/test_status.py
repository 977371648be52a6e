"""How a study stands and why a trial went as it did, from journals written by hand."""

import fcntl
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raygen.errors import InputError
from raygen.journal.records import GROUPS, LISTS
from raygen.report.page import render_page
from raygen.results import load_results
from raygen.status import status, status_text, why_text
from raygen.study_folder import StudyFolder
from report.journals import (
    START,
    Record,
    at,
    checkpoint,
    close,
    collect,
    decide,
    end,
    finals,
    make_info,
    race,
    reopen,
    replicate,
    report,
    retry,
    simulate,
    start,
    suggest,
    warm,
    write_study,
    written_by_a_search,
)

Write = Callable[..., Path]
LOSS = {"loss": {"name": "hinge"}, "width": 32}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a journal and return the study's folder; facts change its info."""

    def write(*records: Record, folder: str = "shapes-gan", **facts: Any) -> Path:
        return write_study(tmp_path / folder, make_info(**facts), list(records))

    return write


def trial(number: int, value: float, state: str = "completed", **more: Any) -> list[Record]:
    return [*suggest(number, LOSS, **more), report(number, 16, value), end(number, state)]


# ---- how it stands -------------------------------------------------------------------------


def test_the_share_of_evaluations_is_the_same_on_the_page_and_in_the_terminal(
    write: Write,
) -> None:
    timed = {**report(0, 16, 7.0, seconds=40.0), "evaluation_seconds": 10.0}
    folder = write(*suggest(0, LOSS), timed, end(0, "completed"), close())

    assert "evaluations   25% of the training time" in status_text(status(folder))
    assert "40 s of training (25% of it evaluations)" in render_page(load_results(folder))


@pytest.mark.parametrize("state", ["finished", "interrupted", "failed"])
def test_a_closed_study_is_what_it_was_closed_as(write: Write, state: str) -> None:
    assert status(write(*trial(0, 5.0), close(state)))["state"] == state


def test_a_study_is_running_while_somebody_holds_its_journal_and_crashed_after(
    write: Write,
) -> None:
    folder = write(*suggest(0, LOSS))
    with written_by_a_search(folder):
        assert status(folder)["state"] == load_results(folder).info["state"] == "running"

    assert status(folder)["state"] == load_results(folder).info["state"] == "crashed"


def test_looking_at_a_study_does_not_keep_anybody_from_going_on_with_it(write: Write) -> None:
    folder = write(*suggest(0, LOSS))
    status(folder)

    with StudyFolder(folder).journal.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_trials_are_counted_by_state_and_the_best_is_that_of_the_report(write: Write) -> None:
    found = status(write(*trial(0, 5.0), *trial(1, 4.0), *trial(2, 1.0, "stopped"), close()))

    assert found["trials"] == {"completed": 2, "stopped": 1}
    assert found["best"] == {"trial": 1, "value": 4.0, "kimg": 16.0, "state": "completed"}
    assert found["command"] is None


def test_a_running_trial_says_how_far_it_is_and_since_when_it_is_silent(write: Write) -> None:
    folder = write(*at(1, *suggest(0, LOSS)), *at(20, report(0, 6, 5.0)))

    (each,) = status(folder, at="50s")["running"]

    assert (each["trial"], each["kimg"], each["budget"]) == (0, 6, 16)
    assert (each["silent"], each["node"], each["attempt"]) == (30, "host", 1)


def test_only_budgets_that_are_limited_are_shown_with_what_was_used(write: Write) -> None:
    budget = {"trials": 30, "kimg": 16.0, "hours": 2.0, "gpu_hours": 1.0, "total_kimg": None,
              "target": 3.0}  # fmt: skip
    folder = write(
        *trial(0, 5.0), *replicate(1, 0, 6.0), *at(1800, close(seconds=1800.0)),
        budget=budget, resources={"workers": 2, "gpus": 0.5},
    )  # fmt: skip

    # The fixture trains 1.5 s per kimg: 24 s for the trial, 24 s for its replicate, on one GPU.
    assert status(folder)["budget"] == {
        "trials": {"used": 1, "limit": 30},
        "hours": {"used": 0.5, "limit": 2.0},
        "gpu_hours": {"used": pytest.approx(48 / 3600), "limit": 1.0},
        "target": {"used": 5.0, "limit": 3.0},
    }


def test_a_trial_that_left_its_machine_in_order_has_moved_and_was_not_lost(write: Write) -> None:
    left = {**retry(0, 2, 6.0), "reason": "its machine is to go in 118 s", "moved": True}
    folder = write(
        *suggest(0, LOSS), report(0, 6, 9.0), left, start(0, 2, 9.5), report(0, 16, 8.0),
        end(0, "completed"), *at(300, close()), recovery={"retries": 3},
    )  # fmt: skip

    facts = status(folder)
    assert (facts["retries"]["used"], facts["moved"]) == (0, 1)
    assert "moved         1 time, saved" in status_text(facts)
    assert "saved, to go on elsewhere: its machine is to go in 118 s" in why_text(folder, 0)
    study = load_results(folder)
    assert study.runs["state"].tolist() == ["interrupted", "completed"]
    page = render_page(study)
    assert "saved and moved to another machine: 1 time" in page
    assert "lost and retried" not in page


def test_dollars_are_those_of_each_kind_of_gpu_and_of_as_many_workers_as_there_were(
    write: Write,
) -> None:
    budget = {"trials": 30, "kimg": 16.0, "dollars": 5.0}
    resources = {"workers": {"min": 1, "max": 4}, "gpus": 0.5, "prices": {"A10G": 3.6, "H100": 36}}
    attempts = [
        {**start(0), "workers": 2, "accelerator": "A10G"}, report(0, 4, 9.0, seconds=100),
        {**start(0, 2, 4.0), "workers": 4, "accelerator": "H100"}, report(0, 16, 5.0, seconds=150),
    ]  # fmt: skip
    folder = write(
        suggest(0, LOSS)[0], *attempts, end(0, "completed"), *at(300, close()),
        budget=budget, resources=resources,
    )  # fmt: skip

    # 100 s of two halves of an A10G at a mill a second; 50 s of four halves of an H100 at a cent.
    spent = 100 * 2 * 0.5 * 0.001 + 50 * 4 * 0.5 * 0.01
    assert status(folder)["budget"]["dollars"] == {"used": pytest.approx(spent), "limit": 5.0}
    study = load_results(folder)
    assert study.trials["dollars"].tolist() == [pytest.approx(spent)]
    assert study.info["worked"] == {"A10G": 200, "H100": 200}
    assert f"0.0278 GPU-hours of A10G, 0.0278 GPU-hours of H100, ${spent:.2f}" in render_page(study)


def test_without_the_price_of_a_kind_nobody_says_what_a_search_cost(write: Write) -> None:
    resources = {"workers": 1, "gpus": 1, "prices": {"A10G": 3.6}}
    kinds = [{**start(0), "accelerator": "T4"}, report(0, 16, 9.0), end(0, "completed")]
    folder = write(suggest(0, LOSS)[0], *kinds, *at(300, close()), resources=resources)

    study = load_results(folder)
    assert study.trials["dollars"].isna().all()
    assert "$" not in re.sub(r"<(script|style).*?</\1>", "", render_page(study), flags=re.DOTALL)


def test_the_time_of_a_study_that_runs_goes_on(write: Write) -> None:
    folder = write(*at(10, *suggest(0, LOSS)), *at(100, *trial(1, 5.0)))

    assert status(folder, at="60s")["seconds"] == 60


# Protocols are no settings: a journal without them never wrote null.
@pytest.mark.parametrize("group", sorted({*GROUPS, *LISTS} - {"protocols", "protocol_of"}))
def test_a_group_of_facts_that_is_null_is_empty(write: Write, group: str) -> None:
    folder = write(*suggest(0, LOSS), report(0, 2, 5.5), end(0), close(), **{group: None})

    assert status_text(status(folder))
    assert "suggested" in why_text(folder, 0)
    assert "Fréchet" in render_page(load_results(folder))


def test_sessions_and_retries_are_told(write: Write) -> None:
    info = make_info(recovery={"retries": 3})
    folder = write(
        *suggest(0, LOSS), *at(10, retry(0, 2, 6.0)), *at(40, start(0, 2, 6.0)),
        *at(50, close("interrupted", 50.0)), *at(90, reopen({**info, "started": START + 90})),
        *at(95, start(0, 3, 6.0)), *at(100, close(seconds=10.0)), recovery={"retries": 3},
    )  # fmt: skip
    found = status(folder)

    assert (found["sessions"], found["seconds"]) == (2, 60)
    assert found["retries"] == {"used": 1, "in_a_row": 3}
    assert "1, at most 3 in a row for one trial" in status_text(found)
    assert "session 2" in status_text(found)


def test_finalists_are_shown_with_the_replicated_mean_of_the_best(write: Write) -> None:
    found = status(
        write(*trial(0, 5.0), *trial(1, 6.0), finals(0, 1), *replicate(2, 0, 8.0),
              *replicate(3, 1, 7.0), *replicate(4, 1, 7.5), close())
    )  # fmt: skip

    assert [each["trial"] for each in found["finalists"]] == [1, 0]
    assert found["best"]["mean"] == 7.25
    assert "fd_classifier 7.25 by trial 1, mean over 2 new seeds (6 in the search)" in status_text(
        found
    )


def test_several_objectives_have_a_front(write: Write) -> None:
    both = [{"metric": "fd_classifier", "direction": "minimize"},
            {"metric": "recall", "direction": "maximize"}]  # fmt: skip
    records = []
    for number, (value, recall) in enumerate([(5.0, 0.5), (6.0, 0.25), (7.0, 0.75)]):
        records += [*suggest(number, LOSS), report(number, 16, value, recall=recall), end(number)]
    found = status(write(*records, objectives=both))

    assert found["front"] == [0, 2]
    assert "trial 0, trial 2" in status_text(found)


def test_the_grace_advice_is_the_one_of_the_report(write: Write) -> None:
    records = []
    for number in range(8):
        values = zip((2, 6, 16), (30.0 - number, 10.0 + number, 1.0 + number), strict=True)
        reports = [report(number, kimg, value) for kimg, value in values]
        records += [*suggest(number, LOSS), *reports, end(number)]
    found = status(write(*records, close()))

    assert found["advice"]["action"].startswith("Try --set scheduler.grace_kimg=6")
    assert "grace_kimg=6" in status_text(found)


@pytest.mark.parametrize(
    ("state", "command"), [("interrupted", "raygen tune … --resume must"), ("finished", None)]
)
def test_the_command_that_the_study_recorded_resumes_it(
    write: Write, state: str, command: str | None
) -> None:
    recorded = "raygen tune … --resume must"

    assert status(write(close(state), resume_command=recorded))["command"] == command


def test_the_result_is_plain_json(write: Write) -> None:
    records = simulate(12)
    folder = write(*records, finals(0, 1), *replicate(12, 0, None, "diverged"))

    assert json.loads(json.dumps(status(folder), allow_nan=False))["schema"] == 1


def test_an_empty_study_has_a_status(write: Write) -> None:
    found = status(write())

    assert found["trials"] == {}
    assert found["best"] is None
    assert "none yet" in status_text(found)


# ---- as of a time --------------------------------------------------------------------------


def timeline(write: Write) -> Path:
    """Trial 0 from 10 s to 100 s, trial 1 from 110 s; interrupted at 200 s, resumed at 5000 s."""
    return write(
        *at(10, *suggest(0, LOSS)), *at(100, report(0, 16, 5.0), end(0)),
        *at(110, *suggest(1, LOSS)), *at(200, end(1, "interrupted"), close("interrupted", 200.0)),
        *at(5000, reopen(make_info(started=START + 5000))), *at(5010, start(1, 2, 0.0)),
    )  # fmt: skip


@pytest.mark.parametrize("moment", ["2m30s", "150s", "#6", "0h2m"])
def test_a_study_is_shown_as_it_was_then(write: Write, moment: str) -> None:
    found = status(timeline(write), at=moment)

    assert found["state"] == "running"
    assert found["trials"] == {"completed": 1, "running": 1}


def test_a_time_of_day_may_be_local_or_carry_its_offset(write: Write) -> None:
    folder = timeline(write)
    moment = datetime.fromtimestamp(START + 50)

    assert status(folder, at=moment.isoformat())["trials"] == {"running": 1}
    aware = moment.astimezone(UTC)
    assert status(folder, at=aware.isoformat())["trials"] == {"running": 1}
    assert status(folder, at=aware.isoformat())["at"] == START + 50


def test_between_two_sessions_a_study_was_what_the_first_ended_as(write: Write) -> None:
    folder = timeline(write)

    assert status(folder, at="10m")["state"] == "interrupted"
    assert status(folder, at="5005s")["state"] == "running"
    assert status(folder, at="9d")["state"] == "crashed"


def test_a_session_that_only_a_later_one_shows_as_broken_had_crashed(write: Write) -> None:
    folder = write(*at(10, *suggest(0, LOSS)), *at(99, reopen(make_info())), *at(100, close()))

    assert status(folder, at="50s")["state"] == "crashed"


@pytest.mark.parametrize("moment", ["yesterday", "", "12", "-5s", "1.5x", "#0", "#99", "#x", "²s"])
def test_a_time_that_is_none_is_one_line_with_the_forms(write: Write, moment: str) -> None:
    with pytest.raises(InputError) as raised:
        status(timeline(write), at=moment)

    text = str(raised.value)
    assert "\n" not in text
    assert "#1 to #11" in text if moment.startswith("#") else '"90s"' in text


def test_a_time_before_the_study_is_an_error(write: Write) -> None:
    with pytest.raises(InputError, match="opened later"):
        status(timeline(write), at="2001-01-01")


# ---- why -----------------------------------------------------------------------------------


def test_the_story_of_a_trial_is_told_in_order_with_its_numbers(write: Write) -> None:
    folder = write(
        *at(5, *suggest(0, LOSS, by="start"), report(0, 2, 9.0), decide(0, 2, 9.0, None)),
        *at(
            60,
            *suggest(1, {"width": 48}, by="tpe"),
            checkpoint(0, 16, "last"),
            checkpoint(0, 16),
            end(0),
        ),
        *at(75, {**report(1, 2, 12.0), "sd": {"fd_classifier": 0.5}}),
        *at(75, decide(1, 2, 12.0, 9.0, peers=2, decision="stop", band=0.75)),
        *at(76, end(1, "stopped", "12 at 2 kimg is above the cut-off 9")),
    )

    assert why_text(folder, 1).splitlines() == [
        "      1 min  suggested by tpe, seed 101",
        "             known so far: 0 ended trials",
        "             width = 48",
        "      1 min  starts on host (cpu)",
        " 1 min 15 s  2 kimg: fd_classifier 12 ± 0.5, its best so far",
        " 1 min 15 s  rung at 2 kimg: stopped with 12: place 2 of 2, cut-off 9, noise band 0.75",
        "             at this rung so far: trial 0 9, trial 1 12",
        " 1 min 16 s  ended: stopped: 12 at 2 kimg is above the cut-off 9",
    ]
    assert "suggested: starting point 1 of the search space" in why_text(folder, 0)
    assert "place 1 of 1, too few to compare" in why_text(folder, 0)
    assert "checkpoint kept: last and best" in why_text(folder, 0)


def test_what_the_sampler_knew_is_what_had_ended_and_not_what_came_later(write: Write) -> None:
    folder = write(
        *trial(0, 5.0), *trial(1, 2.0, "stopped"), *suggest(2, LOSS), report(2, 2, 1.0),
        *suggest(3, LOSS, by="tpe"), *trial(4, 0.5),
    )  # fmt: skip
    text = why_text(folder, 3)

    assert "known so far: 2 ended trials (1 completed, 1 stopped), the best trial 0 with 5" in text
    assert "0.5" not in text


def test_a_decision_shows_the_rung_as_it_was_then(write: Write) -> None:
    folder = write(
        *suggest(0, LOSS), *suggest(1, LOSS), *suggest(2, LOSS),
        report(0, 2, 7.0), report(1, 2, 5.0), report(2, 2, 1.0),
        decide(0, 2, 7.0, None), decide(1, 2, 5.0, 5.0, peers=2), decide(2, 2, 1.0, 1.0, peers=3),
    )  # fmt: skip

    assert "place 1 of 2, cut-off 5" in why_text(folder, 1)
    assert "at this rung so far: trial 1 5, trial 0 7\n" in why_text(folder, 1) + "\n"
    assert "at this rung so far: trial 2 1, trial 1 5, trial 0 7" in why_text(folder, 2)


def test_of_a_crowded_rung_the_best_are_named_and_the_others_counted(write: Write) -> None:
    records = []
    for number in range(40):
        value = 100.0 - number
        records += [*suggest(number, LOSS), report(number, 2, value), decide(number, 2, value, 9.0)]
    text = why_text(write(*records), 39)

    assert "so far: trial 39 61, trial 38 62, " in text
    assert text.endswith("trial 10 90, and 10 more")


def test_a_trial_kept_by_the_noise_band_says_so(write: Write) -> None:
    records = [*suggest(0, LOSS), report(0, 2, 5.5), decide(0, 2, 5.5, 5.0, band=1.0)]

    assert "cut-off 5, noise band 1: worse, but within the band" in why_text(write(*records), 0)


def test_a_maximised_rung_places_the_highest_first(write: Write) -> None:
    objective = {"metric": "elbo", "direction": "maximize"}
    records = [*suggest(0, LOSS), *suggest(1, LOSS)]
    records += [report(0, 2, -9.0, metric="elbo"), report(1, 2, -5.0, metric="elbo")]
    records += [decide(0, 2, -9.0, None)]
    folder = write(*records, decide(1, 2, -5.0, -5.0, peers=2), objective=objective)

    assert "place 1 of 2" in why_text(folder, 1)
    assert "trial 1 -5, trial 0 -9" in why_text(folder, 1)


def test_several_objectives_have_a_place_and_no_cut_off(write: Write) -> None:
    both = [{"metric": "fd_classifier", "direction": "minimize"},
            {"metric": "recall", "direction": "maximize"}]  # fmt: skip
    decision = decide(0, 2, [5.0, 0.25], None, rank=1, kept=2, peers=4)
    folder = write(*suggest(0, LOSS), report(0, 2, 5.0, recall=0.25), decision, objectives=both)

    assert "2 kimg: fd_classifier 5, recall 0.25" in why_text(folder, 0)
    few = [*suggest(0, LOSS), report(0, 2, 5.0, recall=0.25), decide(0, 2, 5.0, None)]
    few = write(*few, objectives=both, folder="few")
    assert "rung at 2 kimg: continues with 5: too few to compare" in why_text(few, 0)
    assert "continues with 5 / 0.25: place 1 of 4, 2 of which continue" in why_text(folder, 0)


def test_a_lost_and_resumed_trial_tells_of_both(write: Write) -> None:
    folder = write(
        *suggest(0, LOSS), *at(30, retry(0, 2, 6.0)), *at(61, start(0, 2, 6.0, "other")),
        *at(70, end(0, "interrupted", "Ctrl-C"), close("interrupted")),
        *at(900, reopen(make_info()), start(0, 3, 0.0)), *at(990, collect(0)),
    )  # fmt: skip
    text = why_text(folder, 0)

    assert "lost: the node died; attempt 2 will resume from 6 kimg in 30 s" in text
    assert "attempt 2: resumes from 6 kimg on other (cpu)" in text
    assert "     15 min  the study was resumed" in text
    assert "attempt 3: restarts on host" in text
    assert "checkpoint deleted to save space: last (2.0 MB)" in text


def test_a_finalist_and_its_replicates_tell_of_each_other(write: Write) -> None:
    folder = write(
        *trial(0, 5.0), *trial(1, 6.0), finals(0, 1), *replicate(2, 0, 8.0),
        race({0: 8.0, 1: 7.0}, {0: 0.2, 1: 0.8}, seeds=1, dropped=[0], settled=True),
    )  # fmt: skip
    text = why_text(folder, 0)

    assert "a finalist: place 1 of 2 in the search" in text
    assert "retrained as trial 2 with seed 102" in text
    assert "its replicate, trial 2, ended: completed with 8" in text
    assert "mean 8, the best with probability 0.20, out of the race, the race is over" in text
    assert "a replicate of finalist 0, seed 102" in why_text(folder, 2)


def test_a_finalist_without_a_rival_is_not_said_to_be_the_best(write: Write) -> None:
    folder = write(
        *trial(0, 5.0), finals(0), *replicate(1, 0, 8.0),
        race({0: 8.0}, {0: 1.0}, seeds=1, settled=True),
    )  # fmt: skip

    assert "race with 1 new seed: mean 8, the race is over" in why_text(folder, 0)
    said = status_text(status(folder))
    assert "8 over 1 new seed" in said
    assert "probability" not in said


def test_where_a_suggestion_came_from_is_named(write: Write) -> None:
    folder = write(
        warm("older", 4, {"width": 9}, [3.0]), warm("newer", 5, {"width": 32}, None),
        *suggest(0, LOSS, by="warm", params={"width": 32, "beta": 0.5}),
        *suggest(1, LOSS, by="startup"), *suggest(2, LOSS),
        sampler={"name": "tpe", "startup_trials": 10},
    )  # fmt: skip

    best = "suggested as the best of an earlier study: trial 5 of newer, seed 100"
    assert best in why_text(folder, 0)
    assert "known so far: 0 ended trials and 1 of earlier studies" in why_text(folder, 0)
    assert "random suggestion (tpe starts after 10 trials)" in why_text(folder, 1)
    assert "suggested, seed 102" in why_text(folder, 2)


def test_a_trial_that_is_not_there_is_named_with_those_that_are(write: Write) -> None:
    with pytest.raises(InputError, match="--why 9: no such trial; there are trials 0 to 1"):
        why_text(write(*suggest(0, LOSS), *suggest(1, LOSS)), 9)
    with pytest.raises(InputError, match="no trial yet"):
        why_text(write(folder="empty"), 0)


def test_every_story_is_the_beginning_of_a_later_one(write: Write) -> None:
    records = simulate(10)
    timed = [{**record, "time": START + place} for place, record in enumerate(records)]
    folder = write(*timed)
    whole = [why_text(folder, number) for number in range(10)]

    for cut in range(30, len(records), 7):
        for number in {r["trial"] for r in records[:cut] if r["kind"] == "suggest"}:
            assert whole[number].startswith(why_text(folder, number, at=f"#{cut + 1}"))
