import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raygen.config_file import load_space
from raygen.errors import InputError
from raygen.journal.records import End, Report, Suggest, as_json
from raygen.replay import (
    ALIKE,
    DistanceScale,
    Noise,
    Params,
    Raygen,
    Recorded,
    Recording,
    Step,
    Surrogate,
    compare,
    merged,
    paired,
    persistence,
    record_study,
    seed_noise,
    simulate,
    variant,
)

SPACE = """
family: gan
data: {source: shapes}
objective: fd_classifier
budget: {trials: 12, kimg: 9}
scheduler: {name: asha, grace_kimg: 1}
sampler: {name: tpe, startup_trials: 5}
finalists: {count: 0}
resources: {cpus: 1}
space:
  loss:
    one_of:
      hinge: {}
      wasserstein: {penalty: gradient_penalty, penalty_weight: {float: [1, 100], log: true}}
  optimizer:
    generator_lr: {float: [1e-4, 1e-2], log: true}
    beta1: {choice: [0.0, 0.5]}
"""
MILESTONES = (1.0, 3.0, 9.0)
LUCK = np.random.default_rng(0)
PLAIN = DistanceScale(ideal=0.0, sign=1.0)  # logarithms of the values themselves
HINGE = {"loss.name": "hinge", "optimizer.beta1": 0.5}


def curve(params: Params, values: Sequence[float], **more: Any) -> Recorded:
    row = np.array([*values, *[math.nan] * (3 - len(values))])
    seconds = np.where(np.isnan(row), math.nan, 2 * np.array(MILESTONES))
    return Recorded(params, row, seconds, 0.01 * row, **{"end": 9.0, **more})


def hinge(rate: float, values: Sequence[float], **more: Any) -> Recorded:
    return curve({**HINGE, "optimizer.generator_lr": rate}, values, **more)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Two branches: hinge is the better the nearer its rate is to 1e-3, wasserstein is bad."""
    curves = []
    for exponent in np.linspace(-4, -2, 21):
        level = 10 + 20 * abs(exponent + 3)
        for beta1 in (0.0, 0.5):
            shared = {"optimizer.generator_lr": 10.0**exponent, "optimizer.beta1": beta1}
            values = [4 * level, 2 * level, level + beta1]
            curves.append(curve({"loss.name": "hinge", **shared}, values))
            weight = {"loss.wasserstein.penalty_weight": 10.0}
            curves.append(curve({"loss.name": "wasserstein", **weight, **shared}, [500, 400, 300]))
    return record(tmp_path, *curves)


def record(folder: Path, *curves: Recorded, noise: tuple[Noise, ...] = ()) -> Recording:
    (folder / "space.yaml").write_text(SPACE)
    return Recording(load_space(folder / "space.yaml"), MILESTONES, curves, noise)


def searching(recording: Recording, seed: int = 0, trials: int | None = None, **how: Any) -> Raygen:
    study = variant(recording.study, seed, **how)
    if trials is not None:
        budget = study.spec.budget.model_copy(update={"trials": trials})
        study = study._replace(spec=study.spec.model_copy(update={"budget": budget}))
    return Raygen(study, recording.milestones)


class Watched:
    """Passes everything on, and notes what runs and what is said."""

    def __init__(self, method: Raygen) -> None:
        self.method, self.journal, self.milestones = method, method.journal, method.milestones
        self.live: set[int] = set()
        self.most = 0
        self.said: dict[int, list[Step]] = {}

    def suggest(self) -> tuple[int, Params] | None:
        job = self.method.suggest()
        if job is not None:
            self.live.add(job[0])
            self.most = max(self.most, len(self.live))
        return job

    def reported(self, number: int, step: Step) -> bool:
        assert number in self.live
        self.said.setdefault(number, []).append(step)
        stop = self.method.reported(number, step)
        if stop or step.last:
            self.live.remove(number)
        return stop

    def chosen(self) -> int | None:
        return self.method.chosen()


class Deaf(Watched):
    """Never stops a trial, as plain Ray does with one that broke."""

    def reported(self, number: int, step: Step) -> bool:
        return False


def test_a_recorded_configuration_has_its_own_curve(recording: Recording) -> None:
    surrogate = Surrogate(recording)

    for known in recording.curves:
        found = surrogate.forecast(known.params, MILESTONES)

        assert [step.value for step in found.steps] == pytest.approx(known.values)
        assert [step.seconds for step in found.steps] == pytest.approx(known.seconds)
        assert [step.sd for step in found.steps] == pytest.approx(known.sd)
        assert [step.last for step in found.steps] == [False, False, True]
        assert found.truth == pytest.approx(min(known.values))


def test_between_two_recorded_rates_the_curves_are_weighted_by_1_over_the_distance(
    tmp_path: Path,
) -> None:
    surrogate = Surrogate(record(tmp_path, hinge(1e-4, [8, 4, 2]), hinge(1e-2, [80, 40, 200])))

    # A quarter of the way from 1e-4 to 1e-2 by the logarithm: weights 3/4 and 1/4.
    found = surrogate.forecast({**HINGE, "optimizer.generator_lr": 10**-3.5}, MILESTONES)

    # By the logarithms of the distances from the ideal: the best is 2, the median 24.
    pairs, ideal = [(8, 80), (4, 40), (2, 200)], 2 - (24 - 2) / 2
    expected = [ideal + (a - ideal) ** 0.75 * (b - ideal) ** 0.25 for a, b in pairs]
    assert [step.value for step in found.steps] == pytest.approx(expected)


def test_neighbours_are_of_the_same_branch_as_long_as_there_are_any(recording: Recording) -> None:
    surrogate = Surrogate(recording, neighbours=len(recording.curves))
    asked = {"optimizer.generator_lr": 2.3e-3, "optimizer.beta1": 0.0, "loss.name": "wasserstein"}

    found = surrogate.forecast({**asked, "loss.wasserstein.penalty_weight": 3.0}, MILESTONES)

    assert found.truth == pytest.approx(300)


def test_a_milestone_between_two_recorded_ones_lies_between_their_values(tmp_path: Path) -> None:
    surrogate = Surrogate(record(tmp_path, hinge(1e-3, [100, 10, 1])))

    found = surrogate.forecast({**HINGE, "optimizer.generator_lr": 1e-3}, (math.sqrt(3), 9.0))

    # Half-way by log kimg: the geometric mean of the distances from the ideal, 1 - (10 - 1) / 2.
    assert found.steps[0].value == pytest.approx(math.sqrt(103.5 * 13.5) - 3.5)
    assert found.steps[0].seconds == pytest.approx(2 * math.sqrt(3))


def test_where_most_neighbours_broke_a_configuration_breaks_where_the_nearest_did(
    tmp_path: Path,
) -> None:
    lost = {"diverged": "loss is nan", "broke": True}
    curves = hinge(1e-3, [8], end=2.0, **lost), hinge(2e-3, [8, 8], end=5.0, **lost)
    recording = record(tmp_path, *curves, hinge(1e-4, [9, 9, 9]))

    steps = Surrogate(recording).forecast({**HINGE, "optimizer.generator_lr": 1.1e-3}, MILESTONES)

    assert [(step.kimg, step.broke) for step in steps.steps] == [
        (1.0, False), (2.0, True), (3.0, False), (9.0, False),
    ]  # fmt: skip
    assert [math.isnan(step.value) for step in steps.steps] == [False, True, True, True]
    assert [step.diverged for step in steps.steps] == [None, *["loss is nan"] * 3]


def test_a_collapse_keeps_its_last_value_for_whoever_does_not_stop_it(tmp_path: Path) -> None:
    collapse = "collapse: the objective rose"
    recording = record(tmp_path, hinge(1e-3, [8, 50], end=3.0, diverged=collapse))

    found = Surrogate(recording).forecast({**HINGE, "optimizer.generator_lr": 1e-3}, MILESTONES)

    assert [step.value for step in found.steps] == pytest.approx([8, 50, 50])
    assert [step.diverged for step in found.steps] == [None, collapse, collapse]
    assert found.truth == pytest.approx(8)


def test_without_a_scheduler_one_worker_spends_the_trials_times_the_budget(
    recording: Recording,
) -> None:
    method = searching(recording, trials=7, scheduler={"name": "none"})

    run = simulate(method, Surrogate(recording), math.inf, seed=0, workers=1, clock="kimg")

    assert run.spent[-1] == pytest.approx(7 * 9)
    assert run.clock == pytest.approx(7 * 9)
    assert (run.trials, run.completed, run.busiest) == (7, 7, 1)


@pytest.mark.parametrize("workers", [1, 3, 4])
def test_never_more_trials_run_than_there_are_workers(recording: Recording, workers: int) -> None:
    method = Watched(searching(recording))

    run = simulate(method, Surrogate(recording), 60, seed=0, workers=workers)

    assert method.most == run.busiest == workers


def test_four_workers_take_a_quarter_of_the_time_of_one(recording: Recording) -> None:
    clocks = {}
    for workers in (1, 4):
        method = searching(recording, trials=12, scheduler={"name": "none"})
        clocks[workers] = simulate(
            method, Surrogate(recording), math.inf, seed=0, workers=workers, clock="seconds"
        ).clock

    # Every recorded trial takes two seconds per kimg.
    assert clocks == pytest.approx({1: 12 * 18, 4: 3 * 18})


def test_the_journal_adds_up_to_the_compute(recording: Recording) -> None:
    method = searching(recording)

    run = simulate(method, Surrogate(recording), 90, seed=1)

    reached: dict[int, float] = {}
    for entry in method.journal.records:
        if isinstance(entry, Report):
            reached[entry.trial] = entry.kimg
    assert run.spent[-1] == pytest.approx(sum(reached.values()))
    assert 90 <= run.spent[-1] < 90 + 6  # it ends at the milestone that spends the last of it
    assert list(run.spent) == sorted(run.spent)


def test_the_real_scheduler_stops_trials_and_the_real_sampler_goes_where_it_is_good(
    recording: Recording,
) -> None:
    method = searching(recording)

    run = simulate(method, Surrogate(recording), 40 * 9, seed=0)

    ends = [entry.state for entry in method.journal.records if isinstance(entry, End)]
    assert {"stopped", "completed"} == set(ends)
    drawn = [entry for entry in method.journal.records if isinstance(entry, Suggest)]
    assert {entry.by for entry in drawn} == {"startup", "tpe"}
    late = [entry.params["loss.name"] for entry in drawn[len(drawn) // 2 :]]
    assert late.count("hinge") > 0.65 * len(late)  # half of them, if it knew nothing
    assert run.at(math.inf) < 13  # of 10 to 300


def test_a_run_follows_from_its_seed(recording: Recording) -> None:
    noise = Noise(np.zeros(3), np.array([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]))
    surrogate = Surrogate(recording._replace(noise=(noise,)))
    runs = [
        simulate(searching(recording, seed), surrogate, 90, seed=seed).truth for seed in (3, 3, 4)
    ]

    assert np.array_equal(runs[0], runs[1], equal_nan=True)
    assert not np.array_equal(runs[0], runs[2], equal_nan=True)


def test_noise_moves_what_is_reported_and_not_the_truth(tmp_path: Path) -> None:
    noise = Noise(np.zeros(3), np.array([[0.0, 0.5, 1.0]]))
    recording = record(tmp_path, hinge(1e-3, [8, 4, 2]), noise=(noise,))
    method = Watched(searching(recording, trials=1, scheduler={"name": "none"}))

    run = simulate(method, Surrogate(recording), math.inf, seed=0)

    expected = [8, 1 + 3 * math.exp(0.5), 1 + math.e]  # the ideal is 2 - (4 - 2) / 2
    assert [step.value for step in method.said[0]] == pytest.approx(expected)
    assert run.truth[-1] == pytest.approx(2)


def test_raygen_ends_a_broken_trial_at_once_and_others_pay_for_it_to_the_end(
    tmp_path: Path,
) -> None:
    broken = hinge(1e-3, [8], end=2.0, diverged="loss is nan", broke=True)
    recording = record(tmp_path, broken)
    spent, wasted, ends = {}, {}, []
    for kind in (Watched, Deaf):
        method = kind(searching(recording, trials=5, scheduler={"name": "none"}))
        run = simulate(method, Surrogate(recording), math.inf, seed=0)
        spent[kind], wasted[kind] = run.spent[-1], run.diverged
        assert run.completed == 0
        ends.append([e.state for e in method.journal.records if isinstance(e, End)])

    assert spent == wasted == pytest.approx({Watched: 5 * 2, Deaf: 5 * 9})
    assert ends == [["diverged"] * 5, []]


def test_what_is_recommended_is_judged_by_the_curve_of_its_configuration(
    recording: Recording,
) -> None:
    method = Watched(searching(recording, trials=6, scheduler={"name": "none"}))

    run = simulate(method, Surrogate(recording), math.inf, seed=2)

    # No noise: the best of the observed minima is the best of the true ones.
    minima = [min(step.value for step in steps) for steps in method.said.values()]
    assert run.truth[-1] == pytest.approx(min(minima))
    assert run.at(run.spent[-1]) == run.truth[-1]
    assert math.isnan(run.at(0.5))  # before the first milestone of any


def test_noise_is_that_of_configurations_that_were_about_as_good_at_the_milestone(
    tmp_path: Path,
) -> None:
    curves = {1e-4: [8, 4, 3], 1e-3: [8, 500, 50], 1e-2: [5e3, 500, 50]}
    plain = record(tmp_path, *(hinge(rate, values) for rate, values in curves.items()))
    scale = Surrogate(plain).scale
    quiet = Noise(scale.forward(np.array([8.5, 4.1, 3.2])), np.full((1, 3), 0.1))
    wild = Noise(scale.forward(np.array([9e3, 800.0, 70.0])), np.full((1, 3), 2.0))
    surrogate = Surrogate(plain._replace(noise=(*[quiet] * ALIKE, *[wild] * ALIKE)))
    shifts = []
    for rate, values in curves.items():
        params = {**HINGE, "optimizer.generator_lr": rate}
        noisy = [step.value for step in surrogate.forecast(params, MILESTONES, LUCK).steps]
        shifts.append(list(scale.forward(np.array(noisy)) - scale.forward(np.array(values))))

    assert np.array(shifts) == pytest.approx(np.array([[0.1] * 3, [0.1, 2.0, 2.0], [2.0] * 3]))


def test_the_noise_of_many_trials_spreads_as_that_of_the_seeds(tmp_path: Path) -> None:
    rows = np.linspace(-1, 1, 201)[:, None] * [0.1, 0.2, 0.4]
    plain = record(tmp_path, hinge(1e-3, [8, 4, 2]))
    scale = Surrogate(plain).scale
    noise = Noise(scale.forward(np.array([8.0, 4.0, 2.0])), rows)
    surrogate = Surrogate(plain._replace(noise=(noise,)))
    params = {**HINGE, "optimizer.generator_lr": 1e-3}
    found = [
        scale.forward(np.array([step.value for step in surrogate.forecast(*asked, luck).steps]))
        for asked, luck in (((params, MILESTONES), np.random.default_rng(n)) for n in range(2000))
    ]

    assert np.std(found, axis=0) == pytest.approx(rows.std(axis=0), rel=0.05)
    assert np.mean(found, axis=0) == pytest.approx(scale.forward(np.array([8, 4, 2])), abs=0.03)


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_persistence_is_1_where_luck_stays_0_where_it_turns_or_never_was(sign: int) -> None:
    luck = np.arange(7.0)[:, None]
    noise = [Noise(np.zeros(2), np.hstack([luck, sign * luck]))] if sign else []

    assert persistence(noise) == (0.99 if sign > 0 else 0.0)


def test_seed_noise_has_the_spread_of_the_seeds() -> None:
    random = np.random.default_rng(0)
    logs = random.normal(3.0, [0.1, 0.2, 0.4], size=(500, 15, 3))

    rows = np.concatenate([noise.rows for noise in seed_noise(list(np.exp(logs)), PLAIN)])

    assert rows.shape == (500 * 15, 3)
    assert rows.std(axis=0) == pytest.approx([0.1, 0.2, 0.4], rel=0.1)


def test_a_seed_that_went_wrong_makes_the_others_no_better() -> None:
    (noise,) = seed_noise([np.array([[5.0], [5.0], [5.0], [5.0], [50.0]])], PLAIN)

    assert np.exp(noise.curve) == pytest.approx([5.0])
    assert list(noise.rows[:4, 0]) == [0, 0, 0, 0]


def test_seed_noise_needs_two_seeds() -> None:
    assert seed_noise([np.ones((1, 3))], PLAIN) == ()


@pytest.mark.parametrize("minimise", [True, False])
@pytest.mark.parametrize("values", [[3.0, 9.0, 700.0], [-3.0, -9.0, -700.0], [0.0, 0.0, 0.0]])
def test_a_scale_goes_there_and_back_and_grows_with_what_is_worse(
    values: list[float], minimise: bool
) -> None:
    array = np.array([*values, math.nan])

    scale = DistanceScale.of(array, minimise)

    there = scale.forward(array)
    assert scale.back(there)[:3] == pytest.approx(values)
    worse = np.sign(np.diff(array[:3])) * (1 if minimise else -1)
    assert np.array_equal(np.sign(np.diff(there[:3])), worse)


def test_no_luck_makes_a_value_better_than_the_ideal() -> None:
    scale = DistanceScale.of(np.array([7.5, 8.0, 9.0]), minimise=True)

    assert scale.ideal == 7.25
    assert scale.back(scale.forward(np.array([7.6])) - 50) == pytest.approx([7.25])


def test_a_paired_difference_is_relative_and_knows_its_spread() -> None:
    assert paired([90, 180, math.nan], [100, 200, 1]) == pytest.approx((-0.1, -0.1, -0.1))
    ratio = paired([50, 200] * 20, [100, 100] * 20)
    error = math.log(2) / math.sqrt(40)  # of a mean of 40 logarithms at +-log 2 from it
    assert ratio.mean == pytest.approx(0.0)
    assert math.log1p(ratio.high) == pytest.approx(1.96 * error, rel=0.15)
    below = paired([-90, -120] * 20, [-100, -100] * 20)  # as of the ELBO
    assert below.mean == pytest.approx(-0.05)
    assert below.high - below.mean == pytest.approx(1.96 * 0.15 / math.sqrt(40), rel=0.15)


def test_merged_milestones_hold_each_place_once() -> None:
    assert merged((1.0, 3.0, 9.0), (0.5, 3.0000001, 6.0, 9.0)) == (0.5, 1.0, 3.0, 6.0, 9.0)


def folder_of(recording: Recording, folder: Path, trials: int, **how: Any) -> Path:
    """A study folder whose journal was written by a simulated search."""
    method = searching(recording, trials=trials, **how)
    simulate(method, Surrogate(recording), math.inf, seed=0)
    objective = {"metric": "fd_classifier", "direction": "minimize"}
    info = {"objective": objective, "milestones": MILESTONES, "rungs": MILESTONES}
    opened = {"kind": "open", "time": 0.0, "study": info}
    lines = [json.dumps(r) for r in (opened, *map(as_json, method.journal.records))]
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_study_is_read_back_as_it_was_recorded(recording: Recording, tmp_path: Path) -> None:
    noise = Noise(np.zeros(3), np.array([[0.1, 0.2, -0.3]]))
    recording = recording._replace(noise=(noise,))
    folder = folder_of(recording, tmp_path, 12, scheduler={"name": "none"})

    found = record_study(folder)

    assert found.milestones == MILESTONES
    assert len(found.curves) == 12
    surrogate = Surrogate(recording)
    for each in found.curves:
        expected = surrogate.forecast(each.params, MILESTONES, LUCK).steps
        assert each.values == pytest.approx([step.value for step in expected])
        assert each.seconds == pytest.approx([step.seconds for step in expected])
        assert each.sd == pytest.approx([step.sd for step in expected])


def test_a_diverged_trial_of_a_study_is_part_of_its_curves(tmp_path: Path) -> None:
    lost = {"diverged": "loss is nan", "broke": True}
    collapsed = {"diverged": "collapse: all samples are alike", "end": 3.0}
    curves = [hinge(10**-e, [9, 8, 7]) for e in (3.7, 3.8, 3.9, 4.0)]
    curves += [hinge(10**-e, [9], end=2.0, **lost) for e in (2.0, 2.1)]
    curves += [hinge(10**-e, [9, 20], **collapsed) for e in (2.9, 3.0, 3.1)]
    folder = folder_of(record(tmp_path, *curves), tmp_path, 40, scheduler={"name": "none"})

    found = record_study(folder).curves

    ends = {(each.diverged, each.broke, each.end, np.isfinite(each.values).sum()) for each in found}
    # Where it broke is known to lie before the next milestone only.
    broken, collapse = ("loss is nan", True, 3.0, 1), (collapsed["diverged"], False, 3.0, 2)
    assert ends == {("", False, 9.0, 3), broken, collapse}


def test_too_few_complete_curves_are_refused_with_what_to_do(
    recording: Recording, tmp_path: Path
) -> None:
    folder = folder_of(recording, tmp_path, 14, scheduler={"name": "asha", "grace_kimg": 1.0})

    with pytest.raises(InputError, match=r"complete curves.*--set scheduler.name=none"):
        record_study(folder)


def test_a_study_is_compared_with_other_schedulers_and_samplers(
    recording: Recording, tmp_path: Path
) -> None:
    folder = folder_of(recording, tmp_path, 12, scheduler={"name": "none"})
    heard: list[str] = []

    table = compare(folder, 2, heard.append)

    assert list(table["variant"]) == heard
    assert heard[0] == "as searched: tpe, asha"
    assert {"grace 1/9, eta 2", "grace 1/3, eta 3", "curve, promotion"} < set(heard)
    assert "grace 1/27, eta 3" not in heard  # nothing was measured so early
    assert "gp, asha" not in heard  # it cannot search branches
    own = table.iloc[0]
    assert (own["difference"], own["difference_low"], own["difference_high"]) == (0, 0, 0)
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    full = table[table["variant"] == "tpe, none"]
    assert (full["trials"] >= full["completed"]).all()
    assert (full["completed"] >= 12).all()
