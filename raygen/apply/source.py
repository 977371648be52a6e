"""What a command works on: a checkpoint, where its results go, and its training images."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch

from raygen.config_file import load_space
from raygen.data import DataSpec, ImageData, data_at, load_data
from raygen.data.class_numbers import UNLABELLED
from raygen.errors import InputError
from raygen.image_shape import ImageShape
from raygen.results import Model, best_model, best_trial, failed, fresh, load_results
from raygen.study_folder import StudyFolder, TrialFolder, UseFolder
from raygen.training.checkpoint import SAFETENSORS, load_sampler
from raygen.training.loop import Learner


class Source(NamedTuple):
    """A model that samples, what its checkpoint says, and the folder for what is found of it."""

    learner: Learner
    content: dict[str, Any]
    checkpoint: Path
    folder: UseFolder

    @property
    def conditional(self) -> bool:
        """Whether the images follow the label."""
        return bool(self.content["trial"]["model"].get("conditional"))

    def facts(self) -> dict[str, Any]:
        """What a result records of its model: names and hashes, and no dates."""
        return {
            "checkpoint": self.checkpoint.name,
            "checkpoint_hash": file_hash(self.checkpoint),
            "trial": trial_number(self.checkpoint),
            "family": self.content["trial"]["family"],
            "architecture": self.content["trial"]["model"]["name"],
            "conditional": self.conditional,
            "kimg": self.content["kimg"],
        }


def find_checkpoint(source: Path) -> Path:
    """Return the checkpoint to sample from: of a study, that of the model to use.

    Raises:
        InputError: nothing there to sample from.
    """
    return _find(source)[0]


def _find(source: Path) -> tuple[Path, Model | None]:
    """The checkpoint to sample from and, of a study, which of its models that is."""
    if source.is_file():
        return source, None
    if StudyFolder(source).journal.exists():
        study = load_results(source)
        model = best_model(study)
        if model is None:
            best_trial(study)  # says so if there is no value yet
            raise InputError(f"{source}: no trial with a value has a checkpoint left")
        return study.folder.trial(model.run).best, model
    if TrialFolder(source).best.exists():
        return TrialFolder(source).best, None
    if (source / SAFETENSORS).exists():
        return source / SAFETENSORS, None
    raise InputError(f"{source}: neither a checkpoint, nor a study, nor a trained configuration")


def words(source: Path) -> str | None:
    """Which model of a study a command uses, and its measured value; None for other sources.

    Raises:
        InputError: the study is damaged.
    """
    if source.is_file() or not StudyFolder(source).journal.exists():
        return None
    study = load_results(source)
    model = best_model(study)
    if model is None:
        return None
    text = f"using {model.words}: {study.metric} {model.value:.5g} during training"
    measured = (fresh(study, model) or {}).get(study.metric)
    if measured is not None and measured["value"] is not None:
        text += f", {measured['value']:.5g} on new samples"
    reason = failed(study).get(model.run)
    return f"{text}; do not use it: it {reason}" if reason else text


def open_source(source: Path, device: torch.device) -> Source:
    """Load the model of a study (the one to use), a trial folder or a checkpoint.

    Raises:
        InputError: nothing there to sample from, not readable, or of another training than the
            journal of its study says.
    """
    checkpoint, model = _find(source)
    learner, content = load_sampler(checkpoint, device)
    if model is not None and content["seed"] != model.seed:
        raise InputError(
            f"{checkpoint}: is from another training run: its seed is {content['seed']}, but that "
            f"of the model to use is {model.seed}"
        )
    folder = checkpoint.parent if source.is_file() else source
    return Source(learner, content, checkpoint, UseFolder(folder))


def find_data(checkpoint: Path, content: dict[str, Any], given: str | None) -> ImageData:
    """Load the very images that a checkpoint was trained on.

    From `given` (a path, or the name of a source), else from the study around the checkpoint.

    Raises:
        InputError: they cannot be found, or are others than those of the training.
    """
    wanted = content["data"]
    spec = _data_spec(checkpoint, wanted, given)
    data = load_data(spec)
    if spec.limit is None and len(data.train.labels) > wanted["train"]:
        data = load_data(spec.model_copy(update={"limit": wanted["train"]}))
    if data.fingerprint != wanted["fingerprint"]:
        raise InputError(
            f"{given or spec.path or spec.source}: not the images that {checkpoint} was trained on "
            f"({wanted['name']}, {wanted['train']} for training); give those with --data"
        )
    return data


def file_hash(path: Path) -> str:
    """SHA-256 of a file, first 16 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def trial_number(checkpoint: Path) -> int | None:
    """The trial of a study that a checkpoint belongs to."""
    name = checkpoint.resolve().parent.name
    return int(name) if _study_of(checkpoint) is not None and name.isdigit() else None


def _study_of(checkpoint: Path) -> StudyFolder | None:
    """<study>/trials/0007/best.pt -> the study."""
    parents = checkpoint.resolve().parents
    folder = StudyFolder(parents[min(2, len(parents) - 1)])
    return folder if folder.journal.exists() else None


def _data_spec(checkpoint: Path, wanted: dict[str, Any], given: str | None) -> DataSpec:
    study = _study_of(checkpoint)
    recorded = load_space(study.space).spec.data if study and study.space.exists() else None
    if given is None and recorded is not None:
        return recorded
    place = "shapes" if given is None and wanted["name"] == "shapes" else given
    if place is not None:
        # As they were read for the training: its settings, or what the checkpoint says of them.
        image = ImageShape.of(wanted["image"])
        reading: dict[str, Any] = {"size": image.size, "channels": image.channels}
        if wanted["classes"] == [UNLABELLED]:
            reading["labels"] = "none"
        if recorded is not None:
            reading = recorded.model_dump(include={"size", "channels", "fit", "labels"})
        return data_at(place).model_copy(update=reading)
    raise InputError(
        f"{checkpoint}: does not say where its {wanted['train']} training images "
        f"({wanted['name']}) are; add --data PATH"
    )
