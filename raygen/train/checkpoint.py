"""Checkpoints: written whole or not at all, loaded without running any code from the file."""

from pathlib import Path
from typing import Any

import torch

from raygen.cache import replace_file
from raygen.config import Trial, parse_trial
from raygen.errors import InputError, cannot_write
from raygen.train.loop import Learner, Position, Progress, make_learner

FORMAT = 1


def checkpoint(
    trial: Trial, seed: int, data: dict[str, Any], progress: Progress, full: bool
) -> dict[str, Any]:
    """Collect what a file holds: the weights for sampling, or everything for going on."""
    learner = progress.learner
    return {
        "format": FORMAT,
        "trial": trial.model_dump(),
        "seed": seed,
        "data": data,
        "kimg": progress.kimg,
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
        "format": FORMAT,
        "trial": trial.model_dump(),
        "seed": seed,
        "data": data,
        "kimg": position.images / 1000,
        "scores": {},
        "protocols": {},
        "learner": position.learner.state_dict(),
        "loop": position.state,
        "report": None,
    }


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
    """Read a checkpoint.

    Raises:
        InputError: missing, damaged, or not a raygen checkpoint.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except Exception as error:  # on foreign bytes torch raises KeyError, IndexError, and more
        raise InputError(f"{path}: not a readable checkpoint") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path}: not a raygen checkpoint of format {FORMAT}")
    return content


def load_sampler(path: Path, device: torch.device) -> tuple[Learner, dict[str, Any]]:
    """Return a learner that can sample, and what else the checkpoint says."""
    content = load(path, device)
    trial = parse_trial(content["trial"])
    learner = make_learner(trial, len(content["data"]["classes"]), device, content["seed"])
    learner.load_weights(content["learner"])
    return learner, content


def load_full(path: Path, device: torch.device) -> dict[str, Any]:
    """Return a checkpoint to go on from.

    Raises:
        InputError: it holds the weights for sampling only.
    """
    content = load(path, device)
    if content["loop"] is None:
        raise InputError(f"{path}: holds no optimiser state, so training cannot go on from it")
    return content
