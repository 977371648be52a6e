"""What the page says in words."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from raygen.data.pictures import save_grid
from raygen.posterior import difference
from raygen.report.charts.finalists import full_measurements_html
from raygen.report.charts.importance import EVIDENT, importance_sentence, importance_table
from raygen.report.contrast import unpaired
from raygen.report.embedded_pictures import variation
from raygen.report.findings import findings, judge_study
from raygen.report.gains import gain
from raygen.report.header import study_facts
from raygen.report.health_checks import health
from raygen.report.verdict import verdict_lead, verdict_section
from raygen.results import Results, best_model
from raygen.status import status, status_text
from raygen.training.health import spread
from report.journals import (
    START,
    at,
    checkpoint,
    collect,
    end,
    finals,
    replicate,
    report,
    suggest,
)

Make = Callable[..., Results]
WIDTH = [{"name": "width", "kind": "int", "low": 16, "high": 64, "log": False, "choices": None}]


def trials(values: list[float], state: str = "completed", width: int = 30) -> list[dict]:
    records = []
    for trial, value in enumerate(values):
        records += [*suggest(trial, {"width": width + trial}), report(trial, 16, value)]
        records += [end(trial, state, "why" if state != "completed" else "")]
    return records


def said(study: Results) -> str:
    """Every finding and every health check."""
    found = [*findings(study), *health(study)]
    return " ".join(f"{each.text} {each.action}" for each in found)


def test_the_gain_is_measured_against_the_starting_point_and_the_median(make_study: Make) -> None:
    found = judge_study(make_study(trials([8, 6, 2])))

    assert found is not None
    assert (found.trial, found.value, found.median) == (2, 2, 6)
    assert found.gain is not None
    assert (found.rival, found.gain.value, found.gain.other, found.gain.seeds) == (0, 2, 8, 0)
    assert not found.provisional


def test_without_a_completed_trial_the_best_is_provisional(make_study: Make) -> None:
    found = judge_study(make_study(trials([8, 6], "stopped")))

    assert found is not None
    assert found.provisional


@pytest.mark.parametrize(
    ("direction", "value", "other", "words"),
    [
        ("minimize", 2.0, 8.0, "75% lower"),
        ("minimize", 8.0, 2.0, "300% worse"),
        ("maximize", -800.0, -900.0, "100 higher"),
        ("maximize", 0.6, 0.5, "20% higher"),
        ("minimize", 5.0, 5.0, "no difference"),
    ],
)
def test_a_gain_is_said_with_its_direction(
    make_study: Make, direction: str, value: float, other: float, words: str
) -> None:
    study = make_study([], objective={"metric": "m", "direction": direction})

    assert gain(study, value, other) == words


def test_a_best_value_on_the_bound_asks_for_a_wider_range(make_study: Make) -> None:
    study = make_study(trials([9, 8, 7], width=62), parameters=WIDTH)

    assert "width = 64 (upper end of 16 to 64)" in said(study)
    assert "Widen this range" in said(study)


def test_a_count_of_one_is_no_edge_that_could_be_moved(make_study: Make) -> None:
    steps = [{**WIDTH[0], "name": "width", "low": 1, "high": 5}]

    assert "Widen" not in said(make_study(trials([9, 8, 7], width=-1), parameters=steps))


def test_a_best_value_inside_asks_for_nothing(make_study: Make) -> None:
    assert "Widen" not in said(make_study(trials([9, 8, 7]), parameters=WIDTH))


def test_failures_are_told_with_their_reason(make_study: Make) -> None:
    study = make_study(trials([1, 2], "out_of_memory"))

    assert "100% of the trials gave no usable result: 2 out of memory (mostly: why)" in said(study)


def test_one_seed_per_configuration_is_a_warning_and_a_repeat_is_not(make_study: Make) -> None:
    assert "one seed" in said(make_study(trials([3, 2, 1])))
    records = []
    for trial in range(2):
        records += [*suggest(trial, {"width": 16}), report(trial, 16, 1.0), end(trial)]
    assert "one seed" not in said(make_study(records, folder="again"))


def again(*values: float, of: int, first: int) -> list[dict]:
    """Replicates of a finalist, numbered from `first`."""
    made = [replicate(first + place, of, value) for place, value in enumerate(values)]
    return [record for records in made for record in records]


def test_the_verdict_is_on_other_seeds_once_there_are_any(make_study: Make) -> None:
    records = [*trials([8, 2, 3]), finals(1, 2)]
    records += [*again(6, 8, of=1, first=10), *again(4, 6, of=2, first=20)]
    answer = judge_study(make_study(records))

    assert answer is not None
    assert (answer.trial, answer.value, answer.seeds, answer.single) == (2, 5, 2, 3)
    # Deviation sqrt(2) of each, 2 degrees of freedom (4.303), two values of each.
    assert answer.high - answer.value == pytest.approx(4.303, abs=1e-3)
    assert list(answer.tied) == [2, 1]
    # The default has no other seeds, so one seed of each is compared: what the search saw.
    assert answer.gain is not None
    assert (answer.gain.value, answer.gain.other, answer.gain.seeds) == (3, 8, 0)
    assert math.isnan(answer.median)


def test_a_finalist_that_is_the_default_is_compared_by_its_other_seeds(make_study: Make) -> None:
    records = [*trials([2, 3]), finals(0, 1), *again(9, of=0, first=10), *again(4, of=1, first=20)]
    answer = judge_study(make_study(records))

    assert answer is not None
    assert answer.trial == 1
    assert answer.gain is not None
    assert (answer.gain.value, answer.gain.other) == (4, 9)


def test_a_difference_to_the_default_has_an_interval_by_the_scatter_of_all_finalists(
    make_study: Make,
) -> None:
    records = [*trials([2, 3]), finals(0, 1)]
    records += [*again(9, 12, 15, of=0, first=10), *again(4, 8, 9, of=1, first=20)]
    answer = judge_study(make_study(records))

    assert answer is not None
    assert answer.gain is not None
    values = {0: [9.0, 12.0, 15.0], 1: [4.0, 8.0, 9.0]}
    assert (answer.gain.low, answer.gain.high) == difference(values, 1, 0)
    assert answer.gain.certain == (answer.gain.high < 0)


@pytest.mark.parametrize(
    ("values", "headline", "words"),
    [
        ((4.0, 8.0, 9.0), "no clear gain", "with no clear gain over the starting point"),
        ((1.0, 1.1, 1.2), "91% lower", "91% lower than the starting point"),
    ],
)
def test_a_gain_whose_interval_includes_0_is_no_headline(
    make_study: Make, values: tuple[float, ...], headline: str, words: str
) -> None:
    records = [*trials([2, 3]), finals(0, 1)]
    records += [*again(9, 12, 15, of=0, first=10), *again(*values, of=1, first=20)]
    study = make_study(records)
    answer = judge_study(study)

    assert answer is not None
    assert answer.gain is not None
    assert answer.gain.certain == (headline != "no clear gain")
    assert f"<strong>{headline}</strong>" in verdict_section(study)[1]
    assert words in verdict_lead(study, answer)


def test_a_gain_of_one_seed_each_may_be_chance(make_study: Make) -> None:
    assert "one seed each, so it may be chance" in verdict_section(make_study(trials([8, 6])))[1]


def test_the_result_stands_beside_the_values_that_trials_began_with(make_study: Make) -> None:
    records = [record for t, first in enumerate((300.0, 500.0, 900.0)) for record in
               (*suggest(t, {"width": 30 + t}), report(t, 2, first), report(t, 16, 90.0 + t),
                end(t))]  # fmt: skip

    assert (
        "0 is best; at 2 kimg the median of 3 trials was 500"
        in verdict_section(make_study(records))[1]
    )
    # With fewer samples at first, a Fréchet distance is higher: these do not compare.
    grows = make_study(records, "grows", evaluation={"samples": 900, "first_samples": 400})
    assert "median" not in verdict_section(grows)[1]


def test_terms_are_explained_once(make_study: Make) -> None:
    text = verdict_section(make_study(trials([8, 6])))[1]

    assert text.count("thousands of real images") == 1
    assert text.count("a small classifier that raygen trains on this data set") == 1


def test_more_training_than_the_clock_shows_comes_from_trials_at_once(make_study: Make) -> None:
    together = [*trials([8]), *suggest(1, {"width": 16}), report(1, 16, 6.0), *at(24, end(1))]
    together[3]["time"] = START + 24  # trial 0 ends with trial 1
    in_turn = [*trials([8])[:-1], *at(24, end(0), *suggest(1, {"width": 16})), *at(48, end(1))]

    assert "up to 2 trials at once" in verdict_section(make_study(together))[1]
    assert "at once" not in verdict_section(make_study(in_turn, "in turn"))[1]


def test_seeds_that_differ_are_compared_without_equal_variances() -> None:
    sample, other = [4.0, 8.0, 9.0, 3.0], [9.0, 12.0, 15.0]
    theirs = stats.ttest_ind(sample, other, equal_var=False).confidence_interval(0.95)
    low, high = unpaired(sample, other)

    # Whole degrees of freedom, rounded down: never narrower than scipy's interval.
    assert low <= theirs.low
    assert high >= theirs.high
    assert (low + high) / 2 == pytest.approx(np.mean(sample) - np.mean(other))


def drawn(trial: int, value: float, variation: float | None) -> list[dict]:
    """A completed trial whose samples vary by a share of real images."""
    record = report(trial, 16, value) | {"variation": variation}
    return [*suggest(trial, {"width": 30 + trial}), record, end(trial)]


def test_a_varied_trial_ranks_before_a_collapsed_one_and_only_those_are_no_model(
    make_study: Make,
) -> None:
    mixed = judge_study(make_study([*drawn(0, 900.0, 0.01), *drawn(1, 950.0, 0.6)]))
    assert mixed is not None
    assert (mixed.trial, mixed.failed) == (1, "")
    assert mixed.model is not None
    assert mixed.model.run == 1

    study = make_study([*drawn(0, 900.0, 0.01), *drawn(1, 950.0, 0.002)], folder="broken")
    broken = judge_study(study)
    text = verdict_lead(study, broken)

    assert text.startswith(
        "Do not use the best trial: trial 0 draws one image: its samples vary 1.0%"
    )
    assert "lower the range of" in text
    (check,) = (check for check in health(study) if check.name == "Collapse")
    assert check.state == "warn"
    assert "2 trials collapsed: trial 0 draws one image" in check.text


def test_pictures_are_judged_where_the_journal_says_nothing_of_them(make_study: Make) -> None:
    study = make_study([*drawn(0, 900.0, None)])
    red = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    red[:, 0] = 200
    random = torch.Generator().manual_seed(0)
    real = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=random)
    save_grid(real, study.folder.real)
    save_grid(red, study.folder.trial(0).samples(16))

    answer = judge_study(study)

    assert answer is not None
    assert answer.failed == "draws one image: its samples vary 0.0% as much as real ones"
    # The same share as training has it.
    half = (real // 2).byte()
    save_grid(half, study.folder.trial(0).samples(16))
    assert variation(study, 0, 16.0) == pytest.approx(spread(half) / spread(real))


def test_a_vae_worse_than_knowing_nothing_is_not_recommended(make_study: Make) -> None:
    bits = {"metric": "bits_per_dim", "direction": "minimize"}
    record = report(0, 16, 1.8e9, metric="bits_per_dim")
    study = make_study(
        [*suggest(0, {"width": 30}), record, end(0)],
        objective=bits,
        family="vae",
        objectives=[bits],
    )

    assert "is no better than a model that knows nothing (8)" in verdict_lead(
        study, judge_study(study)
    )


def test_the_model_to_use_is_the_best_checkpoint_of_all_seeds_and_its_fresh_value_is_told(
    make_study: Make,
) -> None:
    records = [*trials([8, 2, 3]), finals(1, 2)]
    records += [*again(6, 8, of=1, first=10), *again(1.5, 6, of=2, first=20)]
    value = {"value": 2.5, "sd": 0.1, "spread": None, "each": [2.4, 2.6]}
    full = {"kind": "final", "trial": 20, "values": {"fd_classifier": value}, "time": START}
    study = make_study([*records, full | {"protocols": {"fd_classifier": "ff"}}])

    answer = judge_study(study)

    assert answer is not None
    assert (answer.trial, answer.model.run, answer.model.trial) == (2, 20, 2)  # pyright: ignore
    text = verdict_lead(study, answer)
    assert "The best model, of trial 2, has Fréchet distance 2.5 on new samples." in text
    card = verdict_section(study)[1]
    assert "trials/0020/best.pt (trial 2, retrained with seed 120)" in card
    assert "<span>Result</span><strong>2.5</strong>" in card


def test_why_a_model_was_not_measured_against_test_images_is_said_wherever_it_was_measured(
    make_study: Make,
) -> None:
    reason = "fd_classifier_test needs 353 or more real images, few has 12 test images; give more"
    value = {"value": 2.5, "sd": 0.1, "spread": None, "each": [2.4, 2.6]}
    full = {"kind": "final", "trial": 1, "values": {"fd_classifier": value}, "time": START}
    full["protocols"] = {"fd_classifier": "ff"}
    left_out = {"fd_classifier_test": reason}
    study = make_study([*trials([8, 2, 3]), finals(1), full], left_out=left_out)

    assert f"Not against test images: {reason}" in verdict_section(study)[1]
    assert f"Not measured: {reason}" in full_measurements_html(study)
    assert f"not measured: {reason}" in status_text(status(study.folder.root))


def test_a_deleted_checkpoint_is_no_model(make_study: Make) -> None:
    study = make_study([*trials([8, 2, 3]), collect(1, "best", 10)])
    model = best_model(study)

    assert model is not None
    assert model.run == 2


@pytest.mark.parametrize("name", ["recall_classifier", "coverage_classifier"])
def test_a_model_that_covers_next_to_nothing_is_told_of(make_study: Make, name: str) -> None:
    values = {name: {"value": 0.004, "sd": 0.0, "spread": None, "each": [0.004]}}
    full = {"kind": "final", "trial": 0, "values": values, "protocols": {name: "f"}, "time": START}

    assert "covers only part of the data" in said(make_study([*trials([8]), full]))


def test_a_recall_of_next_to_nothing_during_training_is_told_of_without_another(
    make_study: Make,
) -> None:
    def covering(recall: float) -> list[dict]:
        measured = report(0, 16, 8.0, recall_classifier=recall)
        return [*suggest(0, {"width": 16}), measured, end(0)]

    assert "only part of the data: recall 0.004" in said(make_study(covering(0.004)))
    assert "part of the data" not in said(make_study(covering(0.4), "whole"))


def test_no_setting_stands_out_where_every_interval_reaches_zero(make_study: Make) -> None:
    random = np.random.default_rng(3)
    records = []
    for trial in range(10):
        config = {"width": int(random.integers(16, 64)), "depth": int(random.integers(1, 9))}
        value = float(random.uniform(1, 9))
        records += [*suggest(trial, config), report(trial, 16, value), end(trial)]
    depth = {**WIDTH[0], "name": "depth", "low": 1, "high": 8}
    study = make_study(records, parameters=[*WIDTH, depth])

    assert (importance_table(study)["low"] < EVIDENT).all()
    assert "matter" not in said(study)
    assert "No setting clearly separated good from bad:" in importance_sentence(study)[0]
    assert "so far" not in importance_sentence(study)[0]


def test_one_seed_is_what_a_verdict_rests_on_without_replicates(make_study: Make) -> None:
    found = judge_study(make_study(trials([8, 6, 2])))

    assert found is not None
    assert (found.seeds, found.single) == (0, 2)
    assert math.isnan(found.low)


def test_how_far_the_search_flattered_is_told(make_study: Make) -> None:
    records = [*trials([4, 2]), finals(1, 0)]
    records += [*again(4, 4.5, of=1, first=10), *again(7, 7.5, of=0, first=20)]
    text = said(make_study(records, finalists={"count": 2, "seeds": 2, "confidence": 0.95}))

    assert "the 2 finalists are on average 92% worse than in the search" in text
    assert "one seed" not in text


def test_an_order_that_is_not_settled_asks_for_more_seeds(make_study: Make) -> None:
    records = [*trials([4, 2]), finals(1, 0)]
    records += [*again(4, 8, of=1, first=10), *again(5, 7.5, of=0, first=20)]

    assert "More seeds" in said(make_study(records))


def test_a_grace_period_that_is_too_short_is_a_warning_with_a_better_one(make_study: Make) -> None:
    records = []
    for trial in range(8):
        values = zip((2, 6, 16), (30.0 - trial, 10.0 + trial, 1.0 + trial), strict=True)
        reports = [report(trial, kimg, value) for kimg, value in values]
        records += [*suggest(trial, {"width": 20 + trial}), *reports, end(trial)]
    text = said(make_study(records))

    assert "The grace period is too short" in text
    assert "--set scheduler.grace_kimg=6" in text


def test_deleted_checkpoints_are_counted_with_what_they_freed(make_study: Make) -> None:
    records = [*trials([1]), checkpoint(0, 16, "last"), collect(0, "last", 3_000_000)]

    assert "1 checkpoint of ended trials deleted to save 3 MB" in study_facts(make_study(records))


def known(**samples: int) -> list[dict]:
    """Records of protocols by their hash."""
    record = {"metric": "fd_classifier"}
    return [
        {"kind": "protocol", "hash": key, "record": {**record, "samples": n}, "time": START}
        for key, n in samples.items()
    ]


def test_finalists_measured_in_full_are_no_second_protocol_of_the_search(make_study: Make) -> None:
    value = {"value": 7.5, "sd": 0.1, "spread": None, "each": [7.4, 7.6]}
    full = {"kind": "final", "trial": 0, "values": {"fd_classifier": value}, "time": START}
    full |= {"protocols": {"fd_classifier": "ff00ff00"}}

    text = said(make_study([*known(ab12cd34=1000, ff00ff00=2000), *trials([8]), full]))

    assert "in the search share one protocol (ab12cd34)" in text
    assert "not comparable" not in text


@pytest.mark.parametrize(("last", "fair"), [(1000, True), (500, False)])
def test_more_samples_from_rung_to_rung_are_no_mixture_but_two_ways_of_one_number_are(
    make_study: Make, last: int, fair: bool
) -> None:
    records = [*known(aa=500, bb=last), *trials([8])]
    text = said(make_study(records, evaluation={"samples": 1000, "first_samples": 500}))

    assert ("later rungs use more samples (aa, bb)" in text) == fair
    assert ("2 protocols (aa, bb)" in text) != fair


def test_values_under_two_protocols_are_a_warning(make_study: Make) -> None:
    protocols = {key: {"metric": "fd_classifier"} for key in ("aa", "bb")}

    assert "2 protocols (aa, bb)" in said(make_study(trials([1]), protocols=protocols))


def test_an_empty_study_has_no_findings(make_study: Make) -> None:
    assert findings(make_study([])) == []
