"""Schedules against their closed forms, in files, in spaces, and out of bounds."""

import math
from pathlib import Path
from typing import Any

import pytest

from raygen.config_file import a_draw, load_space, load_train_job
from raygen.errors import InputError
from raygen.schedules import Schedule, value_at
from raygen.trial import GanTrial, VaeTrial, parse_trial

SPACE = """
family: gan
data: {{source: shapes}}
objective: fd_classifier
budget: {{trials: 2, kimg: 1}}
space:
  optimizer:
    generator_lr: {rate}
"""


def schedule(**settings: Any) -> Schedule:
    return Schedule.model_validate({key.rstrip("_"): value for key, value in settings.items()})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.15, 0.3, 0.7, 1.0])
def test_every_schedule_follows_its_closed_form_and_then_stays(share: float) -> None:
    u = min(1.0, share / 0.3)
    ends: dict[str, Any] = {"from_": 2e-4, "to": 5e-5, "over": 0.3}

    assert schedule(schedule="linear", **ends).at(share) == pytest.approx(2e-4 - 1.5e-4 * u)
    assert schedule(schedule="cosine", **ends).at(share) == pytest.approx(
        5e-5 + 1.5e-4 * math.cos(math.pi * u / 2) ** 2
    )
    assert schedule(schedule="constant", **ends).at(share) == 2e-4
    rising = schedule(schedule="warmup", to=0.5)
    assert rising.at(share) == pytest.approx(0.5 * min(1.0, share / 0.05))
    burn_in = schedule(schedule="burn_in", from_=0.9, to=0.99)
    assert burn_in.at(share) == schedule(schedule="cosine", from_=0.9, to=0.99, over=0.1).at(share)
    assert value_at(0.25, share) == 0.25


def test_ends_are_met_exactly() -> None:
    for kind in ("linear", "cosine", "burn_in"):
        moving = schedule(schedule=kind, from_=0.1, to=0.3)
        assert (moving.at(0), moving.at(1)) == (0.1, 0.3)


def test_a_trial_with_schedules_is_the_same_after_it_was_written_and_read() -> None:
    moving = {"schedule": "cosine", "from": 0.05, "to": 0.005, "over": 0.25}
    gan = GanTrial.model_validate({
        "loss": {"penalty": "r1", "penalty_weight": moving},
        "optimizer": {"beta2": {"schedule": "burn_in", "from": 0.9, "to": 0.99}},
        "ema": {"half_life_kimg": {"schedule": "linear", "from": 0, "to": 500}},
        "augment": "blit", "augment_p": {"schedule": "warmup", "to": 0.55},
    })  # fmt: skip
    vae = VaeTrial.model_validate({
        "loss": {"beta": {"schedule": "warmup", "to": 1}, "free_bits": moving},
        "optimizer": {"lr": moving},
    })  # fmt: skip

    for trial in (gan, vae):
        assert parse_trial(trial.model_dump()) == parse_trial(trial.model_dump(mode="json"))
        assert parse_trial(trial.model_dump()) == trial
    assert gan.model_dump()["loss"]["penalty_weight"] == moving


@pytest.mark.parametrize(
    ("rate", "place", "rule"),
    [
        ("{schedule: cosin, from: 1e-3, to: 0}", "generator_lr.schedule: 'cosin'", "'cosine'"),
        ("{schedule: cosine, from: 1e-3}", "generator_lr.to", "is required"),
        ("{schedule: cosine, from: -1e-3, to: 0}", "generator_lr.from: -0.001", "at least 0"),
        ("{schedule: cosine, form: 1e-3, to: 0}", "generator_lr.form", "did you mean 'from'"),
        ("{schedule: linear, from: 1e-3, to: 0, over: 2}", "generator_lr.over: 2", "at most 1"),
        ("{schedule: [cosine], from: 1e-3, to: 0}", "generator_lr.schedule", "choose from burn_in"),
        ("{schedule: {a: b}, from: 1e-3, to: 0}", "generator_lr.schedule", "linear, steps, warmup"),
        ("{schedule: steps, from: 1e-3, to: 0}", "generator_lr.values", "is required"),
        ("{schedule: warmup}", "generator_lr.to", "the value that warmup ends at"),
        ("{schedule: linear, to: 0}", "generator_lr.from", "the value that linear begins at"),
        ("{schedule: constant, from: 1e-3, to: 0}", "generator_lr.to: 0", "leave it out"),
        ("{schedule: constant, from: 1e-3, over: 1}", "generator_lr.over: 1", "leave it out"),
        ("0", "generator_lr: 0", "above 0"),
    ],
)
def test_a_mistake_in_a_schedule_is_named_with_its_place(
    tmp_path: Path, rate: str, place: str, rule: str
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE.format(rate=rate))

    with pytest.raises(InputError) as refusal:
        load_space(file)

    assert str(refusal.value).startswith(f"{file}:8:")
    assert place in str(refusal.value)
    assert rule in str(refusal.value)
    assert "Traceback" not in str(refusal.value)


def test_what_stands_in_a_schedule_is_searched_like_any_other_setting(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        SPACE.format(
            rate="{schedule: {choice: [constant, cosine]}, from: {float: [1e-4, 1e-2], log: true},"
            " to: 0.0, over: {float: [0.2, 1.0]}}"
        )
    )
    study = load_space(file)
    names = [parameter.name for parameter in study.parameters]
    trial = study.trial(a_draw(study))

    assert names == [f"optimizer.generator_lr.{key}" for key in ("schedule", "from", "over")]
    assert isinstance(trial, GanTrial)
    assert isinstance(trial.optimizer.generator_lr, Schedule)
    assert 1e-4 <= trial.optimizer.generator_lr.start <= 1e-2


@pytest.mark.parametrize(
    ("rate", "line"),
    [
        ("true", "generator_lr: True: must be a number"),
        ("{schedule: linear, from: true, to: 0}", "generator_lr.from: True: must be a number"),
        (
            "{schedule: steps, values: [1e-3, true], at: [0.5]}",
            "generator_lr.values.1: True: must be a number",
        ),
        (
            "{schedule: {choice: [linear, steps]}, to: 0, from: 1, values: [1, 2], at: [0.5]}",
            "generator_lr.values: does not go with the settings beside it",
        ),
    ],
)
def test_switches_and_settings_of_two_kinds_at_once_are_refused_where_they_stand(
    tmp_path: Path, rate: str, line: str
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE.format(rate=rate), encoding="utf-8")

    with pytest.raises(InputError, match=f"space.yaml:8:[0-9]+: space.optimizer.{line}"):
        load_space(file)


def test_a_probability_that_adapts_and_follows_a_schedule_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    adapting = (
        "1e-3\n  augment: color\n  augment_p: {target: 0.5, schedule: linear, from: 0, to: 1}"
    )
    file.write_text(SPACE.format(rate=adapting), encoding="utf-8")

    with pytest.raises(InputError, match=r"augment_p.schedule: 'linear': does not go with"):
        load_space(file)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"optimizer": {"decay": "linear", "generator_lr": {"schedule": "warmup", "to": 1}}},
         "give a rate a schedule or all rates a decay"),
        ({"optimizer": {"weight_decay": 0.1}}, "is a setting of adamw and muon"),
        ({"optimizer": {"momentum": 0.5}}, "is a setting of muon"),
        ({"augment_p": 0.5}, "needs an augment"),
        ({"model": {"name": "style_gan", "minibatch_std": 32}, "batch_size": 48}, "do not divide"),
        ({"augment": "blit", "augment_p": {"target": 2}}, "less than 1"),
        ({"augment": "blit", "augment_p": 1.5}, "less than or equal to 1"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        GanTrial.model_validate(settings)


def test_the_betas_of_adamax_and_a_beta_with_two_rises_are_refused() -> None:
    with pytest.raises(ValueError, match="adamax cannot follow a schedule"):
        VaeTrial.model_validate(
            {"optimizer": {"name": "adamax", "beta1": {"schedule": "warmup", "to": 0.9}}}
        )
    with pytest.raises(ValueError, match="a schedule or a warmup_kimg"):
        VaeTrial.model_validate(
            {"loss": {"warmup_kimg": 1, "beta": {"schedule": "warmup", "to": 1}}}
        )


def test_a_configuration_with_a_schedule_is_read_by_train(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "family: vae\ndata: {source: shapes}\nobjective: elbo\nkimg: 1\n"
        "trial: {loss: {beta: {schedule: warmup, to: 1.0, over: 0.2}}}\n"
    )
    trial = load_train_job(file).trial

    assert isinstance(trial, VaeTrial)
    assert trial.loss.weight(0, share=0.1) == pytest.approx(0.5)


def test_a_schedule_where_none_is_taken_and_a_number_where_one_is_are_explained(
    tmp_path: Path,
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        SPACE.format(rate="{float: [1e-4, 1e-3]}") + "  batch_size: {schedule: warmup}\n"
    )
    with pytest.raises(InputError, match="takes no schedule"):
        load_space(file)
    moving = "{schedule: {choice: [constant, cosine]}, from: {float: [1e-4, 1e-2]}, to: 0}"
    file.write_text(SPACE.format(rate=moving) + "start: [{optimizer: {generator_lr: 1e-3}}]\n")
    with pytest.raises(InputError, match=r"is \{schedule: constant, from: 0.001\} in this space"):
        load_space(file)
