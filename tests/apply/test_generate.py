"""Every form of the same images, at constant memory, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import raygen
from apply.models import shapes, write_checkpoint
from data.test_read import write_parquet
from raygen.apply.generate import sample_chunks
from raygen.apply.image_writer import write_folder, write_npz
from raygen.cli import main
from raygen.data import DataSpec, load_data
from raygen.data.pictures import tile
from raygen.errors import InputError
from raygen.metrics.model import draw_latents
from raygen.training.checkpoint import load_sampler


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gan") / "best.pt"
    return write_checkpoint(place, "dcgan", shapes(64, 32), conditional=True)


def generate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["generate", *map(str, arguments)])


def images_of(path: Path) -> np.ndarray:
    return np.load(path)["images"]


def test_a_streamed_archive_has_the_bytes_of_numpy_s(gan: Path, tmp_path: Path) -> None:
    model, _ = load_sampler(gan, torch.device("cpu"))
    parts = list(sample_chunks(model, 600, seed=4))
    whole = io.BytesIO()
    pixels = torch.cat([images for images, _ in parts]).permute(0, 2, 3, 1).numpy()
    np.savez_compressed(whole, images=pixels, labels=torch.cat([of for _, of in parts]).numpy())

    write_npz(iter(parts), tmp_path / "a.npz", 600, shard=None)

    assert (tmp_path / "a.npz").read_bytes() == whole.getvalue()


def test_shards_are_the_archive_in_pieces(gan: Path, tmp_path: Path) -> None:
    generate(gan, "--count", 560, "--out", tmp_path / "a.npz")

    result = generate(gan, "--count", 560, "--shard", 240, "--out", tmp_path / "b.npz")

    pieces = sorted(tmp_path.glob("b-*.npz"))
    assert [path.name for path in pieces] == ["b-0.npz", "b-1.npz", "b-2.npz"]
    assert result.stdout.strip() == str(pieces[0])
    joined = np.concatenate([images_of(path) for path in pieces])
    assert np.array_equal(joined, images_of(tmp_path / "a.npz"))


def test_many_images_lie_in_folders_of_equal_size_by_number(
    gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raygen.apply.image_writer.PER_FOLDER", 4)
    model, _ = load_sampler(gan, torch.device("cpu"))
    images = next(iter(sample_chunks(model, 10, seed=0)))[0]

    write_folder(sample_chunks(model, 10, seed=0), tmp_path / "many", 10)

    files = sorted((tmp_path / "many").rglob("*.png"))
    assert [str(f.relative_to(tmp_path / "many")) for f in files][3:6] == [
        "0/3.png", "1/4.png", "1/5.png",
    ]  # fmt: skip
    read = np.stack([np.asarray(Image.open(file)) for file in files])
    assert np.array_equal(read, images.permute(0, 2, 3, 1).numpy())


def test_chunks_are_drawn_one_by_one(gan: Path, tmp_path: Path) -> None:
    alive = []

    def stream():
        for number in range(8):
            alive.append(number)
            yield torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(2, dtype=torch.long)
            written = list((tmp_path / "f").glob("*.png"))
            assert len(written) == 2 * (number + 1)

    write_folder(stream(), tmp_path / "f", 16)
    assert alive == list(range(8))


def test_a_loop_has_every_frame_and_never_ends(gan: Path, tmp_path: Path) -> None:
    result = generate(gan, "--count", 3, "--interpolate", 5, "--out", tmp_path / "a.gif")

    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "a.gif") as loop:
        assert (loop.n_frames, loop.size, loop.info["loop"]) == (15, (128, 128), 0)


def test_interpolation_strips_begin_with_the_plain_images(gan: Path, tmp_path: Path) -> None:
    generate(gan, "--count", 3, "--out", tmp_path / "a.npz")
    generate(gan, "--count", 3, "--interpolate", 4, "--out", tmp_path / "b.npz")
    generate(gan, "--count", 3, "--interpolate", 4, "--out", tmp_path / "b.png")

    strips = images_of(tmp_path / "b.npz")
    assert strips.shape[0] == 12
    difference = strips[::4].astype(int) - images_of(tmp_path / "a.npz")
    assert np.abs(difference).max() <= 1
    assert Image.open(tmp_path / "b.png").size == (4 * 32, 3 * 32)


def test_a_texture_is_one_image_mirrored(gan: Path, tmp_path: Path) -> None:
    generate(gan, "--count", 1, "--out", tmp_path / "a.npz")
    generate(gan, "--tile", 4, "--out", tmp_path / "t.png")

    texture = np.asarray(Image.open(tmp_path / "t.png"))
    image = images_of(tmp_path / "a.npz")[0]
    assert texture.shape == (128, 128, 3)
    assert np.array_equal(texture[:32, :32], image)
    assert np.array_equal(texture[32:64, :32], image[::-1])


def test_truncated_images_vary_less(gan: Path, tmp_path: Path) -> None:
    spread = {}
    for threshold in (0.05, 3):
        out = tmp_path / f"{threshold}.npz"
        generate(gan, "--class", "circle", "--truncation", threshold, "--out", out)
        spread[threshold] = images_of(out).std(axis=0).mean()

    assert spread[0.05] < 0.5 * spread[3]


@pytest.mark.parametrize("name", ["dcgan", "conv_vae", "ladder_vae"])
def test_a_temperature_draws_from_latents_that_it_scales(name: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", name, shapes(64, 32))
    learner = load_sampler(path, torch.device("cpu"))[0]
    latents, labels = draw_latents(learner, 0, 0, 6)

    spread = {}
    for temperature in (0.01, 0.7, 1):
        out = tmp_path / f"{temperature}.npz"
        result = generate(path, "--count", 6, "--temperature", temperature, "--out", out)
        assert result.exit_code == 0, result.output
        expected = learner.sample(temperature * latents, labels).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(images_of(out), expected)
        assert np.array_equal(api_images(path, temperature), expected)
        spread[temperature] = images_of(out).std(axis=0).mean()

    assert spread[0.01] < 0.2 * spread[0.7] < 0.2 * spread[1]


def api_images(path: Path, temperature: float) -> np.ndarray:
    """What raygen.Generator draws: of a number of images, and of their latents, the same."""
    generator = raygen.Generator(path, device="cpu")
    images = generator(6, temperature=temperature)
    latents, _ = draw_latents(generator.learner, 0, 0, 6)
    assert torch.equal(generator(latents, temperature=temperature), images)
    return images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1.6, float("nan"), float("inf")])
def test_python_refuses_what_is_no_temperature(gan: Path, temperature: float) -> None:
    with pytest.raises(InputError, match=r"temperature .*: must be above 0 and at most 1.5"):
        raygen.Generator(gan, device="cpu")(2, temperature=temperature)


def test_more_like_a_picture_begins_with_what_resembles_it(
    gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raygen.apply.explore.STEPS", 5)
    generate(gan, "--count", 1, "--out", tmp_path / "p.png")
    for spread in (0, 0.9):
        out = tmp_path / f"{spread}.npz"
        like = ("--like", tmp_path / "p.png", "--spread", spread)
        assert generate(gan, *like, "--count", 6, "--out", out).exit_code == 0

    same, varied = images_of(tmp_path / "0.npz"), images_of(tmp_path / "0.9.npz")
    assert np.abs(same.astype(int) - same[:1]).max() <= 1
    assert np.array_equal(same[0], varied[0])
    assert np.abs(varied[1:].astype(int) - varied[:1]).max() > 1


BAD = {
    "ending": (("--out", "x.jpg"), "must end in"),
    "class": (("--class", "unicorn"), "no such class"),
    "picture": (("--like", "missing.png"), "missing.png: no such file"),
    "both": (("--like", "a.png", "--interpolate", "3"), "choose one"),
    "shard": (("--shard", "3", "--out", "x.png"), "is not an .npz"),
    "data": (("--class", "circle", "--data", "nowhere"), "not found"),
    "tile": (("--tile", "1"), "--tile"),
    "truncation": (("--truncation", "0"), "--truncation"),
    "no temperature": (("--temperature", "0"), "--temperature"),
    "too hot": (("--temperature", "1.6"), "--temperature"),
    "nan degrees": (("--temperature", "nan"), "--temperature nan: must be above 0 and at most 1.5"),
    "both, of one kind": (("--temperature", "0.5", "--truncation", "1"), "choose one"),
    "scaled picture": (("--temperature", "0.5", "--like", "a.png"), "choose one"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_line_and_writes_nothing(
    mistake: str, gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, text = BAD[mistake]

    result = generate(gan, *arguments)

    assert result.exit_code == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    """Named classes stay where no training image is of them: Hugging Face data says all names."""
    few = shapes(64, 32)
    for name, split in (("train", few.train), ("test", few.test)):
        kept = split.labels != 3
        cells = [png(image) for image in split.images[kept]]
        labels = split.labels[kept].tolist()
        write_parquet(tmp_path / "few" / f"{name}.parquet", cells, labels, list(few.classes))
    data = load_data(DataSpec(path=str(tmp_path / "few")))
    assert data.classes == few.classes
    path = write_checkpoint(tmp_path / "best.pt", "dcgan", data, conditional=True)

    result = generate(path, "--class", data.classes[3], "--data", tmp_path / "few")

    assert result.exit_code == 2
    assert "no training image has this class" in result.stderr


def png(image: torch.Tensor) -> bytes:
    content = io.BytesIO()
    tile(image.unsqueeze(0), 1).save(content, "PNG")
    return content.getvalue()
