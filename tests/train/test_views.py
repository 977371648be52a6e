"""Interpolations and reconstructions, from the same latents and images every time."""

from pathlib import Path

import pytest
import torch

from raygen.data import ImageData
from raygen.metrics.evaluator import Evaluator
from raygen.metrics.model import draw_latents
from raygen.study_folder import TrialFolder
from raygen.training.loop import fit, make_learner
from raygen.training.record import record
from raygen.training.vae import VaeLearner
from raygen.training.views import FRAMES, ROWS, SEED, interpolation, reconstructions
from raygen.trial import Trial

pytestmark = pytest.mark.usefixtures("patience")
CPU = torch.device("cpu")


def test_a_row_of_an_interpolation_begins_and_ends_with_the_images_of_its_two_latents(
    any_trial: Trial, data: ImageData
) -> None:
    learner = make_learner(any_trial, len(data.classes), CPU, seed=0)
    latents, labels = draw_latents(learner, SEED, 0, 2 * ROWS)
    ends = learner.sample(latents, torch.cat([labels[:ROWS], labels[:ROWS]]))

    rows = interpolation(learner).unflatten(0, (ROWS, FRAMES)).int()

    # cos of a right angle is 4e-8 in float32, which may move a pixel by one level.
    assert (rows[:, 0] - ends[:ROWS].int()).abs().max() <= 1
    assert (rows[:, -1] - ends[ROWS:].int()).abs().max() <= 1


def test_a_reconstruction_lies_below_its_image_and_is_nearer_to_it_after_training(
    vae: Trial, data: ImageData, evaluator: Evaluator
) -> None:
    learner = make_learner(vae, len(data.classes), CPU, seed=0)
    assert isinstance(learner, VaeLearner)
    before = reconstructions(learner, data.test.images[:16]).unflatten(0, (2, 2, 8)).float()
    for progress in fit(vae, data, evaluator, (2.0,), seed=0):
        after = progress.views["reconstructions"].unflatten(0, (2, 2, 8)).float()

        assert torch.equal(after[:, 0].flatten(0, 1), data.test.images[:16].float())
        assert _distance(after) < _distance(before)


def test_a_milestone_leaves_every_picture_in_the_folder_of_its_trial(
    any_trial: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    folder = TrialFolder(tmp_path)
    for progress in fit(any_trial, data, evaluator, (0.05,), seed=0):
        record(folder, any_trial, 0, data.summary(), progress)

    assert list(folder.all_pictures("interpolation")) == [0.05]
    assert list(folder.all_pictures("reconstructions")) == [0.05] * (any_trial.family == "vae")


def _distance(pairs: torch.Tensor) -> float:
    return float((pairs[:, 0] - pairs[:, 1]).square().mean())
