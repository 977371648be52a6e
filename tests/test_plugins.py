"""Code of one's own, by `file.py:Name`: a model, a loss and a metric; found, checked and hashed."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from click.testing import CliRunner

from raygen import plugins
from raygen.cli import main
from raygen.config_file import load_space
from raygen.data import DataSpec, load_data
from raygen.errors import InputError
from raygen.losses.adversarial import ADVERSARIAL
from raygen.metrics import METRICS, FeatureEncoder
from raygen.metrics.evaluator import SAMPLE_SEED, Evaluator
from raygen.metrics.model import CHUNK, draw_latents
from raygen.metrics.own_encoder import encoder_network
from raygen.training.checkpoint import load_sampler
from raygen.training.loop import make_learner
from raygen.trial import GanTrial, parse_trial

CPU = torch.device("cpu")
LAYERS = "from torch import nn\n\ndef linear(n, m):\n    return nn.Linear(n, m)\n"
MODEL = """
import torch
from torch import nn
from pydantic import PositiveInt
from raygen.models import GanNets, GanSpec
from raygen.losses.adversarial import GanLoss
from raygen.metrics import metric
from mylayers import linear


class Generator(nn.Module):
    def __init__(self, latent_dim, width, image):
        super().__init__()
        self.latent_dim, self.image = latent_dim, image
        self.layers = nn.Sequential(
            linear(latent_dim, width), nn.ReLU(), linear(width, image.values), nn.Tanh()
        )

    def forward(self, latents, labels):
        return self.layers(latents).view(-1, *self.image.chw)


class Critic(nn.Module):
    def __init__(self, width, image):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), linear(image.values, width), nn.ReLU(), linear(width, 1)
        )

    def forward(self, images, labels):
        return self.layers(images).squeeze(1)


class Mine(GanSpec):
    latent_dim: PositiveInt = 16
    width: PositiveInt = 8

    def build(self, image, classes):
        return GanNets(Generator(self.latent_dim, self.width, image), Critic(self.width, image))


squares = GanLoss(
    lambda real, fake: ((real - 1) ** 2).mean() + (fake ** 2).mean(),
    lambda real, fake: ((fake - 1) ** 2).mean(),
    chance=0.5,
)


@metric("minimize", label="difference of brightness")
def brightness(images, real):
    return (images.float().mean() - real.float().mean()).abs()


not_a_model = 3
"""
SPACE = """family: gan
data: {source: shapes, limit: 256}
objective: "mine.py:brightness"
evaluation: {samples: 200}
budget: {trials: 2, kimg: 0.064}
finalists: {count: 1, seeds: 1}
scheduler: {grace_kimg: 0.032}
space:
  model: {name: "mine.py:Mine", width: {int: [4, 8]}}
  loss: {name: "mine.py:squares"}
  batch_size: 16
"""
JOB = """family: gan
data: {source: shapes, limit: 256}
objective: "mine.py:brightness"
evaluation: {samples: 200}
kimg: 0.064
trial:
  model: {name: "mine.py:Mine", width: 4}
  loss: {name: "mine.py:squares"}
  batch_size: 16
"""


def forget() -> None:
    """As in a new process."""
    plugins._plugins.clear()
    ADVERSARIAL.pop("mine.py:squares", None)
    METRICS.pop("mine.py:brightness", None)
    for name in ("mylayers", "raygen_plugin_mine"):
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plugins, "_folders", [])
    forget()
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "mylayers.py").write_text(LAYERS)
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trial(**settings: object) -> GanTrial:
    model = {"name": "mine.py:Mine", **settings}
    parsed = parse_trial({"family": "gan", "model": model, "loss": {"name": "mine.py:squares"}})
    assert isinstance(parsed, GanTrial)
    return parsed


@pytest.mark.usefixtures("folder")
def test_settings_of_a_model_of_ones_own_come_back_as_they_were_written() -> None:
    written = trial(width=5)

    assert written.model.model_dump()["name"] == "mine.py:Mine"
    assert written.model.model_dump()["width"] == 5
    assert parse_trial(written.model_dump()) == written


@pytest.mark.usefixtures("folder")
def test_a_model_and_a_loss_are_trained_and_measured_by_a_metric_of_ones_own() -> None:
    data = load_data(DataSpec(source="shapes", limit=256, size=16, channels=1))
    learner = make_learner(trial(), len(data.classes), CPU, 0, image=data.image)

    score = Evaluator(("mine.py:brightness",), data, 200, CPU)(learner)["mine.py:brightness"]

    drawn = learner.sample(torch.zeros(4, 16), torch.zeros(4, dtype=torch.long))
    assert drawn.shape == (4, 1, 16, 16)
    assert METRICS["mine.py:brightness"].label == "difference of brightness"
    assert set(score.protocol["code"]) == {"mine.py", "mylayers.py"}
    assert 0 <= score.value < 255


def test_a_training_writes_checkpoints_that_refuse_other_code(folder: Path) -> None:
    (folder / "job.yaml").write_text(JOB)
    result = CliRunner().invoke(main, ["train", "--config", "job.yaml", "--out", "out"])
    assert result.exit_code == 0, result.output
    learner, content = load_sampler(folder / "out" / "best.pt", CPU)
    assert learner.latent_dim == 16
    assert set(content["plugins"]) == {"mine.py", "mylayers.py"}
    result = CliRunner().invoke(main, ["generate", "out", "--count", "4", "--out", "few.png"])
    assert result.exit_code == 0, result.output

    (folder / "mylayers.py").write_text(LAYERS + "# changed\n")
    forget()
    with pytest.raises(InputError, match=r"best.pt: was made with another mylayers.py"):
        load_sampler(folder / "out" / "best.pt", CPU)


def test_a_space_is_tried_out_and_its_settings_say_which_code_it_means(folder: Path) -> None:
    result = CliRunner().invoke(main, ["validate", "space.yaml"])
    assert result.exit_code == 0, result.output

    settings = load_space(folder / "space.yaml").settings()
    (folder / "mylayers.py").write_text(LAYERS + "# changed\n")
    forget()
    changed = load_space(folder / "space.yaml").settings()

    assert {key for key in settings if settings[key] != changed[key]} == {"plugins.mylayers.py"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("mine.py:Mine", "mine.py:Mien", "mine.py:Mien: mine.py has no Mien; did you mean 'Mine'?"),
        ("mine.py:Mine", "your.py:Mine", "your.py: no such file in "),
        ("mine.py:Mine", "mine.py:not_a_model", "must be a class derived from raygen.models.GanSp"),
        ("mine.py:Mine", "raygen.models:GanSpec", "raygen.models:GanSpec: has no build: see"),
        ("mine.py:Mine", "no_package:Mine", "no_package:Mine: there is no module no_package"),
        ("mine.py:Mine", "raygen.model:Mine", "no module raygen.model; did you mean 'raygen.mod"),
        ("mine.py:Mine", "raygen.best.x:Mine", "raygen.best is a module, and has no"),
        ("mine.py:squares", "mine.py:Mine", "is a ModelMetaclass, but must be a GanLoss"),
        ("mine.py:brightness", "mine.py:squares", "is a GanLoss, but must be a Metric"),
        ("width: {int", "widht: {int", "unknown name, choose from conditional, latent_dim, name, "
         "width; did you mean 'width'?"),
        ("{int: [4, 8]}", "{int: [-4, 8]}", "space.model.width: -4: must be above "),
    ],
)  # fmt: skip
def test_a_mistake_is_a_line_with_its_place_and_the_way_out(
    folder: Path, before: str, after: str, said: str
) -> None:
    (folder / "space.yaml").write_text(SPACE.replace(before, after))

    result = CliRunner().invoke(main, ["validate", "space.yaml"])

    assert result.exit_code == 2, result.output
    assert said in result.output
    assert result.output.startswith("error: space.yaml:"), result.output


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("import torch\n", "import torch\n1 / 0\n", "mine.py:3: ZeroDivisionError: division by"),
        ("import torch\n", "import torch\ndef\n", "mine.py:3: SyntaxError: "),
        ("linear(width, 1)", "linear(width + 1, 1)", "mat1 and mat2 shapes cannot be mul"),
        ("view(-1, *self.image.chw)", "view(-1, 3, 16, 64)", "mine.py"),
    ],
)  # fmt: skip
def test_an_error_of_the_users_code_is_shown_with_its_place(
    folder: Path, before: str, after: str, said: str
) -> None:
    (folder / "mine.py").write_text(MODEL.replace(before, after))

    result = CliRunner().invoke(main, ["validate", "space.yaml"])

    assert result.exit_code == 2, result.output
    assert said in result.output


def test_a_column_with_a_colon_is_no_code(folder: Path) -> None:
    space = SPACE.replace("mine.py:brightness", "fd_classifier")
    space = space.replace("limit: 256}", "labels: meta:kind}").replace(
        "samples: 200", "samples: 400"
    )
    (folder / "space.yaml").write_text(space)

    settings = load_space(folder / "space.yaml").settings()

    assert {key for key in settings if key.startswith("plugins.")} == {
        "plugins.mine.py", "plugins.mylayers.py"
    }  # fmt: skip


def test_code_is_not_looked_for_in_a_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = folder / "study"
    study.mkdir()
    for name in ("mine.py", "mylayers.py", "space.yaml"):
        (folder / name).rename(study / name)

    with pytest.raises(InputError, match=r"mine.py: no such file in .*RAYGEN_PLUGINS"):
        load_space(study / "space.yaml")
    monkeypatch.setenv("RAYGEN_PLUGINS", str(study))
    load_space(study / "space.yaml")


def test_another_process_gets_the_files_and_needs_no_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial()
    files = plugins.sources()
    forget()
    monkeypatch.setattr(plugins, "_folders", [])
    for file in folder.glob("*.py"):
        file.unlink()

    plugins.install(files)
    trial()

    assert plugins.sources() == files


def test_a_file_that_changed_or_lies_beside_another_yaml_is_imported_afresh(tmp_path: Path) -> None:
    """As in a notebook: a search, an edit, and a search; or two folders with files of one name."""
    forget()
    code = "from layers import WIDTH\nfrom raygen.metrics import metric\n\n"
    code += "@metric('maximize')\ndef width(images, real):\n    return WIDTH\n"
    values = []
    for folder, text in (("a", "WIDTH = 1"), ("b", "WIDTH = 2"), ("b", "WIDTH = 3")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "mine.py").write_text(code)
        (tmp_path / folder / "layers.py").write_text(text)
        plugins.look_in(tmp_path / folder)
        values.append(METRICS["mine.py:width"].computed_by(None, None))
        assert plugins.hashes(["mine.py:width"]).keys() == {"mine.py", "layers.py"}

    assert values == [1, 2, 3]
    kept = METRICS["mine.py:width"]
    plugins.look_in(tmp_path / "b")  # nothing changed
    assert METRICS["mine.py:width"] is kept


ENCODERS = """
import torch
from torch import nn
from raygen.metrics import Metric, encoder


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.share = nn.Linear(8 * 8, 5)

    def forward(self, images):
        grey = nn.functional.adaptive_avg_pool2d(images.float().mean(dim=1), 8)
        return self.share(grey.flatten(1) / 255)


@encoder(dim=5)
def half():
    return Half()


@encoder(dim=6)
def wrong():
    return Half()


@encoder(dim=5)
def no_module():
    return lambda images: images


@encoder(dim=5)
def fails():
    return nn.Linear(3, 5)


fd_half = half.frechet_distance("FD (half)")
kd_half = half.kernel_distance("KD (half)")
recall_half = Metric("maximize", ("gan",), "neighbours:RECALL", "recall", "", half, 100)
fd_wrong, fd_no_module, fd_fails = (
    e.frechet_distance("FD") for e in (wrong, no_module, fails)
)
"""


@pytest.mark.usefixtures("folder")
def test_distances_of_ones_own_encoder_are_those_of_its_features(folder: Path) -> None:
    """Against the formulas over features that are computed here, by the same network."""
    (folder / "encoders.py").write_text(ENCODERS)
    names = tuple(f"encoders.py:{name}" for name in ("fd_half", "kd_half", "recall_half"))
    data = load_data(DataSpec(source="shapes", limit=256, size=16, channels=1))
    evaluator = Evaluator(names, data, 400, CPU)
    learner = make_learner(trial(), len(data.classes), CPU, 0, image=data.image)
    scores = evaluator(learner)
    chunks = range(0, 400, CHUNK)
    images = torch.cat(
        [
            learner.sample(*draw_latents(learner, SAMPLE_SEED, index, min(CHUNK, 400 - start)))
            for index, start in enumerate(chunks)
        ]
    )
    half = METRICS[names[0]].features
    assert isinstance(half, FeatureEncoder)
    network = encoder_network(half, CPU)
    drawn, real = (network(x).double().numpy() for x in (images, data.train.images))
    gap = ((drawn.mean(0) - real.mean(0)) ** 2).sum()
    a, b = np.cov(drawn, rowvar=False), np.cov(real, rowvar=False)
    cross = scipy.linalg.sqrtm(a @ b).real
    assert scores[names[0]].value == pytest.approx(gap + np.trace(a + b - 2 * cross), rel=1e-4)
    assert set(scores) == set(names)
    protocol = scores[names[0]].protocol
    assert protocol["encoder"] == "encoders.py:half"
    # Of one network: its images are encoded once for the three.
    assert list(evaluator.extractors) == ["encoders.py:half"]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("fd_wrong", "encoders.py:wrong: turns 2 images into features (2, 5), but says dim=6"),
        ("fd_no_module", "encoders.py:no_module: returns a function, but must return a torch.nn"),
        ("fd_fails", "encoders.py:fails: RuntimeError: mat1 and mat2 must have the same dtype"),
    ],
)
def test_a_mistake_in_an_encoder_is_a_line_before_anything_starts(
    folder: Path, metric: str, said: str
) -> None:
    (folder / "encoders.py").write_text(ENCODERS)
    data = load_data(DataSpec(source="shapes", limit=256, size=16, channels=1))
    with pytest.raises(InputError) as caught:
        Evaluator((f"encoders.py:{metric}",), data, 400, CPU)
    assert str(caught.value).startswith(said)

    space = SPACE.replace("mine.py:brightness", f"encoders.py:{metric}")
    (folder / "space.yaml").write_text(space)
    result = CliRunner().invoke(main, ["validate", "space.yaml"])
    assert result.exit_code == 2
    assert said.partition(" ")[0] in result.output


MISTAKES = """
import torch
from torch import nn
from raygen.losses.adversarial import GanLoss
from raygen.metrics import metric
from raygen.models import GanNets, GanSpec
from mine import Critic, Generator, Mine


@metric("minimize")
def two(images, real):
    return torch.zeros(2)


@metric("minimize")
def word(images, real):
    return "good"


def undecorated(images, real):
    return 0.0


class Unlabelled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 3)

    def forward(self, latents):
        return self.layer(latents)


class NoLabels(Mine):
    def build(self, image, classes):
        return GanNets(Unlabelled(), Critic(4, image))
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mine.py:brightness", "bad.py:two", "returned shape (2,), but must return one number"),
        ("mine.py:brightness", "bad.py:word", "returned a str, but must return one number"),
        ("mine.py:brightness", "bad.py:undecorated", 'put @metric("minimize") or @metric('),
        ("mine.py:Mine", "bad.py:NoLabels", "a generator is called with (latents, labels)"),
    ],
)
@pytest.mark.parametrize("command", [["validate"], ["tune", "--dry-run"]])
def test_what_the_users_code_does_wrong_is_said_before_a_search(
    folder: Path, command: list[str], old: str, new: str, said: str
) -> None:
    (folder / "bad.py").write_text(MISTAKES)
    (folder / "space.yaml").write_text(SPACE.replace(old, new))

    result = CliRunner().invoke(main, [*command, "space.yaml"])

    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "from raygen.models import GanSpec\n\nclass M(GanSpec):\n    nz: int = 8\n",
            "m.py:3: TypeError: M needs a field latent_dim",
        ),
        (
            "from raygen.models import TrainerSpec\n\nclass M(TrainerSpec):\n    nz: int = 8\n",
            "m.py:3: TypeError: M needs a field latent_dim",
        ),
        (
            "from raygen.metrics import metric\n\n@metric('smaller')\ndef M(a, b):\n    return 0\n",
            "m.py:3: ValueError: direction 'smaller': choose minimize or maximize",
        ),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_class_or_a_metric_that_lacks_what_it_needs_is_refused_where_it_is_written(
    tmp_path: Path, code: str, said: str
) -> None:
    (tmp_path / "m.py").write_text(code)
    plugins.look_in(tmp_path)

    with pytest.raises(InputError) as caught:
        plugins.resolve("m.py:M")

    assert said in str(caught.value)
