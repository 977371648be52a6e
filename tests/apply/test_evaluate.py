"""raygen evaluate: the same numbers as the evaluator's, and one line for every mistake."""

import json
import math
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from raygen.cli import main
from raygen.data import DataSpec, ImageData, load_data
from raygen.metrics import METRICS, Score, classifier, inception, protocol_hash
from raygen.metrics.classifier import train_classifier
from raygen.metrics.evaluator import SAMPLE_SEED, Evaluator
from raygen.models.conv_vae import ConvVae
from raygen.models.dcgan import Dcgan
from raygen.training.checkpoint import checkpoint, save
from raygen.training.loop import Progress, make_learner
from raygen.trial import Ema, GanTrial, Trial, VaeTrial

CPU = torch.device("cpu")
COUNT = 400
GAN = GanTrial(model=Dcgan(latent_dim=8, width=4), ema=Ema(half_life_kimg=0.2), batch_size=16)
VAE = VaeTrial(model=ConvVae(latent_dim=4, width=4), ema=Ema(half_life_kimg=0.2), batch_size=16)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache and one data set for all: the classifier is trained once."""
    root = tmp_path_factory.mktemp("evaluate")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (700, 32, 32, 3), np.uint8) // 4 * 3
    np.savez(root / "real.npz", images=images, labels=np.arange(700) % 4)
    np.savez(root / "other.npz", images=images[::-1], labels=np.arange(700) % 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYGEN_CACHE", str(root / "cache"))
        patch.setattr(classifier, "train_classifier", partial(train_classifier, steps=3))
        yield root
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(place: Path) -> ImageData:
    return load_data(DataSpec(path=str(place / "real.npz")))


@pytest.fixture(scope="module")
def gan(place: Path, data: ImageData) -> Path:
    return write_trial(place / "gan", GAN, data)


@pytest.fixture(scope="module")
def vae(place: Path, data: ImageData) -> Path:
    return write_trial(place / "vae", VAE, data)


def write_trial(folder: Path, trial: Trial, data: ImageData) -> Path:
    learner = make_learner(trial, len(data.classes), CPU, seed=3)
    state: dict[str, Any] = {}
    fields = dict.fromkeys(Progress._fields, 0.0)
    progress = Progress(**{**fields, "scores": {}, "learner": learner, "state": state})  # pyright: ignore
    save(folder / "best.pt", checkpoint(trial, 3, data.summary(), progress, full=False))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def refusal(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    return result.stderr.removeprefix("error: ").strip()


def measured(*arguments: object) -> list[dict[str, Any]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["evaluations"]


def direct(folder: Path, data: ImageData, metrics: tuple[str, ...], seed: int) -> dict[str, Score]:
    from raygen.training.checkpoint import load_sampler

    learner, _ = load_sampler(folder / "best.pt", CPU)
    return Evaluator(metrics, data, COUNT, CPU)(learner, seed=seed)


def test_a_trial_is_measured_as_during_training(gan: Path, place: Path, data: ImageData) -> None:
    metrics = ("fd_classifier", "kd_classifier", "precision_classifier")

    (found,) = measured(gan, "--metrics", ",".join(metrics), "--samples", COUNT,
                        "--data", place / "real.npz")  # fmt: skip

    expected = direct(gan, data, metrics, SAMPLE_SEED)
    for name in metrics:
        entry = found["metrics"][name]
        assert entry["value"] == expected[name].value
        assert entry["hash"] == protocol_hash(expected[name].protocol)
        assert entry["protocol"] == expected[name].protocol


def test_several_seeds_give_their_mean_and_standard_deviation(
    gan: Path, place: Path, data: ImageData
) -> None:
    seeds = ("--seed", 1, "--seed", 2, "--seed", 3)

    (found,) = measured(gan, "--metrics", "fd_classifier,million_parameters", "--samples", COUNT,
                        *seeds, "--data", place / "real.npz")  # fmt: skip

    values = [direct(gan, data, ("fd_classifier",), s)["fd_classifier"].value for s in (1, 2, 3)]
    entry = found["metrics"]["fd_classifier"]
    assert entry["each"] == values
    assert entry["value"] == pytest.approx(statistics.mean(values))
    assert entry["sd"] == pytest.approx(statistics.stdev(values))
    assert entry["protocol"]["sample_seed"] == [1, 2, 3]
    assert found["metrics"]["million_parameters"]["sd"] is None


def test_the_result_lies_beside_the_trial_and_grows_with_each_metric(
    gan: Path, place: Path
) -> None:
    file = gan / "evaluation.json"
    common = "--samples", COUNT, "--data", place / "real.npz"
    run(gan, "--metrics", "fd_classifier", *common)
    run(gan / "best.pt", "--metrics", "recall_classifier", *common)

    content = json.loads(file.read_text())

    assert {"fd_classifier", "recall_classifier"} <= set(content["metrics"])
    assert content["metrics"]["fd_classifier"]["protocol"]["samples"] == COUNT
    assert content["schema"] == 1


def test_rate_and_distortion_sum_to_bits_per_dim(vae: Path, place: Path) -> None:
    (found,) = measured(vae, "--metrics", "rate,distortion,bits_per_dim,elbo", "--samples", 70,
                        "--data", place / "real.npz")  # fmt: skip

    values = {name: entry["value"] for name, entry in found["metrics"].items()}
    assert values["rate"] + values["distortion"] == pytest.approx(values["bits_per_dim"], rel=1e-6)
    assert values["rate"] > 0
    assert values["elbo"] == pytest.approx(-values["bits_per_dim"] * 3072 * math.log(2))


def test_stored_samples_of_a_model_score_as_the_model_does(
    gan: Path, place: Path, tmp_path: Path
) -> None:
    """An .npz and a folder of its samples: other origins, and the same way of measuring."""
    from raygen.metrics.model import draw_latents
    from raygen.training.checkpoint import load_sampler

    learner, _ = load_sampler(gan / "best.pt", CPU)
    chunks = [
        learner.sample(*draw_latents(learner, SAMPLE_SEED, i, n)) for i, n in ((0, 250), (1, 150))
    ]
    images = torch.cat(chunks).permute(0, 2, 3, 1).numpy()
    np.savez_compressed(tmp_path / "x.npz", images=images)
    (tmp_path / "folder").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "folder" / f"{number:03d}.png")

    found = measured(gan, tmp_path / "x.npz", tmp_path / "folder", "--metrics",
                     "fd_classifier,coverage_classifier",
                     "--samples", COUNT, "--data", place / "real.npz")  # fmt: skip

    for name in found[0]["metrics"]:
        values = [one["metrics"][name]["value"] for one in found]
        assert values[1:] == [values[0]] * 2
    assert not (tmp_path / "folder" / "evaluation.json").exists()


def test_values_of_several_sources_are_laid_out_with_their_protocols(
    place: Path, data: ImageData, gan: Path
) -> None:
    np.savez(place / "fake.npz", images=np.zeros((COUNT, 32, 32, 3), np.uint8))

    result = run(place / "fake.npz", gan, "--metrics", "fd_classifier", "--samples", COUNT,
                 "--data", place / "real.npz")  # fmt: skip

    lines = result.stdout.splitlines()
    assert lines[0].split() == ["metric", "value", "protocol", "source"]
    assert [line.split()[-1] for line in lines[1:]] == [str(place / "fake.npz"), str(gan)]


def test_sources_that_were_trained_on_other_images_are_not_compared(
    gan: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raygen.apply import evaluate as module

    other = load_data(DataSpec(path=str(place / "other.npz")))
    second = write_trial(tmp_path / "second", GAN, other)
    paths = {gan / "best.pt": place / "real.npz", second / "best.pt": place / "other.npz"}
    monkeypatch.setattr(
        module, "find_data", lambda path, *_: load_data(DataSpec(path=str(paths[path])))
    )

    message = refusal(gan, second, "--metrics", "fd_classifier", "--samples", COUNT)

    assert message.startswith(f"fd_classifier of {gan} (")
    assert "are not comparable: " in message
    assert "data_hash" in message
    assert not (second / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("metrics", "samples", "message"),
    [
        ("fd_clasifier", COUNT, "fd_clasifier: no such metric; did you mean 'fd_classifier'?"),
        ("fd_classifier", 300, "--samples 300: fd_classifier needs 353 or more for a covariance"),
        ("kd_classifier", 20, "--samples 20: kd_classifier needs 100 or more"),
        ("elbo", COUNT, "--metrics elbo: not available for"),
    ],
)  # fmt: skip
def test_a_metric_that_cannot_be_had_is_refused(
    gan: Path, place: Path, metrics: str, samples: int, message: str
) -> None:
    arguments = "--metrics", metrics, "--samples", samples, "--data", place / "real.npz"

    assert message in refusal(gan, *arguments)


def test_missing_and_broken_sources_are_refused(place: Path, gan: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    (tmp_path / "big").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "big" / "a.png")
    for name in ("bad", "big"):
        for number in range(120):
            Image.new("RGB", (32, 32)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "torn.pt").write_bytes((gan / "best.pt").read_bytes()[:5000])
    np.savez(tmp_path / "grey.npz", images=np.zeros((9, 28, 28), np.uint8))
    content = torch.load(gan / "best.pt")
    content["trial"]["model"]["width"] = 8
    torch.save(content, tmp_path / "wide.pt")
    common = "--metrics", "kd_classifier", "--samples", 121, "--data", place / "real.npz"

    for name, message in {
        "nothing.pt": "no such checkpoint, study, folder or .npz",
        "empty": "no pictures in it",
        "bad": "a.png: not a readable picture",
        "big": "a.png: 64x64, but the real images are 32x32 colour",
        "torn.pt": "not a readable checkpoint",
        "grey.npz": "has shape (9, 28, 28), not (n, 32, 32, 3)",
        "wide.pt": "learner.average.project.weight: is float32 [512, 8], but its model has",
    }.items():
        assert message in refusal(tmp_path / name, *common), name


def test_images_alone_need_data_enough_of_them_and_a_metric_of_samples(place: Path) -> None:
    np.savez(place / "few.npz", images=np.zeros((120, 32, 32, 3), np.uint8))
    few, real = place / "few.npz", place / "real.npz"

    assert "add --data PATH" in refusal(few, "--metrics", "kd_classifier")
    assert "has 120 images, fewer than --samples 500" in refusal(
        few, "--metrics", "kd_classifier", "--samples", 500, "--data", real
    )
    assert "--metrics elbo: needs a model" in refusal(few, "--metrics", "elbo", "--data", real)
    assert "--samples 120: fd_classifier needs 353" in refusal(
        few, "--metrics", "fd_classifier", "--data", real
    )


def test_data_other_than_that_of_the_training_is_refused(gan: Path, place: Path) -> None:
    message = refusal(gan, "--metrics", "kd_classifier", "--data", place / "other.npz")

    assert "not the images that" in message


def test_inception_weights_with_a_wrong_hash_are_refused(gan: Path, place: Path) -> None:
    pytest.importorskip("torch_fidelity")
    file = place / "cache" / inception.FILE
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"something else")
    try:
        message = refusal(gan, "--metrics", "kid", "--data", place / "real.npz")
    finally:
        file.unlink()

    assert "not 6726825d: delete it and run again" in message


def test_dinov2_that_torch_hub_has_not_fetched_is_explained(
    gan: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setenv("TORCH_HOME", str(place / "hub"))

    message = refusal(gan, "--metrics", "fd_dinov2", "--data", place / "real.npz")

    assert "hubconf.py: fd_dinov2 needs it; get it once by python -c" in message


def test_every_metric_has_a_name_in_the_report() -> None:
    from raygen.report.labels import METRICS as LABELS

    assert set(METRICS) <= set(LABELS)
