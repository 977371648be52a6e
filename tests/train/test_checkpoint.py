"""Checkpoints: no code from a file, no half files, one line for every thing that is wrong."""

import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from raygen.data import ImageData
from raygen.errors import InputError
from raygen.metrics.evaluator import Evaluator
from raygen.metrics.model import draw_latents
from raygen.study_folder import TrialFolder
from raygen.training.checkpoint import checkpoint, load, load_full, load_sampler, save
from raygen.training.loop import Progress, fit, make_learner
from raygen.training.record import record
from raygen.trial import Ema, Trial, parse_trial

CPU = torch.device("cpu")
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from raygen.errors import RaygenError
from raygen.training.checkpoint import save

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

    assert not any("optimizer" in key for key in load(folder.best, CPU)["learner"])
    assert any("optimizer" in key for key in load_full(folder.last, CPU)["learner"])
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


# ---- of any content ------------------------------------------------------------------------

NAN, MINUS = float("nan"), float("-inf")


def _changed(content: dict[str, Any], at: str, value: Any) -> dict[str, Any]:
    """Set, or with ... delete, one value of nested ones; "*" is the first name."""
    place: Any = content
    names = at.split("/")
    for name in names[:-1]:
        place = place[name]
    last = next(iter(place)) if names[-1] == "*" else names[-1]
    if value is ...:
        del place[last]
    else:
        place[last] = value(place[last]) if callable(value) else value
    return content


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        ("trial", ..., "trial: is missing"),
        ("trial", [1], "trial: is not a mapping"),
        ("trial/family", "flow", "trial: "),
        ("trial/model/width", "x", r"trial\..*width: "),
        ("trial/model/width", 10**12, r"trial\.model\.width: .*its weights are not of such"),
        ("trial/model/latent_dim", 10**400, r"trial\.model\.latent_dim: .*not of such a model"),
        ("trial/model/more", 1, r"trial\..*more: "),
        ("data", ..., "data: is missing"),
        ("data/classes", "abc", r"data\.classes: must be a list of names"),
        ("data/classes", [], r"data\.classes: has 0 names"),
        ("data/classes", ["x"] * 10**6, r"data\.classes: has 1000000 names"),
        ("data/train", -1, r"data\.train: -1: must be a whole number"),
        ("seed", 1.5, "seed: 1.5: must be a whole number"),
        ("seed", 2**63, "seed: .*: must be a whole number"),
        ("kimg", NAN, "kimg: nan: must be a number"),
        ("scores", [1], "scores: is not a mapping"),
        ("learner", ..., "learner: is missing"),
        ("learner/average", ..., r"learner\.average: is missing"),
        ("learner/average/*", ..., r"learner\.average\..*: is missing"),
        (
            "learner/average/more",
            torch.zeros(1),
            r"learner\.average: 'more': its model has no such",
        ),
        ("learner/average/*", 3, r"learner\.average\..*: is not a tensor"),
        ("learner/average/*", torch.zeros(3), r"is float32 \[3\], but its model has float32 \["),
        ("learner/average/*", torch.Tensor.double, "is float64 .* but its model has float32"),
        ("learner/average/*", lambda t: torch.zeros(()).expand(t.shape), "has fewer numbers than"),
        ("learner/average/*", lambda t: t.to("meta"), "is not a plain tensor"),
        ("learner/average/*", torch.Tensor.to_sparse, "is not a plain tensor|not a readable"),
        ("learner/average/*", lambda t: t * NAN, "is not finite: raygen draws nothing from it"),
        ("learner/average/*", lambda t: t + MINUS, "is not finite: raygen draws nothing from it"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_a_checkpoint_of_any_content_is_one_line_and_draws_nothing(
    trial: Trial, data: ImageData, tmp_path: Path, at: str, value: Any, said: str
) -> None:
    path = tmp_path / "best.pt"
    if at == "trial/model/latent_dim" and "latent_dim" not in trial.model.model_dump():
        pytest.skip("a model without latent_dim")
    torch.save(_changed(_content(trial, data), at, value), path)

    with pytest.raises(InputError, match=rf"^{path}: not a .*checkpoint: (.*{said})") as caught:
        load_sampler(path, CPU)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_a_checkpoint_leaves_to_the_defaults_of_its_trial_is_filled_in(
    gan: Trial, data: ImageData, tmp_path: Path
) -> None:
    content = _content(gan, data)
    del content["trial"]["ema"]
    torch.save(content, tmp_path / "best.pt")

    assert load_sampler(tmp_path / "best.pt", CPU)[1]["trial"]["ema"] == Ema().model_dump()


def test_a_discriminator_of_absurd_size_is_refused_before_it_takes_memory(
    data: ImageData, tmp_path: Path
) -> None:
    settings = {"name": "sngan", "latent_dim": 8, "width": 4, "discriminator_width": 4}
    trial = parse_trial({"family": "gan", "model": settings, "batch_size": 16})
    content = _content(trial, data)
    content["trial"]["model"]["discriminator_width"] = 1024
    torch.save(content, tmp_path / "best.pt")

    with pytest.raises(InputError, match=r"trial\.model.* asks for [\d,]+ weights"):
        load_sampler(tmp_path / "best.pt", CPU)


def test_a_tensor_of_a_billion_numbers_that_are_one_takes_no_memory(
    gan: Trial, data: ImageData, tmp_path: Path
) -> None:
    content = _content(gan, data)
    name = next(iter(content["learner"]["average"]))
    content["learner"]["average"][name] = torch.zeros(1).expand(10**12)
    torch.save(content, tmp_path / "best.pt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(InputError, match="not a usable checkpoint"):
        load_sampler(tmp_path / "best.pt", CPU)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_compressed_file_that_unpacks_to_more_is_no_checkpoint(
    gan: Trial, data: ImageData, tmp_path: Path
) -> None:
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    content = _content(gan, data)
    content["learner"]["average"]["more"] = torch.zeros(10**7)
    torch.save(content, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))

    with pytest.raises(InputError, match=r"packed\.pt: not a readable .*larger than its file"):
        load(packed, CPU)


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.pt")

    with pytest.raises(InputError, match=r"best\.pt: not a readable checkpoint"):
        load(tmp_path / "best.pt", CPU)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("loop", "loop: is missing"),
        ("loop/images", "loop.images: None: must be a whole number"),
        ("loop/health", "loop.health: is missing"),
        ("learner/average", "learner.average: is missing"),
    ],
)
def test_a_state_to_go_on_from_is_checked_too(
    trial: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path, at: str, said: str
) -> None:
    path = tmp_path / "last.pt"
    content = checkpoint(trial, 0, data.summary(), _train(trial, data, evaluator), full=True)
    save(path, content)
    assert load_full(path, CPU)["loop"]["images"] == content["loop"]["images"]

    save(path, _changed(content, at, ...))
    with pytest.raises(InputError, match=rf"last\.pt: not a usable checkpoint: {said}"):
        load_full(path, CPU)


def test_an_optimiser_that_is_no_state_of_one_is_refused(
    trial: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    content = checkpoint(trial, 0, data.summary(), _train(trial, data, evaluator), full=True)
    name = next(name for name in content["learner"] if name.endswith("optimizer"))
    save(tmp_path / "last.pt", _changed(content, f"learner/{name}", {"state": 3}))

    with pytest.raises(InputError, match=rf"learner\.{name}: is not an optimiser state"):
        load_full(tmp_path / "last.pt", CPU)


def test_every_network_that_a_checkpoint_holds_must_fit_its_configuration(
    gan: Trial, data: ImageData, evaluator: Evaluator, tmp_path: Path
) -> None:
    content = checkpoint(gan, 0, data.summary(), _train(gan, data, evaluator), full=True)
    name = next(iter(content["learner"]["discriminator"]))
    content["learner"]["discriminator"][name] = torch.zeros(3)
    save(tmp_path / "last.pt", content)

    for read in (load_sampler, load_full):
        with pytest.raises(InputError, match=rf"learner\.discriminator\.{name}: is float32 \[3\]"):
            read(tmp_path / "last.pt", CPU)


def _content(trial: Trial, data: ImageData) -> dict[str, Any]:
    """What a checkpoint for sampling holds, of an untrained learner."""
    learner = make_learner(trial, len(data.classes), CPU, 0)
    return {
        "format": 1, "trial": trial.model_dump(), "seed": 0, "data": data.summary(), "kimg": 1.5,
        "scores": {}, "protocols": {}, "learner": learner.weights(), "loop": None, "report": None,
    }  # fmt: skip
