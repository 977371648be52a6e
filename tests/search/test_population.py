"""Population based training: its turns against a simulation, cut anywhere, and checked again."""

import copy
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from raygen.config import Study
from raygen.errors import InputError
from raygen.journal.records import End, Report, Suggest
from raygen.progress.plan import plan_text
from raygen.schedules import Steps, value_at
from raygen.search.verify import verify
from raygen.seeds import derive
from raygen.trial import GanTrial
from search.studies import SPACE, Memory, event, make_controller, make_study, run

PBT = (
    "budget={trials: 8, kimg: 10}",
    "scheduler={name: pbt, interval_kimg: 2}",
    "sampler.name=random",
)
BEST = 1e-3


def make(folder: Path, *settings: str) -> Study:
    text = SPACE.replace("wasserstein: {", "nonsaturating: {")
    return make_study(folder, *PBT, *settings, text=text.replace("gradient_penalty", "r1"))


def curve(config: dict[str, Any], seed: int, kimg: float) -> float:
    """How far the rates of a whole schedule were from the best, kimg after kimg."""
    rate = GanTrial.model_validate({"family": "gan", **config}).optimizer.generator_lr
    steps = [value_at(rate, at / 10) for at in range(int(kimg))]
    return 100 + sum(abs(step - BEST) * 1000 for step in steps) + seed % 5


def search(study: Study, at_once: int = 1, journal: Memory | None = None) -> Memory:
    journal = Memory() if journal is None else journal
    run(make_controller(study, journal), curve, at_once)
    return journal


def population(journal: Memory) -> dict[int, Any]:
    """Who was trained, from whom, with which settings, and how it ended."""
    ended = {r.trial: (r.state, r.reason) for r in journal if isinstance(r, End)}
    return {
        r.trial: (r.config, r.seed, r.of, r.parent, r.replaces, r.from_kimg, ended.get(r.trial))
        for r in journal
        if isinstance(r, Suggest)
    }


def test_the_copies_are_those_of_a_simulation_from_scratch(tmp_path: Path) -> None:
    """Turn by turn, with plain lists: the worst quarter becomes copies of the best quarter."""
    study = make(tmp_path)
    journal = search(study)
    first = [r for r in journal if isinstance(r, Suggest) and r.parent is None]
    members = {r.trial: (r.config, r.params, r.seed) for r in first}
    expected = []
    for turn in (2, 4, 6, 8):
        order = sorted(members, key=lambda n: (curve(members[n][0], members[n][2], turn), n))
        best, worst = order[:2], order[6:]
        for place, gone in enumerate(worst):
            number = 8 + len(expected)
            random = Random(derive(study.spec.seed, "population", number))
            parent = random.choice(best)
            expected.append((number, parent, gone, float(turn)))
            record = next(r for r in journal if isinstance(r, Suggest) and r.trial == number)
            members[number] = (record.config, record.params, members[parent][2])
            assert place < 2
        for gone in worst:
            del members[gone]

    copies = [
        (r.trial, r.parent, r.replaces, r.from_kimg)
        for r in journal
        if isinstance(r, Suggest) and r.parent is not None
    ]
    assert copies == expected
    ended = {r.trial: r.state for r in journal if isinstance(r, End)}
    assert sorted(n for n, state in ended.items() if state == "completed") == sorted(members)
    assert all(ended[gone] == "stopped" for _, _, gone, _ in copies)


def test_a_copy_keeps_the_past_of_its_parent_and_changes_its_future(tmp_path: Path) -> None:
    study = make(tmp_path, "scheduler.resample=0")
    journal = search(study)
    by_number = {r.trial: r for r in journal if isinstance(r, Suggest)}
    seen = 0
    for record in by_number.values():
        if record.parent is None:
            continue
        parent = by_number[record.parent]
        ours, theirs = (
            GanTrial.model_validate({"family": "gan", **r.config}) for r in (record, parent)
        )
        rate = ours.optimizer.generator_lr
        assert isinstance(rate, Steps)
        assert record.seed == parent.seed
        assert ours.batch_size == theirs.batch_size
        assert ours.loss.name == theirs.loss.name
        before, after = record.from_kimg / 10 - 1e-9, record.from_kimg / 10
        old, new = (value_at(theirs.optimizer.generator_lr, share) for share in (before, after))
        assert old == new == value_at(rate, before)
        changed = value_at(rate, after)
        assert changed in (min(0.8 * old, 1e-2), min(1.2 * old, 1e-2), 1e-4)
        assert record.params["optimizer.generator_lr"] == changed == rate.values[-1]
        seen += 1
    assert seen == 8


def test_a_population_ends_nearer_to_the_best_than_it_began(tmp_path: Path) -> None:
    journal = search(make(tmp_path))
    last = {
        r.trial: r.metrics["fd_classifier"] for r in journal if isinstance(r, Report) and r.last
    }
    alone = [
        curve(r.config, r.seed, 10) for r in journal if isinstance(r, Suggest) and r.parent is None
    ]

    values = [value for value in last.values() if value is not None]
    assert min(values) <= min(alone)
    assert sum(values) - 800 < 0.6 * (sum(alone) - 800)


def test_a_population_cut_after_any_record_goes_on_to_the_same_end(tmp_path: Path) -> None:
    study = make(tmp_path, "budget={trials: 5, kimg: 6}", "finalists={count: 1, seeds: 2}",
                 "scheduler.quantile=0.4")  # fmt: skip
    whole = search(study)
    for cut in range(len(whole)):
        again = search(study, journal=Memory(whole[:cut]))
        trials = [r.trial for r in again if isinstance(r, Suggest)]
        ended = [r.trial for r in again if isinstance(r, End)]
        assert sorted(trials) == sorted(ended) == list(range(len(trials))), f"cut after {cut}"
        assert population(again) == population(whole), f"cut after {cut}"


def test_as_many_at_once_as_there_are_and_one_alone_make_the_same_population(
    tmp_path: Path,
) -> None:
    study = make(tmp_path)
    one, many = (population(search(study, at_once)) for at_once in (1, 8))

    assert one == many


def test_what_has_broken_is_replaced_at_the_next_turn(tmp_path: Path) -> None:
    study = make(tmp_path)
    journal = Memory()
    controller = make_controller(study, journal)
    jobs = []
    while (job := controller.suggest()) is not None:
        controller.started(job.number, node="n", pid=1, device="cpu")
        jobs.append(job)
    controller.end(3, "diverged", "a loss is nan")
    for job in jobs:
        if job.number != 3:
            assert controller.reported(job.number, event(2, 100.0 + job.number, 10))
    copied = []
    while (job := controller.suggest()) is not None:
        controller.started(job.number, node="n", pid=1, device="cpu", kimg=2)
        copied.append((job.number, job.parent))

    made = [r for r in journal if isinstance(r, Suggest) and r.parent is not None]
    # A quarter of seven is one, the worst; and the place of the broken one.
    assert [(r.replaces, r.parent) for r in made] == [(7, 0), (None, 0)]
    assert [number for number, _ in copied] == [1, 2, 4, 5, 6, 8, 9, 0]


def test_who_is_copied_goes_on_only_after_the_copy_has_its_weights(tmp_path: Path) -> None:
    study = make(tmp_path)
    controller = make_controller(study, Memory())
    jobs = [controller.suggest() for _ in range(8)]
    for job in jobs:
        assert job is not None
        controller.started(job.number, node="n", pid=1, device="cpu")
        controller.reported(job.number, event(2, 100.0 + job.number, 10))
    handed = []
    while (job := controller.suggest()) is not None:
        handed.append(job)
    numbers = [job.number for job in handed]
    parents = {job.parent for job in handed} - {None}

    assert parents
    assert not parents & set(numbers)
    for job in handed:
        if job.parent is not None:
            controller.started(job.number, node="n", pid=1, device="cpu", kimg=2)
    later = []
    while (job := controller.suggest()) is not None:
        later.append(job.number)
    assert set(later) == parents


def test_every_copy_and_every_turn_of_a_journal_is_reproduced(tmp_path: Path) -> None:
    study = make(tmp_path, "finalists={count: 2, seeds: 2}")
    whole = search(study)
    verified = verify(study, list(whole))
    assert verified.suggestions == 16
    assert verified.decisions == 32 + 24  # eight wait four times; six of them go on, and two copies

    changed = copy.deepcopy(list(whole))
    place = next(
        k for k, r in enumerate(changed) if isinstance(r, Suggest) and r.parent is not None
    )
    record = changed[place]
    assert isinstance(record, Suggest)
    changed[place] = replace(record, seed=record.seed + 1)
    with pytest.raises(Exception, match="this copy is now"):
        verify(study, changed)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (("scheduler={name: pbt, grace_kimg: 1}",), "pbt's settings are interval_kimg, quantile"),
        (("scheduler={name: pbt, noise: 2}",), "pbt's settings are interval_kimg, quantile"),
        (("scheduler={name: asha, quantile: 0.3}",), "is a setting of pbt"),
        (("scheduler={name: pbt}", "trade_off=[million_parameters]"), "by one objective"),
        (("scheduler={name: pbt}", "space={batch_size: {choice: [16, 32]}}"), "follow a schedule"),
        (("scheduler={name: pbt, quantile: 0.7}",), "at most 0.5"),
        (("scheduler={name: pbt}", "budget.trials=3"), "of a population of 3 are nobody"),
        (("scheduler={name: pbt, interval_kimg: 9}",), "not below the budget of 9 kimg"),
    ],
)
def test_settings_that_make_no_population_are_refused(
    tmp_path: Path, settings: tuple[str, ...], rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        make_study(tmp_path, *settings)


def test_a_population_keeps_its_size_and_its_plan_says_what_changes(tmp_path: Path) -> None:
    small, large = (make(tmp_path, f"budget.trials={count}") for count in (8, 9))
    text = plan_text(small, tmp_path, "2 at once")

    assert small.settings()["budget.trials"] != large.settings()["budget.trials"]
    assert "2 of the best replace the worst" in text
    assert "optimizer.generator_lr, " in text or "optimizer.generator_lr\n" in text
    assert "batch_size" not in text.partition("searched")[0]
