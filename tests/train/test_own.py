"""A trainer of one's own: driven by raygen's loop, resumed bit for bit, drawn from afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raygen import plugins
from raygen.config_file import load_space
from raygen.data import DataSpec, ImageData, load_data
from raygen.data.batches import Batches
from raygen.errors import InputError, RaygenError
from raygen.image_shape import ImageShape
from raygen.project_folder import EXAMPLES
from raygen.training.checkpoint import checkpoint, load_full, load_sampler, save
from raygen.training.loop import Progress, fit, make_learner
from raygen.trial import OwnTrial, parse_trial
from raygen.try_out import try_out
from train.conftest import PixelDistance

CPU = torch.device("cpu")
WRONG = """
from raygen.models import TrainerSpec
from torch import nn

class Short(TrainerSpec):
    latent_dim: int = 4

    def build(self, image, classes):
        return nn.Linear(4, image.values)

    def fit(self, run):
        for _ in zip(range(1), run.batches()):
            yield {"loss": 0.0}

class Greedy(Short):
    def fit(self, run):
        batches = run.batches()
        while True:
            next(batches), next(batches)
            yield {"loss": 0.0}

class Idle(Short):
    def fit(self, run):
        while True:
            yield {}

class Bare(Short):
    def fit(self, run):
        for _ in run.batches():
            yield

class Vector(Short):
    def fit(self, run):
        for images, labels in run.batches():
            yield {"loss": images[:, 0, 0, 0]}

class Fitless(TrainerSpec):
    latent_dim: int = 4

    def build(self, image, classes):
        return nn.Linear(4, image.values)
"""


@pytest.fixture(scope="module")
def shapes() -> ImageData:
    return load_data(DataSpec(source="shapes", limit=512))


@pytest.fixture
def trial(tmp_path: Path) -> OwnTrial:
    code = (EXAMPLES / "own-trainer" / "train.py").read_text()
    # As scripts do: initial weights of their own, which a checkpoint must win over.
    start = "        generator = run.generator\n"
    assert start in code
    own = "        nn.init.normal_(generator.layers[0].weight, 0.0, 0.02)\n"
    (tmp_path / "train.py").write_text(code.replace(start, start + own))
    (tmp_path / "wrong.py").write_text(WRONG)
    for name in ("train.py", "wrong.py"):
        plugins._plugins.pop(name, None)  # those of another test
    plugins.look_in(tmp_path)
    settings = {"name": "train.py:Trainer", "width": 32, "latent_dim": 8}
    parsed = parse_trial({
        "family": "own", "model": settings, "batch_size": 32, "ema": {"half_life_kimg": 0.2},
    })  # fmt: skip
    assert isinstance(parsed, OwnTrial)
    return parsed


def train(trial: OwnTrial, data: ImageData, resume: Any = None) -> list[Progress]:
    return list(begin(trial, data, resume))


def begin(trial: OwnTrial, data: ImageData, resume: Any = None) -> Iterator[Progress]:
    evaluator: Any = PixelDistance(data)
    return fit(trial, data, evaluator, (0.32, 0.64), seed=5, resume=resume)


def test_a_trial_that_goes_on_ends_bit_equal_to_one_that_was_not_interrupted(
    tmp_path: Path, trial: OwnTrial, shapes: ImageData
) -> None:
    whole = train(trial, shapes)
    path = tmp_path / "last.pt"
    # At its first milestone: training has gone on meanwhile, so that its state is taken on the way.
    for progress in begin(trial, shapes):
        if progress.kimg == 0.32:
            save(path, checkpoint(trial, 5, shapes.summary(), progress, full=True))
            break

    (rest,) = train(trial, shapes, load_full(path, CPU))

    assert [p.kimg for p in whole] == [0.32, 0.64]
    assert rest.scores == whole[-1].scores
    assert torch.equal(rest.samples, whole[-1].samples)
    for part, state in whole[-1].learner.state_dict()["kept"].items():
        assert str(state) == str(rest.learner.state_dict()["kept"][part])
    assert set(rest.losses) == {"critic", "generator"}


def test_its_checkpoint_draws_what_the_training_drew(
    tmp_path: Path, trial: OwnTrial, shapes: ImageData
) -> None:
    last = train(trial, shapes)[-1]
    path = tmp_path / "best.pt"
    save(path, checkpoint(trial, 5, shapes.summary(), last, full=False))

    learner, content = load_sampler(path, CPU)

    latents, labels = torch.randn(4, 8), torch.zeros(4, dtype=torch.int64)
    assert torch.equal(learner.sample(latents, labels), last.learner.sample(latents, labels))
    assert content["plugins"].keys() == {"train.py"}
    (tmp_path / "train.py").write_text((tmp_path / "train.py").read_text() + "# changed\n")
    plugins._plugins.pop("train.py")
    with pytest.raises(InputError, match=r"was made with another train\.py"):
        load_sampler(path, CPU)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Short", "fit ended after 32 images, before its budget"),
        ("Greedy", "fit took two batches without a yield between them"),
        ("Idle", "fit yielded without taking a batch"),
        ("Bare", 'fit must yield its losses by name, such as {"loss": loss}'),
        ("Vector", "fit yielded loss of shape (32,), not one number"),
    ],
)
def test_a_loop_that_breaks_its_contract_is_told_so(
    trial: OwnTrial, shapes: ImageData, name: str, message: str
) -> None:
    wrong = parse_trial({
        "family": "own", "model": {"name": f"wrong.py:{name}"}, "batch_size": 32,
    })  # fmt: skip
    learner = make_learner(wrong, 10, CPU, 0, image=ImageShape())
    batches = Batches(shapes.train, 32, 0, CPU)

    with pytest.raises(RaygenError) as error:
        _ = [learner.step(batches, step * 32) for step in range(3)]

    assert str(error.value) == message


SPACE = """
family: own
data: {source: shapes}
objective: fd_classifier
evaluation: {samples: 500}
budget: {trials: 4, kimg: 1}
space: {model: {name: "NAME"}}
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("NAME", "dcgan"), "name must be a class of your own, as file.py:Class"),
        (
            ("NAME", "wrong.py:Fitless"),
            "wrong.py:Fitless: has no fit: see raygen.models.TrainerSpec",
        ),
        (("NAME", "wrong.py:Shorts"), "did you mean 'Short'?"),
        (("NAME", "wrong.py:nn"), "must be a class derived from raygen.models.TrainerSpec"),
        (('"NAME"', '"train.py:Trainer", widht: 3'), "did you mean 'width'?"),
        (("objective: fd_classifier", "objective: elbo"), "a own has no elbo"),
        (
            ("data:", "resources: {workers: 2}\ndata:"),
            "a trainer of your own trains in one process",
        ),
        (("NAME", "wrong.py:Idle"), "fit yielded without taking a batch"),
        (("NAME", "wrong.py:Short"), "fit ended after 4 images"),
    ],
)
@pytest.mark.usefixtures("trial")
def test_a_space_with_a_mistake_is_refused_in_one_line(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE.replace(*change).replace("NAME", "train.py:Trainer"))

    with pytest.raises(InputError) as error:
        try_out(load_space(file))

    assert message in str(error.value)
    assert "\n" not in str(error.value)
