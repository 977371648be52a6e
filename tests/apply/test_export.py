"""Exported files draw what the checkpoint draws, with any batch size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from apply.models import TINY, shapes, write_checkpoint
from raygen.apply import export as module
from raygen.cli import main
from raygen.metrics.model import draw_latents
from raygen.training.checkpoint import load_sampler

SLOW = {
    "biggan",
    "sngan",
    "r3gan",
    "style_gan",
    "ladder_vae",
    "conv_vae",
}  # five seconds or more to trace
CASES = [
    pytest.param(name, ending, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in TINY
    for ending in ("onnx", "pt2")
]


def export(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_every_architecture_draws_the_same_images_from_its_file(
    name: str, ending: str, tmp_path: Path
) -> None:
    conditional = name in ("dcgan", "biggan", "r3gan", "style_gan")
    path = write_checkpoint(tmp_path / "best.pt", name, shapes(32, 16), conditional)
    out = tmp_path / f"model.{ending}"

    result = export(path, "--out", out)

    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    learner, _ = load_sampler(path, torch.device("cpu"))
    latents, labels = draw_latents(learner, 99, 0, 7)
    if ending == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        given = {"latents": latents.numpy(), "labels": labels.numpy()}
        names = [each.name for each in session.get_inputs()]
        assert names == (["latents", "labels"] if conditional else ["latents"])
        (images,) = session.run(None, {each: given[each] for each in names})
    else:
        program = torch.export.load(out).module()
        images = program(*((latents, labels) if conditional else (latents,))).numpy()
    assert images.dtype == np.float32
    drawn = learner.sample(latents, labels).numpy()
    assert drawn.std() > 5  # something is drawn
    assert np.abs(images * 255 - drawn).max() < 0.51
    card = (tmp_path / "model.md").read_text()
    for fact in (name, "fd_classifier", "41.25", "Not tested", "shapes"):
        assert fact in card


def test_pixels_of_eight_bits_are_those_of_generate(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", shapes(32, 16), conditional=True)

    result = export(path, "--uint8", "--out", tmp_path / "m.pt2", "--json")

    assert json.loads(result.stdout)["difference"] <= 1 / 255
    learner, _ = load_sampler(path, torch.device("cpu"))
    latents, labels = draw_latents(learner, 1, 0, 5)
    images = torch.export.load(tmp_path / "m.pt2").module()(latents, labels)
    assert images.dtype == torch.uint8
    assert int((images.int() - learner.sample(latents, labels).int()).abs().max()) <= 1


def test_a_file_that_draws_something_else_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", shapes(32, 16))
    monkeypatch.setattr(
        module, "_pt2", lambda *_: lambda latents, labels: torch.zeros(len(latents), 3, 32, 32)
    )

    result = export(path, "--out", tmp_path / "m.pt2")

    assert result.exit_code == 1
    assert "differ from those of the checkpoint" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.pt"]


def test_a_missing_package_is_one_line_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", shapes(32, 16))
    find = module.importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )

    result = export(path, "--out", tmp_path / "m.onnx")

    assert result.exit_code == 2
    assert "uv sync --extra export" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_other_endings_and_other_files_are_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", shapes(32, 16))
    (tmp_path / "x.pt").write_bytes(b"nothing")

    for source, out, text in (
        (path, "m.h5", "must end in .onnx or .pt2"),
        (tmp_path / "x.pt", "m.pt2", "not a readable checkpoint"),
    ):
        result = export(source, "--out", tmp_path / out)
        assert result.exit_code == 2
        assert text in result.stderr


@pytest.mark.parametrize("name", ["dcgan", "conv_vae"])
def test_a_folder_for_the_hub_holds_the_same_model_and_every_command_reads_it(
    tmp_path: Path, name: str
) -> None:
    path = write_checkpoint(tmp_path / "best.pt", name, shapes(32, 16), name == "dcgan")
    folder = tmp_path / "hub" / "model"

    result = export(path, "--to-hf", folder)

    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(folder)
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "samples.png",
    ]  # fmt: skip
    kept = torch.load(path, weights_only=True)["learner"]["average"]
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == kept.keys()
    assert all(torch.equal(stored[key], kept[key]) for key in kept)
    card = (folder / "README.md").read_text()
    facts = yaml.safe_load(card.split("---\n")[1])
    assert facts["library_name"] == "raygen"
    assert facts["model-index"][0]["results"][0]["metrics"][0]["value"] == 41.25
    pictures = []
    for source in (path, folder, folder / "model.safetensors"):
        out = tmp_path / f"{len(pictures)}.npz"
        words = ["generate", source, "--count", 5, "--out", out]
        assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
        pictures.append(np.load(out)["images"])
    assert np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[2])
    assert export(path, "--to-hf", folder).exit_code == 2  # it is not empty
    assert export(path, "--to-hf", tmp_path / "x", "--uint8").exit_code == 2
    (folder / "config.json").write_text("[]")
    broken = CliRunner().invoke(main, ["generate", str(folder), "--count", "4"])
    assert broken.exit_code == 2
    assert len(broken.stderr.splitlines()) == 1
