"""Every search space that comes with raygen can be searched from its first draw to its last."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import torch

from raygen.config import Study
from raygen.config_file import load_space
from raygen.document import dump, flatten, load_document
from raygen.image_shape import CIFAR10
from raygen.losses.elbo import LIKELIHOODS
from raygen.space import sample
from raygen.trial import GanTrial

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "search_spaces").glob("*.yaml"))
DRAWS = 30


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


def make_study(seed: int) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


def build_without_memory(study: Study, config: dict[str, object]) -> int:
    """Build the networks on the meta device and count their parameters."""
    trial = study.trial(config)
    with torch.device("meta"):
        if isinstance(trial, GanTrial):
            nets = trial.model.build(CIFAR10, classes=10)
        else:
            nets = [trial.model.build(CIFAR10, LIKELIHOODS[trial.loss.likelihood]().outputs)]
    return sum(p.numel() for net in nets for p in net.parameters())


def test_search_spaces_are_found() -> None:
    assert FILES


def test_the_first_line_is_the_command_that_runs_the_file(file: Path) -> None:
    first = file.read_text(encoding="utf-8").partition("\n")[0]

    assert first.startswith("#")
    assert f"raygen tune --space search_spaces/{file.name}" in first


def test_every_draw_is_a_trial_whose_networks_can_be_built(file: Path) -> None:
    study = load_space(file)
    trials = make_study(seed=0)

    for _ in range(DRAWS):
        assert build_without_memory(study, sample(study.space, trials.ask()).config) > 0


def test_every_parameter_of_every_branch_is_drawn_sooner_or_later(file: Path) -> None:
    study = load_space(file)
    trials = make_study(seed=1)

    drawn = {n for _ in range(200) for n in sample(study.space, trials.ask()).parameters}

    assert drawn == {parameter.name for parameter in study.parameters}


def test_every_starting_point_is_drawn_as_it_is_written_and_can_be_built(file: Path) -> None:
    study = load_space(file)
    written = load_document(file).data.get("start") or []
    assert len(study.start) == len(written)

    for point, settings in zip(study.start, written, strict=True):
        trials = make_study(seed=2)
        trials.enqueue_trial(point)
        config = sample(study.space, trials.ask()).config

        drawn = flatten(config)
        assert {**drawn, **flatten(settings)} == drawn
        assert build_without_memory(study, config) > 0


NARROWED = {
    "gan": ("objective=fd_classifier", "space.loss={name: hinge}"),
    "vae": (
        "space.loss.likelihood=gaussian",
        "space.ema.half_life_kimg={float: [6.0, 40.0], log: true}",
    ),
}


def test_what_set_leaves_of_a_space_is_read_back_from_the_studys_own_file(
    file: Path, tmp_path: Path
) -> None:
    family = load_space(file).spec.family
    settings = [*NARROWED[family], "space.model.width=16", "space.batch_size=32"]
    study = load_space(file, settings)
    written = tmp_path / "space.yaml"
    written.write_text(dump(study.raw), encoding="utf-8")

    again = load_space(written)

    assert again.start == study.start
    assert again.settings() == study.settings()
    assert again.spec == study.spec


def test_a_study_of_an_earlier_raygen_goes_on_with_its_own_starting_points(
    file: Path, tmp_path: Path
) -> None:
    """It recorded them as the file has them; what --set left of them is the same."""
    settings = ["space.batch_size=32"]
    written = load_document(file).data.get("start") or []
    study = load_space(file, settings)

    assert study.points(written) == list(study.start)
