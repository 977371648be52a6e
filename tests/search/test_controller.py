"""The state of a search is a function of its journal, wherever a crash cut it."""

import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from raygen.config import Study
from raygen.errors import RaygenError
from raygen.journal.records import Close, Decide, MetricProtocol, Open, Reopen, Report, parse
from raygen.journal.trials import TrialState
from raygen.notices import Phase
from raygen.results import best_model, fold, ranked
from raygen.search.controller import Controller
from raygen.search.sampler import Sampler
from raygen.search.verify import verify
from raygen.study_folder import StudyFolder
from search.studies import FACTS, Memory, event, make_controller, make_study, run


def curve(config: dict[str, Any], seed: int, kimg: float) -> float:
    """A distance that falls with training, best at a rate of 1e-3; the seed moves it a little."""
    off = abs(math.log10(config["optimizer"]["generator_lr"]) + 3)
    return (1 + off) * (50 + 100 / kimg) + seed % 7


def told(journal: Memory) -> list[dict[str, Any]]:
    """What was decided and measured: without times, and without where and how often it ran."""
    kinds = ("suggest", "report", "decide", "end", "finals", "race")
    return [
        {key: value for key, value in record.items() if key not in ("time", "wait")}
        for record in journal.lines
        if record["kind"] in kinds
    ]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path, "budget.trials=12", "finalists={count: 2, seeds: 3}")


@pytest.mark.parametrize("promote", ["false", "true"])
def test_a_search_cut_after_any_record_goes_on_to_the_very_same_end(
    tmp_path: Path, promote: str
) -> None:
    study = make_study(
        tmp_path, "budget.trials=8", "finalists={count: 2, seeds: 3}",
        f"scheduler.promote={promote}",
    )  # fmt: skip
    whole = Memory()
    run(make_controller(study, whole), curve)
    assert {"decide", "finals", "race"} <= {record.kind for record in whole}

    for cut in range(len(whole)):
        again = Memory(whole[:cut])
        run(make_controller(study, again), curve)
        assert told(again) == told(whole), f"cut after {cut} records"


@pytest.mark.parametrize("at_once", [1, 4])
def test_with_promotion_nobody_is_stopped_and_the_best_of_each_rung_go_on(
    tmp_path: Path, at_once: int
) -> None:
    study = make_study(
        tmp_path, "budget.trials=40", "scheduler={promote: true, noise: 0}",
        "sampler.name=random",
    )  # fmt: skip
    journal = Memory()
    controller = make_controller(study, journal)
    run(controller, curve, at_once)

    reached = {kimg: [t for t in controller.searched if t.kimg >= kimg] for kimg in (1, 3, 9)}
    ended = {t.number: t.state for t in controller.trials}
    assert len(reached[1]) == 40
    for rung, above in ((1, 3), (3, 9)):
        # As many go on as may: none of them waits, and nobody who waits is among the best.
        kept = len(reached[rung]) // 3
        best = {
            t.number for t in sorted(reached[rung], key=lambda t: value_at(journal, t, rung))[:kept]
        }
        assert best <= {t.number for t in reached[above]}
        assert kept <= len(reached[above]) <= 2 * kept
    assert set(ended.values()) == {"completed", "stopped"}
    paused = {r.trial for r in journal if isinstance(r, Decide) and r.decision == "pause"}
    promoted = {r.trial for r in journal if isinstance(r, Decide) and r.decision == "promote"}
    assert promoted < paused
    assert not [r for r in journal if isinstance(r, Decide) and r.decision == "stop"]


def value_at(journal: Memory, trial: TrialState, kimg: float) -> float:
    values = [
        r.metrics["fd_classifier"]
        for r in journal
        if isinstance(r, Report) and r.trial == trial.number and r.kimg <= kimg
    ]
    return min(value for value in values if value is not None)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_search_whose_budget_is_spent_goes_on_when_it_is_raised(
    tmp_path: Path, at_once: int
) -> None:
    """With those that waited at a rung; and its journal still follows from its own rules."""
    settings = ("budget={trials: 20, kimg: 9}", "scheduler.promote=true", "sampler.name=random")
    study = make_study(tmp_path, *settings, "budget.total_kimg=30")
    journal = Memory()
    controller = make_controller(study, journal)
    run(controller, curve, at_once)
    waiting = len(controller.paused)
    controller.end_unfinished()
    assert waiting > 5
    assert not controller.paused
    assert controller.ended()["interrupted"] >= waiting

    study = make_study(tmp_path, *settings)
    journal.append(Reopen(study=FACTS))
    controller = make_controller(study, journal)
    assert len(controller.paused) == waiting
    run(controller, curve, at_once)

    whole = Memory()
    run(make_controller(study, whole), curve)
    best = {trial.number for trial in controller.searched if trial.state == "completed"}
    assert min(whole_values(whole)) in whole_values(journal)
    assert best
    verify(study, journal)


def whole_values(journal: Memory) -> list[float]:
    """The values of full trainings."""
    last = [r.metrics["fd_classifier"] for r in journal if isinstance(r, Report) and r.last]
    return [value for value in last if value is not None]


def test_a_promotion_that_was_the_last_resort_stays_true_when_trials_are_added(
    tmp_path: Path,
) -> None:
    settings = ("scheduler.promote=true", "sampler.name=random")
    study = make_study(tmp_path, *settings, "budget.trials=4")
    journal = Memory()
    run(make_controller(study, journal), curve)

    study = make_study(tmp_path, *settings, "budget.trials=8")
    journal.append(Reopen(study=FACTS))
    run(make_controller(study, journal), curve)

    suggestions, decisions = verify(study, journal)
    assert (suggestions, decisions > 8) == (8, True)


def test_a_search_cut_at_twenty_records_one_after_another_loses_and_doubles_nothing(
    study: Study,
) -> None:
    whole = Memory()
    run(make_controller(study, whole), curve)
    journal, cuts = Memory(), 0
    for _ in range(20):
        journal = Memory(journal, last=len(journal) + 7)
        try:
            run(make_controller(study, journal), curve)
        except KeyboardInterrupt:
            cuts += 1
    journal = Memory(journal)
    run(make_controller(study, journal), curve)

    assert cuts == 20
    assert told(journal) == told(whole)


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("sampler.name=random",),
        ("sampler.name=quasi_random",),
        ("sampler={name: nsga2, population: 4}",),
        ("sampler={name: nsga3, population: 4}", "trade_off=[million_parameters]"),
        ("trade_off=[million_parameters]",),
        ("scheduler.promote=true",),
        ("scheduler.promote=true", "trade_off=[million_parameters]"),
        ("scheduler.name=median",),
        ("scheduler.name=none",),
    ],
)
def test_every_suggestion_and_decision_follows_from_the_journal_before_it(
    tmp_path: Path, settings: tuple[str, ...], at_once: int
) -> None:
    study = make_study(tmp_path, *settings, "budget.trials=14")
    journal = Memory()
    controller = make_controller(study, journal)
    reported = controller.reported

    def also_parameters(number: int, told: dict[str, Any]) -> bool:
        size = float(controller.trials[number].config["batch_size"])
        return reported(
            number, {**told, "metrics": {**told["metrics"], "million_parameters": size}}
        )

    controller.reported = also_parameters  # pyright: ignore[reportAttributeAccessIssue]
    run(controller, curve, at_once)

    suggestions = sum(record.kind == "suggest" for record in journal)
    decisions = sum(record.kind == "decide" for record in journal)
    assert suggestions == 14
    assert (decisions > 0) == ("scheduler.name=none" not in settings)
    assert verify(study, journal) == (suggestions, decisions)


def test_a_journal_that_was_tampered_with_is_found_out(study: Study) -> None:
    journal = Memory()
    run(make_controller(study, journal), curve)
    at, decided = next(
        (at, record)
        for at, record in enumerate(journal)
        if isinstance(record, Decide) and record.cutoff is not None
    )
    journal[at] = replace(decided, cutoff=(decided.cutoff or 0.0) + 1)

    with pytest.raises(RaygenError, match=r"journal\.jsonl:\d+: this decision is now Decide"):
        verify(study, journal)


def start(study: Study) -> tuple[Any, Memory, int]:
    journal = Memory()
    controller = make_controller(study, journal)
    job = controller.suggest()
    assert job is not None
    controller.started(job.number, node="n", pid=1, device="cpu", kimg=0)
    return controller, journal, job.number


def test_a_lost_trial_is_tried_again_from_its_checkpoint_and_in_the_end_given_up(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, journal, number = start(study)
    now = [1000.0]
    monkeypatch.setattr("raygen.search.controller.time.monotonic", lambda: now[0])
    controller.reported(number, event(1, 80.0, 9))
    waits = []
    for losses in (1, 2, 3):
        controller.lost(number, "the node is gone")
        assert controller.trials[number].state == "waiting"
        waits.append(journal.lines[-1]["wait"])
        now[0] += waits[-1]
        job = controller.suggest()
        assert (job.number, job.reported, job.losses) == (number, 1, losses)
        controller.started(number, node="n", pid=2, device="cpu", kimg=1)
    controller.lost(number, "the node is gone")

    assert waits == [1.0, 2.0, 4.0]
    assert controller.trials[number].state == "lost"
    assert [r["attempt"] for r in journal.lines if r["kind"] == "start"] == [1, 2, 3, 4]


def test_a_lost_trial_does_not_hold_back_the_others_while_it_waits(study: Study) -> None:
    controller, _, number = start(study)
    controller.lost(number, "gone")

    job = controller.suggest()

    assert job is not None
    assert job.number == number + 1
    assert not controller.done


def test_progress_makes_up_for_earlier_losses(study: Study) -> None:
    controller, _, number = start(study)
    for kimg in (1, 3):
        for _ in range(3):
            controller.lost(number, "spot")
            controller.trials[number].due = 0.0
            controller.suggest()
            controller.started(number, node="n", pid=1, device="cpu", kimg=0)
        controller.reported(number, event(kimg, 80.0, 9))

    assert controller.trials[number].state == "running"


def test_a_missing_objective_is_the_trials_own_failure(study: Study) -> None:
    controller, journal, number = start(study)

    assert controller.reported(number, {**event(1, 80.0, 9), "metrics": {"elbo": 1.0}})

    assert journal.lines[-1]["reason"] == "it reported no value of fd_classifier"


def test_what_trials_say_of_their_machines_is_told_once(study: Study) -> None:
    controller, _, number = start(study)
    heard: list[object] = []
    controller.notify = heard.append
    for kimg in (1, 2):
        said = {**event(kimg, 80.0, 9), "path": "eager: a read of the host"}
        controller.reported(number, said)

    assert [n for n in heard if isinstance(n, Phase)] == [
        Phase(f"trial {number}: no CUDA graph: a read of the host")
    ]


def test_a_value_counts_beside_those_of_equal_samples_only(study: Study) -> None:
    journal = Memory()
    controller = make_controller(study, journal)
    job = controller.suggest()
    assert job is not None
    controller.started(0, node="n", pid=1, device="cpu", kimg=0)
    for kimg, value, samples in ((1, 2.0, 100), (3, 9.0, 200)):
        protocols = {"fd_classifier": {"samples": samples}}
        controller.reported(0, {**event(kimg, value, 9), "protocols": protocols})

    again = make_controller(study, journal)

    assert controller.trials[0].values == again.trials[0].values == [9.0]
    assert [r["value"] for r in journal.lines if r["kind"] == "decide"] == [2.0, 9.0]


def test_many_failures_in_a_row_end_the_search(study: Study) -> None:
    controller, _, number = start(study)
    for _ in range(5):
        controller.end(number, "failed", "KeyError: 'x'")
        job = controller.suggest()
        number = job.number if job else None

    assert number is None
    assert controller.done
    assert controller.closing.state == "failed"
    assert "5 trials in a row failed, the last one: KeyError: 'x'" in controller.closing.reason


@pytest.mark.parametrize(("kind", "told"), [("T4", "T4"), ("", "a GPU whose kind Ray does not")])
def test_a_gpu_without_a_price_ends_a_search_that_may_cost_so_much(
    tmp_path: Path, kind: str, told: str
) -> None:
    settings = ("budget.dollars=5", "resources.prices={A10G: 1}", "resources.gpus=1")
    controller = make_controller(make_study(tmp_path, *settings), Memory())
    controller.started(controller.suggest().number, node="n", accelerator="A10G")
    assert controller.closing is None
    controller.started(controller.suggest().number, node="n", accelerator=kind)

    assert controller.closing.state == "failed"
    assert f"budget.dollars: resources.prices has no price of {told}" in controller.closing.reason


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("budget.total_kimg=10", "the budget of 10 total kimg is spent"),
        ("budget.target=100", "trial 0 reached 80 (target 100)"),
        ("budget.hours=1e-9", "the budget of 1e-09 hours is spent"),
        ("budget.dollars=1e-9", "the budget of 1e-09 dollars is spent"),
    ],
)
def test_the_first_spent_budget_ends_the_search_and_it_can_go_on(
    tmp_path: Path, setting: str, reason: str
) -> None:
    study = make_study(tmp_path, setting, "scheduler.name=none", "resources.prices={CPU: 1}")
    journal = Memory()
    controller = make_controller(study, journal)
    for _ in range(3):
        job = controller.suggest()
        if job is None:
            break
        controller.started(job.number, node="n", pid=1, device="cpu", kimg=0)
        for kimg in (1, 3, 9):
            if controller.reported(job.number, event(kimg, 80.0, 9)) or controller.closing:
                break
    assert controller.closing is not None
    assert controller.closing[:2] == ("finished", reason)
    assert controller.suggest() is None
    for trial in controller.running:
        controller.end(trial.number, "interrupted", controller.closing.reason)
    assert controller.done

    longer = make_controller(make_study(tmp_path, "scheduler.name=none"), Memory(journal))
    assert not longer.done
    assert longer.suggest() is not None


def test_time_counts_over_all_sessions_a_crashed_one_until_its_last_record(study: Study) -> None:
    journal = Memory()
    controller = make_controller(study, journal)
    records = [
        Open(time=100.0, study={}),
        Close(time=160.0, seconds=61.0, state="interrupted"),
        Reopen(time=500.0, study={}),
        MetricProtocol(time=530.0, hash="a", record={}),
        Reopen(time=900.0, study={}),
        MetricProtocol(time=905.0, hash="b", record={}),
    ]

    controller.replay(records)

    assert controller.earlier == 61 + 30 + 5


def test_a_trial_that_waits_for_a_machine_does_not_hang_but_one_that_stands_still_does(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("raygen.search.controller.time.monotonic", lambda: now[0])
    controller = make_controller(study, Memory())
    job = controller.suggest()
    assert job is not None
    now[0] += 7200
    assert controller.hung() == []
    controller.started(0, node="n", pid=1, device="cpu", kimg=0)
    controller.alive(0, 100)
    now[0] += 1799
    assert controller.hung() == []
    controller.alive(0, 100)  # no further than before
    now[0] += 2

    assert controller.hung() == [0]


def test_a_search_that_goes_on_and_finds_better_trials_races_again(study: Study) -> None:
    journal = Memory()
    run(make_controller(study, journal), curve)
    longer = study._replace(
        spec=study.spec.model_copy(
            update={"budget": study.spec.budget.model_copy(update={"trials": 30})}
        )
    )
    before = [r["trials"] for r in journal.lines if r["kind"] == "finals"]
    run(make_controller(longer, journal), curve)
    finals = [r["trials"] for r in journal.lines if r["kind"] == "finals"]

    values = {
        r["trial"]: r["metrics"]["fd_classifier"] for r in journal.lines if r["kind"] == "report"
    }
    completed = {r["trial"] for r in journal.lines if r.get("state") == "completed"}
    repeats = {r["trial"] for r in journal.lines if r.get("of") is not None}
    best = sorted(completed - repeats, key=values.__getitem__)[:2]
    assert before == [finals[0]]
    assert finals[-1] == best


@pytest.mark.parametrize("seed", range(6))
def test_the_model_to_use_is_the_same_live_and_in_the_study_that_is_read_back(
    tmp_path: Path, seed: int
) -> None:
    settings = (f"seed={seed}", "budget.trials=9", "finalists.count=2", "finalists.seeds=2")
    study, journal = make_study(tmp_path, *settings), Memory()
    random = Random(seed)

    def report(controller: Any, number: int, told: dict[str, Any]) -> bool:
        told["variation"] = random.choice([0.01, 0.4, 0.9, None])
        return Controller.reported(controller, number, told)

    class Varied(Controller):
        reported = report

    controller = Varied(study, journal, Sampler(study, "test", None), lambda record: None)
    run(controller, lambda config, seed, kimg: random.uniform(1, 9))
    info = {"family": "gan", "objective": {"metric": "fd_classifier", "direction": "minimize"}}
    info |= {"finalists": {"count": 2}}
    opened = parse({"kind": "open", "time": 0.0, "study": info})
    read = fold(StudyFolder(tmp_path), [opened, *journal])
    model = best_model(read)

    assert model is not None
    assert model.run == controller.best_run()
    alone = ranked(read._replace(replicates=read.replicates[:0]))
    completed = alone.loc[alone["state"] == "completed", "trial"].tolist()
    assert controller._best_completed() == completed
    gone = {(r["trial"], r["role"]) for r in journal.lines if r["kind"] == "collect"}
    assert (model.run, "best") not in gone


@pytest.mark.parametrize(
    ("value", "state", "reason"),
    [
        (None, "failed", "the budget of 0.5 total kimg is spent, and no trial has a value"),
        (80.0, "finished", "the budget of 0.5 total kimg is spent"),
    ],
)
def test_a_budget_spent_before_any_value_is_a_failed_search(
    tmp_path: Path, value: float | None, state: str, reason: str
) -> None:
    controller = make_controller(make_study(tmp_path, "budget.total_kimg=0.5"), Memory())
    job = controller.suggest()
    assert job is not None
    controller.started(job.number, node="n", pid=1, device="cpu", kimg=0)
    if value is not None:
        controller.reported(job.number, event(1, value, 9))
    else:
        controller.alive(job.number, 1000)
    controller.tick()
    controller.end(job.number, "interrupted", "the search ended before it")

    assert controller.outcome()[:2] == (state, reason)


def test_a_search_whose_trials_all_failed_has_failed(study: Study) -> None:
    controller, _, number = start(study)
    controller.end(number, "failed", "KeyError: 'x'")

    assert controller.outcome()[:2] == ("failed", "no trial completed its training")
