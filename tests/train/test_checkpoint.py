"""Checkpoints: no code from a file, no half files, one line for every thing that is wrong."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from raygen.config import Trial
from raygen.data import ImageData
from raygen.errors import InputError
from raygen.folders import TrialFolder
from raygen.metrics.evaluate import Evaluator
from raygen.metrics.model import draw_latents
from raygen.train.checkpoint import checkpoint, load, load_full, load_sampler, save
from raygen.train.loop import Progress, fit
from raygen.train.record import record

CPU = torch.device("cpu")
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from raygen.errors import RaygenError
from raygen.train.checkpoint import save

path = Path(sys.argv[1])
save(path, {"format": 1, "old": torch.arange(4)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save(path, {"format": 1, "new": torch.randn(100_000)})
except RaygenError as error:
    print(type(error).__name__, error)
"""


class Evil:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [lambda x, p: p.write_bytes(pickle.dumps(x)), torch.save])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_loading_executes_no_code_from_the_file(write: Any, tmp_path: Path) -> None:
    write({"format": 1, "learner": Evil(tmp_path / "hacked")}, tmp_path / "evil.pt")

    with pytest.raises(InputError, match=r"evil\.pt: not a readable checkpoint"):
        load(tmp_path / "evil.pt", CPU)

    assert not (tmp_path / "hacked").exists()


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"last\.pt: no such checkpoint"):
        load(tmp_path / "last.pt", CPU)


def test_a_folder_is_not_a_readable_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load(tmp_path, CPU)


def test_a_checkpoint_truncated_anywhere_is_an_input_error(
    gan: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    path, cut = tmp_path / "last.pt", tmp_path / "cut.pt"
    save(path, checkpoint(gan, 0, data.summary(), _train(gan, data, evaluator), full=False))
    whole = path.read_bytes()

    for size in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut\.pt: not a readable checkpoint"):
            load(cut, CPU)


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"{}",
        b"\x80\x02.",
        b"\x80\x04K\x01.",
        b"PK\x03\x04",
        b"\n" * 9,
        b"(dp0\n.",
        bytes(64),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_of_another_kind_is_an_input_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.pt"
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"notes\.pt: not a"):
        load(path, CPU)


@pytest.mark.parametrize(
    "content", [{"weight": torch.ones(2)}, [1, 2], torch.ones(3), {"format": 99}]
)
def test_a_file_that_torch_saved_for_someone_else_is_an_input_error(
    content: Any, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "other.pt")

    with pytest.raises(InputError, match=r"other\.pt: not a raygen checkpoint of format 1"):
        load(tmp_path / "other.pt", CPU)


def test_a_full_disk_is_one_line_and_leaves_the_old_checkpoint_alone(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)],
        env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.startswith(f"StorageError {path}: could not be written")
    assert done.stdout.count("\n") == 1
    assert torch.equal(load(path, CPU)["old"], torch.arange(4))
    assert list(tmp_path.iterdir()) == [path]


def test_best_holds_no_optimiser_so_training_cannot_go_on_from_it(
    trial: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    folder = TrialFolder(tmp_path)
    record(folder, trial, 0, data.summary(), _train(trial, data, evaluator))

    assert not any("adam" in key for key in load(folder.best, CPU)["learner"])
    assert any("adam" in key for key in load_full(folder.last, CPU)["learner"])
    with pytest.raises(InputError, match=r"best\.pt: holds no optimiser state"):
        load_full(folder.best, CPU)


def test_a_diverged_milestone_leaves_only_its_pictures(
    gan: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    folder = TrialFolder(tmp_path)
    progress = _train(gan, data, evaluator)._replace(diverged="collapse")

    record(folder, gan, 0, data.summary(), progress)

    pictures = {folder.samples(progress.kimg), folder.picture("interpolation", progress.kimg)}
    assert set(tmp_path.iterdir()) == pictures


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_loaded_sampler_makes_the_images_of_the_learner_that_was_saved(
    name: str, any_trial: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    folder = TrialFolder(tmp_path)
    progress = _train(any_trial, data, evaluator)
    record(folder, any_trial, 4, data.summary(), progress)

    sampler, content = load_sampler(getattr(folder, name), CPU)

    latents = draw_latents(progress.learner, 11, 0, 20)
    assert torch.equal(sampler.sample(*latents), progress.learner.sample(*latents))
    assert sampler.trial == any_trial
    assert content["data"] == data.summary()
    assert content["scores"] == {k: v.value for k, v in progress.scores.items()}


def _train(trial: Trial, data: ImageData, evaluator: Evaluator) -> Progress:
    return next(fit(trial, data, evaluator, (0.1,), seed=4))
