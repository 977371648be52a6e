"""A step is work on tensors alone: recorded once, it is played again for every later step."""

from typing import Any

import pytest
import torch

from raygen.compute import Compute
from raygen.config import parse_trial
from raygen.data import Split
from raygen.data.batches import Batches
from raygen.train.loop import Learner, make_learner
from train.tape import TapedStep

CPU = torch.device("cpu")
PENALTY = {"penalty": "gradient_penalty", "penalty_weight": 10.0, "penalty_interval": 2}
PAIRS = {"name": "relativistic", "penalty": "r1_r2", "penalty_weight": 1.0}
SPECTRAL = {"name": "sngan", "width": 16}
CONDITIONAL = {"name": "biggan", "width": 16, "conditional": True}
MIXTURE = {"likelihood": "discretised_logistic_mixture", "free_bits": 0.1}
ALL = "color,translation,cutout"
TWO = {"discriminator_steps": 2, "clip": 1.0, "decay": "cosine"}
RECIPES: dict[str, dict[str, Any]] = {
    "dcgan": {"model": {"name": "dcgan", "width": 16}, "optimizer": TWO, "augment": ALL},
    "sngan": {"model": SPECTRAL, "loss": {"name": "wasserstein", **PENALTY}, "accumulate": 2},
    "biggan": {"model": CONDITIONAL, "loss": {"name": "hinge"}, "optimizer": {"decay": "linear"}},
    "r3gan": {"model": {"name": "r3gan", "width": 16}, "loss": PAIRS, "augment": "translation"},
    "conv_vae": {"model": {"name": "conv_vae", "width": 16}, "loss": {"warmup_kimg": 0.1}},
    "ladder_vae": {
        "model": {"name": "ladder_vae", "width": 16}, "loss": MIXTURE, "accumulate": 2,
        "optimizer": {"decay": "cosine", "clip": 1.0},
    },
}  # fmt: skip


def train(recipe: str, steps: int, taped: bool) -> tuple[Learner, list[dict[str, float]]]:
    """Steps by the learner of a recipe, eager or played from a tape."""
    family = "vae" if recipe.endswith("vae") else "gan"
    trial = parse_trial({"family": family, "batch_size": 8, **RECIPES[recipe]})
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8, generator=random)
    data = Split(images, torch.arange(50) % 10)
    learner = make_learner(trial, 10, CPU, 3, Compute(graph="on"), budget=400)
    if taped:
        learner.run = TapedStep(learner._compute)  # pyright: ignore[reportAttributeAccessIssue]
    batches, position, losses = Batches(data, 8, 3, CPU, trial.flip), 0, []
    for _ in range(steps):
        step = learner.step(batches, position)
        losses.append({name: float(value) for name, value in step.items()})
        position += learner.images_per_step
    return learner, losses


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_that_is_played_from_a_recording_is_the_step_itself(recipe: str) -> None:
    eager, losses = train(recipe, 8, taped=False)
    played, same = train(recipe, 8, taped=True)

    assert played.run.played >= 4
    assert same == losses
    state, other = eager.state_dict(), played.state_dict()
    for name in (name for name in state if "adam" not in name):
        for key, tensor in state[name].items():
            torch.testing.assert_close(other[name][key], tensor, rtol=0, atol=0)
