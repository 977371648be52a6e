"""augment and audit as a user meets them: from a checkpoint to files, and what is refused."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from apply.models import shapes, write_checkpoint
from raygen.cli import main


@pytest.fixture(scope="module", autouse=True)
def small_shapes() -> object:
    """`--data shapes` in these tests: few images, so that classifiers are quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raygen.data.SHAPES_TRAIN", 300)
        patch.setattr("raygen.data.SHAPES_TEST", 120)
        yield


def raygen(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def refused(result: Result, text: str) -> None:
    assert result.exit_code == 2
    assert text in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("error")]) == 1


def test_an_audit_is_written_beside_the_checkpoint_with_its_pairs(tmp_path: Path) -> None:
    data = shapes(300, 120)
    write_checkpoint(tmp_path / "best.pt", "dcgan", data)
    write_checkpoint(tmp_path / "last.pt", "dcgan", data, full=True)

    result = raygen("audit", tmp_path, "--samples", 100, "--json")

    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "audit.json").read_text())
    assert found == json.loads(result.stdout)
    assert found["membership"]["by"] == "discriminator"
    assert found["membership_of"]["checkpoint"] == "last.pt"
    assert len(found["model"]["checkpoint_hash"]) == 16
    with Image.open(tmp_path / "audit.png") as pairs:
        assert pairs.size == (8 * 32, 6 * 32)
    first = (tmp_path / "audit.json").read_bytes()
    raygen("audit", tmp_path, "--samples", 100)
    assert (tmp_path / "audit.json").read_bytes() == first


def test_without_its_discriminator_a_gan_has_no_membership_test(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", shapes(300, 120))

    result = raygen("audit", path, "--samples", 100)

    assert result.exit_code == 0, result.output
    assert "membership: not tested" in result.stdout
    assert "private" not in result.stdout


def test_a_vae_is_audited_by_its_elbo(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", "conv_vae", shapes(300, 120))

    found = json.loads(raygen("audit", path, "--samples", 100, "--json").stdout)

    assert found["membership"]["by"] == "elbo"
    assert found["membership"]["low"] <= 0.5 <= found["membership"]["high"]


def test_augment_is_written_beside_the_checkpoint_and_shown(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", shapes(300, 120), conditional=True)

    result = raygen("augment", path, "--samples", 100, "--steps", 2, "--seeds", 1)

    assert result.exit_code == 0, result.output
    assert "labels: conditional" in result.stdout
    found = json.loads((tmp_path / "augment.json").read_text())
    assert {arm["fraction"] for arm in found["arms"]} == {0.01, 0.1, 1.0}
    assert found["settings"]["steps"] == 2


@pytest.mark.parametrize("command", ["augment", "audit"])
def test_what_cannot_be_used_is_refused_in_one_line(command: str, tmp_path: Path) -> None:
    data = shapes(300, 120)
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", data)
    other = write_checkpoint(tmp_path / "other.pt", "dcgan", data._replace(name="photos"))
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"x")
    (tmp_path / "empty").mkdir()

    refused(raygen(command, other), "add --data PATH")
    refused(raygen(command, path, "--data", tmp_path / "nowhere"), "not found")
    refused(raygen(command, broken), "not a readable checkpoint")
    refused(raygen(command, tmp_path / "empty"), "neither a checkpoint")
    wrong = write_checkpoint(tmp_path / "w.pt", "dcgan", data._replace(fingerprint="0" * 16))
    refused(raygen(command, wrong, "--data", "shapes"), "not the images that")
    assert raygen(command, path, "--samples", 3).exit_code == 2
    assert not list(tmp_path.glob("*.json"))


def test_a_model_card_quotes_the_audit_of_the_same_checkpoint_only(tmp_path: Path) -> None:
    data = shapes(300, 120)
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", data)
    raygen("audit", path, "--samples", 100)

    raygen("export", path, "--out", tmp_path / "m.pt2")
    quoted = (tmp_path / "m.md").read_text()
    write_checkpoint(path, "dcgan", data, conditional=True)
    raygen("export", path, "--out", tmp_path / "m.pt2")
    other = (tmp_path / "m.md").read_text()

    assert "of 100 generated images lie nearer" in quoted
    assert "Not tested. To test it, run `raygen audit`." in other
