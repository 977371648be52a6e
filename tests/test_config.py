"""Studies and training jobs: every mistake in one line with its place, and what a study derives."""

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from raygen.config import StudySpec, with_extra
from raygen.config_file import load_space, load_train_job
from raygen.document import dump, flatten
from raygen.errors import InputError, RaygenError
from raygen.metrics import METRICS
from raygen.trial import TRIALS, GanTrial, VaeTrial, parse_trial

GAN = """\
family: gan
data: {source: shapes}
objective: fd_classifier
evaluation: {samples: 900}
budget: {trials: 4, kimg: 18}
space:
  model: {width: {int: [8, 24], step: 8}}
  loss:
    one_of:
      hinge: {}
      wasserstein: {penalty: gradient_penalty, penalty_weight: {float: [1, 30]}}
  optimizer: {generator_lr: {float: [1e-4, 1e-2], log: true}}
  batch_size: {choice: [32, 64]}
start:
  - loss: {name: hinge}
    batch_size: 64
"""
VAE = """\
family: vae
objective: elbo
budget: {kimg: 10}
space:
  model: {latent_dim: {choice: [16, 32]}}
  loss: {beta: {float: [0.1, 4], log: true}}
"""
TRAIN = """\
family: gan
data: {source: shapes}
objective: fd_classifier
kimg: 2
trial:
  model: {name: dcgan, width: 8}
  loss: {name: hinge}
  batch_size: 32
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} must stand once"
    return text.replace(old, new)


def refusal(folder: Path, text: str, *overrides: str) -> list[str]:
    """The lines of the error, with the folder taken off."""
    with pytest.raises(InputError) as caught:
        load_space(write(folder, text), overrides)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def place_of(text: str, word: str) -> str:
    """ "line:col" of a word that stands once."""
    assert text.count(word) == 1, f"{word!r} must stand once"
    before = text[: text.index(word)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def test_a_good_study_is_read_whole(tmp_path: Path) -> None:
    study = load_space(write(tmp_path, GAN))

    assert study.spec.budget.trials == 4
    assert [p.name for p in study.parameters] == [
        "model.width", "loss.name", "loss.wasserstein.penalty_weight",
        "optimizer.generator_lr", "batch_size",
    ]  # fmt: skip
    assert study.start == ({"loss.name": "hinge", "batch_size": 64},)


def test_both_families_turn_a_draw_into_their_own_trial(tmp_path: Path) -> None:
    assert isinstance(load_space(write(tmp_path, GAN)).trial({"batch_size": 32}), GanTrial)
    assert isinstance(load_space(write(tmp_path, VAE)).trial({"batch_size": 32}), VaeTrial)


@pytest.mark.parametrize(
    ("old", "new", "path", "said"),
    [
        ("budget: {", "budgte: {", "budgte", "did you mean 'budget'?"),
        ("trials: 4", "trails: 4", "budget.trails: 4", "did you mean 'trials'?"),
        ("start:", "strat:", "strat", "did you mean 'start'?"),
        ("space:", "spcae:", "spcae", "did you mean 'space'?"),
        ("samples: 900", "smaples: 300", "evaluation.smaples: 300", "did you mean 'samples'?"),
        ("source: shapes", "source: shape", "data.source: 'shape'", "did you mean 'shapes'?"),
        ("family: gan", "family: gann", "family: 'gann'", "own; did you mean 'gan'?"),
        ("objective: fd_classifier", "objective: fd_clasifier",
         "objective: 'fd_clasifier'", "did you mean 'fd_classifier'?"),
        ("trials: 4", "trials: 0", "budget.trials: 0", "must be above 0"),
        ("trials: 4", "trials: four", "budget.trials: 'four'", "must be a whole number"),
        ("kimg: 18", "kimg: -1", "budget.kimg: -1", "must be at least 0.001"),
        ("kimg: 18", "kimg: .inf", "budget.kimg: '.inf'", ""),
        ("kimg: 18", "kimg: 1e999", "budget.kimg: inf", "finite"),
        ("samples: 900", "samples: 3", "evaluation.samples: 3", "must be at least 16"),
        ("  model: {width", "  modle: {width", "space.modle", "did you mean 'model'?"),
        ("{width: {int", "{widht: {int", "space.model.widht", "did you mean 'width'?"),
        ("{width: {int", "{name: dcgn, width: {int", "space.model.name: 'dcgn'",
         "choose from dcgan, sngan, biggan, r3gan, style_gan; did you mean 'dcgan'?"),
        ("{width: {int", "{width: {itn", "space.model.width", "did you mean 'int'?"),
        ("      hinge: {}", "      hing: {}", "space.loss.one_of.hing", "did you mean 'hinge'?"),
        ("penalty: grad", "penalti: grad", "space.loss.one_of.wasserstein.penalti", "penalty"),
        ("penalty: gradient_penalty", "penalty: gradient_penalti",
         "space.loss.one_of.wasserstein.penalty: 'gradient_penalti'", "did you mean 'gradient_pen"),
        ("[1e-4, 1e-2]", "[1e-4, low]", "space.optimizer.generator_lr.float.1: 'low'", "float"),
        ("int: [8, 24]", "int: [-8, 24]", "space.model.width: -8", "must be"),
        ("{float: [1e-4", "{flaot: [1e-4", "space.optimizer.generator_lr", "mean 'float'?"),
        ("{float: [1e-4, 1e-2], log: true}", "{type: float, low: 1e-4, high: 1e-2}",
         "space.optimizer.generator_lr", "or a parameter such as {float: [low, high]}"),
        ("{float: [1e-4, 1e-2], log: true}", "{loguniform: [1e-4, 1e-2]}",
         "space.optimizer.generator_lr", "or a parameter such as {float: [low, high]}"),
        ("{float: [1e-4, 1e-2], log: true}", "[1e-4, 1e-2]",
         "space.optimizer.generator_lr", "or a parameter such as {choice: [0.0001, 0.01]}"),
        ("{float: [1e-4, 1e-2], log: true}", "{float: [-1e-3, 1e-2]}",
         "space.optimizer.generator_lr: -0.001", "must be above 0"),
        ("{choice: [32, 64]}", "{choise: [32, 64]}", "space.batch_size", "did you mean 'choice'?"),
        ("{width: {int", "{generator_norm: {choise: [none]}, width: {int",
         "space.model.generator_norm", "a parameter such as {choice: [a, b]}; did you mean 'choi"),
        ("      hinge: {}", "      hinge: {float: [1, 2]}", "space.loss.one_of.hinge.float",
         "stands in the wrong place"),
        ("step: 8", "step: 20", "space.model.width.step: 20", "is more than from 8 to 24"),
        ("data: {source: shapes}", "data: shapes", "data: 'shapes'", "such as {source: shapes}"),
        ("objective: fd_classifier", "objective: FID", "objective: 'FID'", "did you mean 'fid'?"),
        ("batch_size: 64", "batch_size: '64'", "start.0.batch_size: '64'", "one of 32, 64"),
        ("batch_size: 64", "generator_lr: 1e-3", "start.0.generator_lr: 0.001",
         "is not in the space; optimizer.generator_lr is"),
        ("  batch_size: {choice", "batch_size: {choice", "batch_size", "stands below `space`"),
        ("    one_of:", "    oneof:", "space.loss.oneof", "did you mean 'one_of'?"),
        ("objective: fd_classifier", "objective: [fd_classifier, fid]", "objective", "trade_off"),
        ("{generator_lr", "{genrator_lr", "space.optimizer.genrator_lr", "did you mean 'generator"),
        ("[32, 64]", "[32, 1]", "space.batch_size: 1", "must be at least 2"),
        ("name: hinge", "name: hing", "start.0.loss.name: 'hing'", "did you mean 'hinge'?"),
        ("batch_size: 64", "batch_size: 63", "start.0.batch_size: 63", "one of 32, 64"),
        ("batch_size: 64", "bach_size: 64", "start.0.bach_size: 64", "did you mean 'batch_size'?"),
    ],
)  # fmt: skip
def test_a_mistake_gives_one_line_with_its_place_its_value_and_the_way_out(
    tmp_path: Path, old: str, new: str, path: str, said: str
) -> None:
    text = edited(GAN, old, new)
    lines = refusal(tmp_path, text)

    assert len(lines) == 1
    where, name, rest = lines[0].split(": ", 2)
    file, line, column = where.rsplit(":", 2)
    assert file == "study.yaml"
    changed = [n for n, (a, b) in enumerate(zip(GAN.splitlines(), text.splitlines(), strict=True))
               if a != b]  # fmt: skip
    assert int(line) == changed[0] + 1
    assert int(column) >= 1
    assert f"{name}: {rest}".startswith(f"{path}: ")
    assert said in rest


def test_the_column_is_that_of_the_setting(tmp_path: Path) -> None:
    text = edited(GAN, "trials: 4", "trails: 4")

    assert refusal(tmp_path, text)[0].startswith(f"study.yaml:{place_of(text, 'trails')}: ")


def test_every_mistake_in_the_settings_is_reported_at_once(tmp_path: Path) -> None:
    text = edited(GAN, "trials: 4", "trails: 4").replace("samples: 900", "samples: few")
    text = text.replace("source: shapes", "source: nowhere")

    lines = refusal(tmp_path, text)

    assert [line.split(": ")[1] for line in lines] == [
        "data.source", "evaluation.samples", "budget.trails",
    ]  # fmt: skip


def test_every_mistake_in_one_configuration_is_reported_at_once(tmp_path: Path) -> None:
    text = edited(GAN, "{width: {int", "{widht: {int").replace("{generator_lr", "{genrator_lr")

    assert len(refusal(tmp_path, text)) == 2


def test_a_setting_that_is_needed_and_missing_is_named(tmp_path: Path) -> None:
    text = "".join(x for x in GAN.splitlines(keepends=True) if not x.startswith("budget"))

    assert refusal(tmp_path, text) == ["study.yaml:1:1: budget: is required"]


def test_a_study_without_a_space_is_refused(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, GAN[: GAN.index("space:")])

    assert "needs a space" in line


def test_a_mistake_made_by_set_is_blamed_on_set(tmp_path: Path) -> None:
    assert refusal(tmp_path, GAN, "budget.trials=many") == [
        "--set budget.trials=many: budget.trials: 'many': must be a whole number"
    ]


def test_starting_points_must_be_a_list(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, GAN[: GAN.index("start:")] + "start: {batch_size: 64}\n")

    assert ": start: must be a list" in line


def test_an_input_error_ends_the_program_with_code_two() -> None:
    assert InputError("x").exit_code == 2
    assert issubclass(InputError, RaygenError)


@pytest.mark.parametrize("metric", ["elbo", "bits_per_dim"])
def test_a_gan_has_no_likelihood_to_be_judged_by(tmp_path: Path, metric: str) -> None:
    text = edited(GAN, "objective: fd_classifier", f"objective: {metric}")
    (line,) = refusal(tmp_path, text)

    assert line.startswith(f"study.yaml:3:1: objective: {metric!r}: a gan has no {metric}")
    assert "fd_classifier" in line


def test_a_further_metric_that_the_family_lacks_is_refused_where_it_stands(
    tmp_path: Path,
) -> None:
    text = edited(GAN, "{samples: 900}", "{samples: 900, metrics: [fd_classifier, elbo]}")
    (line,) = refusal(tmp_path, text)

    assert line.startswith(f"study.yaml:{place_of(text, 'elbo')}: evaluation.metrics.1: 'elbo': ")


def classifier_dimensions() -> int:
    from raygen.metrics.classifier import Classifier

    return Classifier(10).eval().features(torch.zeros(1, 3, 32, 32)).shape[1]


@pytest.mark.parametrize(
    ("metric", "dimensions"), [("fid", lambda: 2048), ("fd_classifier", classifier_dimensions)]
)
def test_as_many_samples_as_feature_dimensions_leave_no_covariance_of_full_rank(
    tmp_path: Path, metric: str, dimensions: Callable[[], int]
) -> None:
    text = edited(GAN, "objective: fd_classifier", f"objective: {metric}")
    few, enough = dimensions(), METRICS[metric].least_samples

    lines = refusal(tmp_path, edited(text, "samples: 900", f"samples: {few}"))
    study = load_space(write(tmp_path, edited(text, "samples: 900", f"samples: {enough}")))

    assert lines[0].startswith(f"study.yaml:4:14: evaluation.samples: {few}: {metric} needs")
    assert study.spec.evaluation.samples > few


def test_samples_grow_by_one_factor_from_rung_to_rung(tmp_path: Path) -> None:
    text = edited(GAN, "samples: 900", "samples: 6400, first_samples: 400, every_kimg: 1")
    spec = load_space(write(tmp_path, edited(text, "kimg: 18", "kimg: 27"))).spec
    assert spec.rungs == (3.0, 9.0, 27.0)

    found = {kimg: spec.evaluation.samples_at(kimg, spec.rungs) for kimg in spec.milestones}

    # 400 x 4 x 4; a milestone between two rungs is measured as the one that it leads to.
    assert {kimg for kimg, samples in found.items() if samples == 400} == {1, 2, 3}
    assert {kimg for kimg, samples in found.items() if samples == 1600} == {4, 5, 6, 7, 8, 9}
    assert set(found.values()) == {400, 1600, 6400}


def test_without_first_samples_every_milestone_is_measured_alike(tmp_path: Path) -> None:
    spec = load_space(write(tmp_path, GAN)).spec

    assert {spec.evaluation.samples_at(kimg, spec.rungs) for kimg in spec.rungs} == {900}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            "evaluation.first_samples=901",
            "evaluation.first_samples: 901: is above the samples, 900",
        ),
        (
            "evaluation.first_samples=352",
            "evaluation.first_samples: 352: fd_classifier needs 353 or more for a covariance of "
            "full rank",
        ),
        (
            "finalists.samples=352",
            "finalists.samples: 352: fd_classifier needs 353 or more for a covariance of full rank",
        ),
        (
            "finalists.metrics=[recall_classifier]",
            "finalists.metrics: need samples: how many to measure the finalists with",
        ),
        (
            "finalists={samples: 900, metrics: [elbo]}",
            "finalists.metrics.0: 'elbo': a gan has no elbo",
        ),
    ],
)
def test_samples_of_rungs_and_finalists_are_checked(
    tmp_path: Path, settings: str, line: str
) -> None:
    assert line in refusal(tmp_path, GAN, settings)[0]


def test_what_only_finalists_are_measured_by_needs_only_their_samples(tmp_path: Path) -> None:
    """The limit of the Fréchet distance needs 2000 samples, of which a rung has 900."""
    chosen = "finalists={samples: 2000, metrics: [fd_classifier_infinity]}"

    assert "fd_classifier_infinity" in load_space(write(tmp_path, GAN), [chosen]).spec.final_metrics


def test_finalists_are_measured_by_each_objective_against_both_splits_and_by_what_is_asked(
    tmp_path: Path,
) -> None:
    chosen = "finalists={samples: 1000, metrics: [recall_classifier, fd_classifier]}"
    spec = load_space(write(tmp_path, GAN), [chosen, "trade_off=[million_parameters]"]).spec

    assert spec.final_metrics == (
        "fd_classifier", "million_parameters", "fd_classifier_test", "recall_classifier",
    )  # fmt: skip
    assert load_space(write(tmp_path, GAN)).spec.final_metrics == ()


def test_a_first_rung_beyond_the_budget_is_refused(tmp_path: Path) -> None:
    text = edited(GAN, "space:", "scheduler: {grace_kimg: 19}\nspace:")

    assert refusal(tmp_path, text) == [
        "study.yaml:6:13: scheduler.grace_kimg: 19: "
        "the first rung lies beyond the budget of 18 kimg"
    ]


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1"])
def test_a_penalty_beside_a_discriminator_that_mixes_images_is_refused_anywhere_in_a_space(
    tmp_path: Path, penalty: str
) -> None:
    text = edited(GAN, "penalty: gradient_penalty", f"penalty: {penalty}")
    text = edited(
        text, "  model: {", "  model: {discriminator_norm: {choice: [none, layer, batch]}, "
    )

    (line,) = refusal(tmp_path, text)

    assert line.startswith(f"study.yaml:{place_of(text, 'penalty: ')}: space.loss.one_of.")
    assert f"penalty: '{penalty}': needs a discriminator that" in line
    assert "must not be batch" in line


GROUPED = "  model: {name: style_gan, minibatch_std: 32, "


def test_a_penalty_is_allowed_beside_a_discriminator_that_compares_groups_of_images(
    tmp_path: Path,
) -> None:
    text = edited(GAN, "  model: {", GROUPED)

    assert load_space(write(tmp_path, text)).spec.family == "gan"


def test_every_batch_of_a_space_must_divide_into_the_groups_that_are_compared(
    tmp_path: Path,
) -> None:
    text = edited(edited(GAN, "  model: {", GROUPED), "[32, 64]", "[32, 48]")

    (line,) = refusal(tmp_path, text)

    assert "48 images pass the discriminator at once" in line
    assert "the groups of 32 that it compares" in line


def test_so_must_the_part_of_every_worker(tmp_path: Path) -> None:
    text = edited(edited(GAN, "  model: {", GROUPED), "space:", "resources: {workers: 2}\nspace:")

    (line,) = refusal(tmp_path, text)

    assert line.startswith("study.yaml:14:3: space.batch_size: 16 images pass")


def test_a_penalty_without_a_weight_is_refused(tmp_path: Path) -> None:
    text = edited(GAN, ", penalty_weight: {float: [1, 30]}", "")

    (line,) = refusal(tmp_path, text)

    assert line.startswith("study.yaml:11:21: space.loss.one_of.wasserstein.penalty: 'grad")
    assert line.endswith("penalty and penalty_weight go together")


def test_every_batch_of_a_space_must_divide_by_the_workers(tmp_path: Path) -> None:
    text = edited(GAN, "space:", "resources: {workers: 5}\nspace:").replace("[32, 64]", "[40, 64]")

    (line,) = refusal(tmp_path, text)

    assert line.startswith("study.yaml:14:3: space.batch_size: ")
    assert line.endswith("a batch of 64 does not divide by 5 workers")


def test_the_default_batch_must_divide_by_the_workers_too(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, VAE + "resources: {workers: 3}\n")

    assert line.endswith("a batch of 64 does not divide by 3 workers")


def test_the_part_of_a_worker_divides_into_its_micro_batches(tmp_path: Path) -> None:
    text = GAN.replace("  batch_size: {", "  accumulate: 16\n  batch_size: {").replace(
        "space:\n", "resources: {workers: 4}\nspace:\n"
    )

    (line,) = refusal(tmp_path, text)

    assert line.startswith("study.yaml:15:3: space.batch_size: ")
    assert line.endswith("a batch of 32 does not divide by 4 workers x accumulate 16")


def test_an_end_of_a_range_that_its_steps_never_reach_is_no_reason_to_refuse(
    tmp_path: Path,
) -> None:
    text = edited(GAN, "{choice: [32, 64]}", "{int: [32, 95], step: 32}")

    load_space(write(tmp_path, edited(text, "space:", "resources: {workers: 2}\nspace:")))


@pytest.mark.parametrize(("gpus", "good"), [(0.5, True), (1, True), (2, True), (1.5, False)])
def test_gpus_are_whole_or_a_share_of_one(tmp_path: Path, gpus: float, good: bool) -> None:
    text = edited(GAN, "space:", f"resources: {{gpus: {gpus}}}\nspace:")

    if good:
        assert load_space(write(tmp_path, text)).spec.resources.gpus == gpus
    else:
        assert "resources.gpus: 1.5: must be a whole number" in refusal(tmp_path, text)[0]


def spec(kimg: float, **scheduler: float) -> StudySpec:
    return StudySpec.model_validate(
        {"family": "gan", "budget": {"kimg": kimg}, "scheduler": scheduler}
    )


@pytest.mark.parametrize("kimg", [0.3, 1.0, 18.0, 100.0, 6400.0])
@pytest.mark.parametrize("factor", [2, 2.5, 3, 4, 10, 20])
def test_rungs_are_geometric_and_end_in_the_budget(kimg: float, factor: float) -> None:
    rungs = spec(kimg, reduction_factor=factor).rungs

    assert rungs[-1] == kimg
    for low, high in pairwise(rungs):
        assert high / low == pytest.approx(factor, rel=1e-4)


@pytest.mark.parametrize("kimg", [0.3, 1.0, 18.0, 6400.0])
@pytest.mark.parametrize("factor", [2, 2.5, 3, 4, 10, 20])
def test_by_default_the_first_rung_is_the_lowest_at_a_tenth_of_the_budget_or_more(
    kimg: float, factor: float
) -> None:
    first = spec(kimg, reduction_factor=factor).rungs[0]

    assert first >= kimg / 10 * (1 - 1e-4)
    assert first / factor < kimg / 10 * (1 - 1e-4)


def test_a_grace_period_is_the_first_rung(tmp_path: Path) -> None:
    assert spec(18, grace_kimg=2, reduction_factor=3).rungs == (2, 6, 18)
    assert spec(20, grace_kimg=2, reduction_factor=3).rungs == (2, 6, 18, 20)
    assert spec(20, grace_kimg=20, reduction_factor=3).rungs == (20,)


def test_between_merges_multiples_in_order_each_once() -> None:
    assert with_extra((2, 6, 18), 4, 18) == (2, 4, 6, 8, 12, 16, 18)
    assert with_extra((2, 6, 18), 6, 18) == (2, 6, 12, 18)
    assert with_extra((), 0.1, 0.3) == pytest.approx((0.1, 0.2, 0.3))
    assert with_extra((5,), None, 10) == (5, 10)
    assert with_extra((), 7, 3) == (3,)


def test_milestones_of_a_study_are_its_rungs_and_the_evaluations_between(tmp_path: Path) -> None:
    text = edited(GAN, "{samples: 900}", "{samples: 900, every_kimg: 5}")
    found = load_space(write(tmp_path, text)).spec

    assert found.milestones == (2, 5, 6, 10, 15, 18)
    assert set(found.rungs) <= set(found.milestones)


def test_the_objective_comes_first_and_each_metric_once(tmp_path: Path) -> None:
    text = VAE + "evaluation: {metrics: [bits_per_dim, elbo, fd_classifier]}\n"

    found = load_space(write(tmp_path, text)).spec

    assert found.metrics == ("elbo", "bits_per_dim", "fd_classifier")


def test_a_good_training_job_is_read_whole(tmp_path: Path) -> None:
    job = load_train_job(write(tmp_path, TRAIN), ["trial.batch_size=16"])

    assert isinstance(job.trial, GanTrial)
    assert (job.kimg, job.trial.batch_size, job.trial.model.width) == (2.0, 16, 8)
    assert job.trial.loss.name == "hinge"


def test_a_training_job_may_be_a_vae(tmp_path: Path) -> None:
    text = "family: vae\nobjective: elbo\nkimg: 1\ntrial: {model: {depth: 0}}\n"

    assert isinstance(load_train_job(write(tmp_path, text)).trial, VaeTrial)


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("kimg: 2", "kmig: 2", "study.yaml:4:1: kmig: 2: unknown name"),
        ("kimg: 2", "kimg: two", "study.yaml:4:1: kimg: 'two': "),
        ("width: 8", "widht: 8", "study.yaml:6:24: trial.model.widht: 8: unknown name"),
        ("name: hinge", "name: hing", "study.yaml:7:10: trial.loss.name: 'hing': unknown name"),
        ("batch_size: 32", "batch_size: 1", "study.yaml:8:3: trial.batch_size: 1: "),
        ("fd_classifier", "elbo", "study.yaml:3:1: objective: 'elbo': a gan has no elbo"),
        ("fd_classifier", "fd_clasifier", "study.yaml:3:1: objective: 'fd_clasifier': unknown"),
        ("family: gan", "family: gna", "study.yaml:1:1: family: 'gna': "),
        ("trial:", "trial: 3 #", "study.yaml:5:1: trial"),
        ("  batch_size: 32", "  family: vae", "study.yaml:8:3: trial.family: 'vae': "),
    ],
)
def test_a_mistake_in_a_training_job_gives_its_place(
    tmp_path: Path, old: str, new: str, start: str
) -> None:
    text = edited(TRAIN, old, new)
    if "#" in new:
        text = text[: text.index("  model")]

    with pytest.raises(InputError) as caught:
        load_train_job(write(tmp_path, text))

    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert any(line.startswith(start) for line in lines), lines


def test_a_misspelt_family_of_a_training_job_is_one_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_train_job(write(tmp_path, edited(TRAIN, "family: gan", "family: gna")))

    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("trial", [GanTrial(), VaeTrial(batch_size=7)])
def test_a_trial_that_is_written_down_and_parsed_is_the_same_trial(
    trial: GanTrial | VaeTrial,
) -> None:
    assert parse_trial(trial.model_dump(mode="json")) == trial


def test_a_trial_survives_the_yaml_that_a_study_writes(tmp_path: Path) -> None:
    from raygen.document import load_document

    trial = GanTrial.model_validate({"optimizer": {"generator_lr": 1e-7}})
    read = load_document(write(tmp_path, dump(trial.model_dump(mode="json")))).data

    assert parse_trial(read) == trial
    assert math.isclose(parse_trial(read).optimizer.generator_lr, 1e-7)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluation.every_kimg=0.0011", "evaluation.every_kimg: 0.0011: makes 16,364 milestones"),
        ("evaluation.every_kimg=1e-9", "evaluation.every_kimg: 1e-09: must be at least 0.001"),
        ("recovery.hang_minutes=1e-9", "recovery.hang_minutes: 1e-09: must be at least 0.05"),
        ("sampler=curve", "sampler: 'curve': must be a mapping, such as {name: curve}"),
        ("sampler.name=curv", "sampler.name: 'curv': unknown name, choose from curve, gp, "),
        (
            "sampler={name: random, design_share: 0.5}",
            "sampler.design_share: 0.5: is a setting of curve, not ra",
        ),
        (
            "sampler={name: curve, population: 30}",
            "sampler.population: 30: is a setting of nsga2 and nsga3, no",
        ),
        ("scheduler.grace_kimg=1e-300", "scheduler.grace_kimg: 1e-300: must be at least 0.001"),
        ("checkpoints.every_minutes=1e-9", "checkpoints.every_minutes: 1e-09: must be at least"),
        ("budget.kimg=1e300", "budget.kimg: 1e+300: must be at most 1e+09"),
        ("budget.trials=1000000000", "budget.trials: 1000000000: must be at most 1,000,000"),
        (
            "evaluation.samples=1000000000",
            "evaluation.samples: 1000000000: must be at most 1,000,000",
        ),
        ("finalists.seeds=1000000000", "finalists.seeds: 1000000000: must be at most 1,000"),
        ("resources.workers=1000000000", "resources.workers: 1000000000: must be at most 10,000"),
        ("resources.workers={min: 0, max: 2}", "resources.workers.min: 0: must be above 0"),
        ("resources.workers={min: 3, max: 2}", "resources.workers.min: 3: is above the max, 2"),
        ("resources.workers={mim: 1, max: 2}", "resources.workers.mim: 1: unknown name, choose "),
        ("resources.workers=two", "resources.workers: 'two': must be a whole number"),
        ("resources.accelerator=T4", "resources.accelerator: needs gpus"),
        ("resources.prices={A10G: -1}", "resources.prices.A10G: -1: must be at least 0"),
    ],
)
def test_a_number_that_would_hang_a_search_or_fill_the_memory_is_refused_by_its_name(
    tmp_path: Path, setting: str, said: str
) -> None:
    (line,) = refusal(tmp_path, GAN, setting)

    assert line.startswith(f"--set {setting}: {said}")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("resources={gpus: 1, accelerator: [T4, T4]}", "accelerator.1: 'T4': appears twice here"),
        ("resources={gpus: 1, accelerator: A10g}", "accelerator.0: 'A10g': must be spelt as Ray "
         "does: 'A10G'"),
        ("resources={gpus: 1, prices: {nvidia-h100: 1}}", "prices.nvidia-h100: 'nvidia-h100': "
         "must be spelt as Ray does: 'H100'"),
        ("resources={gpus: 1, accelerator: [A10G], prices: {A100: 1}}", "accelerator.0: 'A10G': "
         "resources.prices has none; did you mean 'A100'?"),
        ("resources.gpus=lots", "gpus: 'lots': must be a number or 'auto'"),
        ("resources.cpus={float: [1, 2]}", "cpus: must be a number: only settings below `space` "
         "are searched"),
    ],
)  # fmt: skip
def test_kinds_and_prices_of_gpus_that_cannot_be_meant_are_refused(
    tmp_path: Path, setting: str, said: str
) -> None:
    assert refusal(tmp_path, GAN, setting) == [f"--set {setting}: resources.{said}"]


def test_a_setting_that_needs_another_is_refused_at_its_own_place(tmp_path: Path) -> None:
    text = edited(GAN, "  optimizer:", "  augment_p: 0.5\n  optimizer:")

    (line,) = refusal(tmp_path, text)

    where = place_of(text, "augment_p")
    assert line.startswith(f"study.yaml:{where}: space.augment_p: 0.5: needs an augment")


VALUES = ("word", "3", "-1.5", "1e99", ".inf", "true", "null", "[]", "[x]", "{}", "{a: b}", "''")


def test_every_mistake_in_any_setting_is_in_words_of_raygen(tmp_path: Path) -> None:
    file = write(tmp_path, GAN)
    spec = load_space(file).spec.model_dump(mode="json")
    trials = {name: TRIALS[name]().model_dump(mode="json") for name in ("gan", "vae")}
    settings = [name for name in flatten(spec) if not name.startswith("family")]
    settings += [f"space.{name}" for name in flatten(trials["gan"]) if name != "family"]
    lines = []
    for setting in settings:
        for value in VALUES:
            try:
                load_space(file, [f"{setting}={value}"])
            except InputError as error:
                lines += str(error).splitlines()

    assert len(lines) > 500
    pydantic = re.compile(r"\bshould\b|[Ii]nput|unable to|permitted|dictionary|\bvalid\b|string")
    assert [line for line in lines if pydantic.search(line)] == []
    assert all(line.startswith(("--set ", str(file))) for line in lines)


def test_ten_thousand_milestones_are_enough_and_not_too_many(tmp_path: Path) -> None:
    study = load_space(write(tmp_path, GAN), ["evaluation.every_kimg=0.0018"])

    assert len({*study.spec.milestones} - {*study.spec.rungs}) == 10_000 - 1  # 18 is a rung, too


def test_a_configuration_of_one_trial_has_the_same_bound_of_milestones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"every_kimg: 0\.001: makes 1,000,000 milestones"):
        load_train_job(
            write(tmp_path, TRAIN), ["kimg=1000", "evaluation={every_kimg: 0.001, samples: 500}"]
        )


def test_a_value_of_any_length_makes_a_line_that_can_be_read(tmp_path: Path) -> None:
    for setting in ("family", "objective", "data.source", "space.model.name"):
        for line in refusal(tmp_path, GAN, f"{setting}={'x' * 100_000}"):
            assert len(line) < 1500
