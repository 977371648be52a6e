"""Checkpoints: written whole or not at all, loaded without running any code from the file.

What is loaded may have been cut or changed, or come from anybody: nothing is built before its size
is known to be that of the file, and no weight is used that is not finite.
"""

import json
import math
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from raygen.cache import replace_file
from raygen.document import MOST_BYTES, brief, read_bounded, shown
from raygen.errors import InputError, cannot_write
from raygen.image_shape import SIZES, ImageShape
from raygen.plugins import check_unchanged, hashes
from raygen.training.loop import Learner, Position, Progress, make_learner
from raygen.training.optimizer import is_optimizer_state
from raygen.training.vae import Vae
from raygen.trial import Adaptive, GanTrial, OwnTrial, Trial, VaeTrial, parse_trial

FORMAT = 1
# Of a folder in the layout of the Hugging Face hub.
SAFETENSORS, CONFIG = "model.safetensors", "config.json"
# What a learner has beside the averaged weights (a discriminator), as a multiple of them and more.
MOST_TIMES, MOST_MORE = 20, 50_000_000
MOST_CLASSES = 100_000
OPTIMIZERS = {
    "gan": ("generator_optimizer", "discriminator_optimizer"), "vae": ("optimizer",), "own": ()
}  # fmt: skip


def checkpoint(
    trial: Trial, seed: int, data: dict[str, Any], progress: Progress, full: bool
) -> dict[str, Any]:
    """Collect what a file holds: the weights for sampling, or everything for going on."""
    learner = progress.learner
    return {
        **_origin(trial, seed, data, progress.kimg),
        "scores": {name: score.value for name, score in progress.scores.items()},
        "protocols": {name: score.protocol for name, score in progress.scores.items()},
        "learner": learner.state_dict() if full else learner.weights(),
        "loop": progress.state if full else None,
        # What was told of this milestone: a driver that died before it wrote it down hears again.
        "report": progress.report() if full else None,
    }


def checkpoint_between(
    trial: Trial, seed: int, data: dict[str, Any], position: Position
) -> dict[str, Any]:
    """Collect everything for going on from between two milestones."""
    return {
        **_origin(trial, seed, data, position.images / 1000),
        "scores": {},
        "protocols": {},
        "learner": position.learner.state_dict(),
        "loop": position.state(),
        "report": None,
    }


def _origin(trial: Trial, seed: int, data: dict[str, Any], kimg: float) -> dict[str, Any]:
    """Of which training a file is, and from where in it."""
    settings = trial.model_dump()
    return {
        "format": FORMAT, "trial": settings, "plugins": hashes(settings), "seed": seed,
        "data": data, "kimg": kimg,
    }  # fmt: skip


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint.

    Raises:
        StorageError: the disk is full; the old file is intact.
        RaygenError: the folder cannot be written.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise cannot_write(path, error) from error


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint: what `save` wrote, or safetensors with config.json beside them.

    Raises:
        InputError: missing, damaged, or not a raygen checkpoint.
    """
    if not path.exists():
        raise InputError(f"{path}: no such checkpoint")
    content = (
        _from_hub(path, device) if path.suffix == ".safetensors" else _from_torch(path, device)
    )
    # By its type, too: 1.0 and true are equal to 1.
    numbered = isinstance(content, dict) and type(content.get("format")) is int
    if not numbered or content["format"] != FORMAT:
        raise InputError(f"{path}: not a raygen checkpoint of format {FORMAT}")
    return content


def _from_hub(path: Path, device: torch.device) -> Any:
    """A folder that `raygen export --to-hf` wrote: weights, and beside them what they are."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(f"{path}: needs safetensors: uv sync --extra hf") from error
    beside = path.with_name(CONFIG)
    try:
        described = json.loads(read_bounded(beside, MOST_BYTES))
        weights = load_file(path, str(device))
    except InputError:
        raise
    except Exception as error:  # of safetensors, which raises its own, and of JSON
        raise InputError(f"{path}: not a readable model, or not {beside.name}") from error
    if not isinstance(described, dict):
        raise InputError(f"{beside}: is not a mapping")
    return {**described, "learner": {"average": weights}, "loop": None, "report": None}


def _from_torch(path: Path, device: torch.device) -> Any:
    try:
        # Only what torch writes: bytes that are stored as they are, so no larger than the file.
        if not path.is_file() or not zipfile.is_zipfile(path):
            raise InputError(f"{path}: not a readable checkpoint")
        with zipfile.ZipFile(path) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > path.stat().st_size:
            raise InputError(f"{path}: not a readable checkpoint: it is larger than its file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of sparse tensors
            return torch.load(path, map_location=device, weights_only=True)
    except InputError:
        raise
    except Exception as error:  # on foreign bytes torch raises KeyError, IndexError, and more
        raise InputError(f"{path}: not a readable checkpoint") from error


def load_sampler(path: Path, device: torch.device) -> tuple[Learner, dict[str, Any]]:
    """Return a learner that can sample, and what else the checkpoint says.

    Raises:
        InputError: as load; or a field is missing or of another type, the weights are not those of
            its configuration, or not finite.
    """
    content = load(path, device)
    trial = _described(path, content)
    classes, image = len(content["data"]["classes"]), _image(path, content["data"])
    average = _mapping(path, content["learner"], "average", "learner")
    nets = _outline(path, trial, classes, image, average)
    for part, network in nets.items():
        if part == "average" or part in content["learner"]:
            weights = _mapping(path, content["learner"], part, "learner")
            _check_weights(path, part, weights, network)
    for name, value in average.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            _fail(path, f"learner.average.{name}", "is not finite: raygen draws nothing from it")
        if name.endswith("running_var") and bool((value < 0).any()):
            _fail(path, f"learner.average.{name}", "is a variance below 0: it would draw nothing")
    learner = make_learner(trial, classes, device, content["seed"], image=image)
    learner.load_weights(content["learner"])
    return learner, content


def load_full(path: Path, device: torch.device) -> dict[str, Any]:
    """Return a checkpoint to go on from.

    Raises:
        InputError: as load_sampler, but for weights that are not finite; or it holds the weights
            for sampling only, or no state of the optimisers or of the loop.
    """
    content = load(path, device)
    if content.get("loop", {}) is None:
        raise InputError(f"{path}: holds no optimiser state, so training cannot resume from it")
    trial = _described(path, content)
    state = content["learner"]
    nets = _outline(
        path,
        trial,
        len(content["data"]["classes"]),
        _image(path, content["data"]),
        _mapping(path, state, "average", "learner"),
    )
    for name, network in nets.items():
        _check_weights(path, name, _mapping(path, state, name, "learner"), network)
    if isinstance(trial, OwnTrial):
        _mapping(path, state, "kept", "learner")
    for name in OPTIMIZERS[trial.family]:
        if not is_optimizer_state(_mapping(path, state, name, "learner")):
            _fail(path, f"learner.{name}", "is not an optimiser state")
    if isinstance(trial, GanTrial) and isinstance(trial.augment_p, Adaptive):
        _mapping(path, state, "adaptive", "learner")
    if isinstance(trial, VaeTrial) and trial.optimizer.skip:
        _mapping(path, state, "skip", "learner")
    loop = _mapping(path, content, "loop")
    _whole(path, loop, "images", "loop")
    _finite(path, loop, "seconds", "loop")
    _mapping(path, loop, "health", "loop")
    return content


def _described(path: Path, content: dict[str, Any]) -> Trial:
    """Check everything but the weights, and return the trial; its settings are completed."""
    raw = _mapping(path, content, "trial")
    try:
        trial = parse_trial(raw)
    except ValidationError as error:
        mistake = error.errors(include_url=False, include_context=False)[0]
        at = ".".join(["trial", *map(str, mistake["loc"])])
        _fail(path, at, brief(mistake["msg"].removeprefix("Value error, ")))
    content["trial"] = trial.model_dump()
    data = _mapping(path, content, "data")
    classes = data.get("classes")
    if not isinstance(classes, list | tuple) or not all(isinstance(c, str) for c in classes):
        _fail(path, "data.classes", "must be a list of names")
    if not 1 <= len(classes) <= MOST_CLASSES:
        _fail(path, "data.classes", f"has {len(classes)} names, must have 1 to {MOST_CLASSES:,}")
    recorded = content.get("plugins", {})
    if not isinstance(recorded, dict):
        _fail(path, "plugins", "must be hashes by file")
    check_unchanged(recorded, trial.model_dump(), str(path))
    data["image"] = list(_image(path, data).chw)  # earlier ones do not say it
    for name in ("name", "fingerprint"):
        if not isinstance(data.get(name), str):
            _fail(path, f"data.{name}", "must be a text")
    for name in ("train", "test"):
        _whole(path, data, name, "data")
    _whole(path, content, "seed")
    _finite(path, content, "kimg")
    for name in ("learner", "scores", "protocols"):
        _mapping(path, content, name)
    for name, value in content["scores"].items():
        if not isinstance(name, str) or type(value) not in (int, float):
            _fail(path, "scores", "must be numbers by the name of a metric")
    return trial


def _image(path: Path, data: Mapping[Any, Any]) -> ImageShape:
    """The shape of the images that a checkpoint was trained on."""
    shape = data.get("image")
    if shape is not None and (
        not isinstance(shape, list | tuple)
        or [type(side) for side in shape] != [int] * 3
        or shape[0] not in (1, 3)
        or shape[1] not in SIZES
        or shape[1] != shape[2]
    ):
        _fail(path, "data.image", f"{shown(shape)}: must be channels, height and width of images")
    return ImageShape.of(shape)


def _outline(
    path: Path, trial: Trial, classes: int, image: ImageShape, average: Mapping[Any, Any]
) -> dict[str, nn.Module]:
    """The networks of a trial as shapes only, none larger than what the file holds allows for.

    A network of any size has an outline, but one of a million blocks takes minutes to outline, so
    numbers that no network of these weights can have are refused before.
    """
    held = sum(value.numel() for value in average.values() if isinstance(value, Tensor))
    held = min(held, path.stat().st_size)
    for name, value in trial.model.model_dump().items():
        most = len(average) if name == "blocks" else max(held, 1024)
        if type(value) is int and value > most:
            _fail(
                path, f"trial.model.{name}", f"{shown(value)}: its weights are not of such a model"
            )
    try:
        with torch.device("meta"):
            vae = isinstance(trial, VaeTrial)
            built = Vae(trial, image) if vae else trial.model.build(image, classes)
    except (RuntimeError, ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        _fail(path, "trial.model", f"cannot be built: {brief(str(error))}")
    if isinstance(built, Vae):
        nets: dict[str, nn.Module] = {"average": built, "vae": built}
    elif isinstance(built, nn.Module):
        nets = {"average": built, "generator": built}
    else:
        nets = {
            "average": built.generator,
            "generator": built.generator,
            "discriminator": built.discriminator,
        }
    total = sum(p.numel() for net in set(nets.values()) for p in net.parameters())
    if total > MOST_TIMES * held + MOST_MORE:
        _fail(path, "trial.model", f"asks for {total:,} weights, but {held:,} are there")
    return nets


def _check_weights(path: Path, part: str, state: Mapping[Any, Any], network: nn.Module) -> None:
    wanted = network.state_dict()
    for name in state:
        if name not in wanted:
            _fail(path, f"learner.{part}", f"{shown(name)}: its model has no such weights")
    for name, outline in wanted.items():
        at = f"learner.{part}.{name}"
        value = state.get(name)
        if not isinstance(value, Tensor):
            _fail(path, at, "is missing" if value is None else "is not a tensor")
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            _fail(path, at, "is not a plain tensor")
        if value.shape != outline.shape or value.dtype != outline.dtype:
            has, must = (f"{_type(tensor)} {list(tensor.shape)}" for tensor in (value, outline))
            _fail(path, at, f"is {has}, but its model has {must}")
        # One number can stand for a billion: such a tensor is small in the file and nowhere else.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            _fail(path, at, "has fewer numbers than its shape says")


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _mapping(path: Path, content: Any, name: str, *above: str) -> dict[Any, Any]:
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, dict):
        _fail(path, ".".join((*above, name)), "is missing" if value is None else "is not a mapping")
    return value


def _whole(path: Path, content: dict[Any, Any], name: str, *above: str) -> None:
    value = content.get(name)
    if type(value) is not int or not 0 <= value < 2**63:
        _fail(path, ".".join((*above, name)), f"{shown(value)}: must be a whole number, 0 or above")


def _finite(path: Path, content: dict[Any, Any], name: str, *above: str) -> None:
    value = content.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        _fail(path, ".".join((*above, name)), f"{shown(value)}: must be a number, 0 or above")


def _fail(path: Path, at: str, rule: str) -> NoReturn:
    raise InputError(f"{path}: not a usable checkpoint: {brief(at)}: {rule}")
