"""The generator for use elsewhere: ONNX or torch.export, checked, with a model card beside it."""

import contextlib
import importlib.util
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from raygen.apply.card import model_card
from raygen.apply.generator_module import Pixels, Unlabelled, network_of
from raygen.apply.source import Source, file_hash, open_source
from raygen.errors import InputError, RaygenError
from raygen.files import check_target, write_bytes, write_text
from raygen.metrics.model import draw_latents
from raygen.study_folder import UseFolder

MOST_DIFFERENCE = 1 / 255  # one level of a pixel
CHECKED = (1, 3, 16)  # batch sizes
MOST_BATCH = 4096
CHECK_SEED = 5

Run = Callable[[Tensor, Tensor], Tensor]


class Exported(NamedTuple):
    """What was written, and how far its images are from the checkpoint's own, in shares of 1."""

    path: Path
    card: Path
    difference: float


def export(source: Path, output: Path, uint8: bool = False) -> Exported:
    """Write the averaged generator: latents (n, d), and labels (n,) if they count, to images.

    Images are float32 (n, c, h, w) in [0, 1], or uint8. On the CPU; n is free.

    Raises:
        InputError: no checkpoint, another ending, or a package is missing.
        RaygenError: what the file computes is not what the checkpoint draws; nothing is written.
    """
    if output.suffix not in (".onnx", ".pt2"):
        raise InputError(f"{output}: must end in .onnx or .pt2 (torch.export)")
    if output.suffix == ".onnx":
        _require("onnx", "onnxscript", "onnxruntime")
    check_target(output, "--out")
    source_model = open_source(source, torch.device("cpu"))
    network = _network(source_model, uint8)
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / output.name
        run = (
            _onnx(network, source_model, partial)
            if output.suffix == ".onnx"
            else _pt2(network, source_model, partial)
        )
        difference = _difference(source_model, run, uint8)
        if not difference <= MOST_DIFFERENCE:
            raise RaygenError(
                f"{output}: its images differ from those of the checkpoint by {difference:.3g} of "
                f"1, more than one level of 255; not written"
            )
        write_bytes(output, partial.read_bytes())
    card = output.with_suffix(".md")
    interface = {
        "pixels": "uint8" if uint8 else "float32 in [0, 1]",
        "difference": difference,
        "latent_dim": source_model.learner.latent_dim,
    }
    write_text(
        card,
        model_card(
            output, source_model.content, source_model.facts(), interface, audit_of(source_model)
        ),
    )
    return Exported(output, card, difference)


def _network(source_model: Source, uint8: bool) -> nn.Module:
    pixels = Pixels(network_of(source_model.learner), uint8)
    return (pixels if source_model.conditional else Unlabelled(pixels)).eval()


def _example(source_model: Source) -> tuple[Tensor, ...]:
    latents, labels = draw_latents(source_model.learner, CHECK_SEED, 0, 2)
    return (latents, labels) if source_model.conditional else (latents,)


def _shapes(source_model: Source) -> dict[str, Any]:
    batch = torch.export.Dim("batch", min=1, max=MOST_BATCH)
    shapes: dict[str, Any] = {"latents": {0: batch}}
    return {**shapes, "labels": {0: batch}} if source_model.conditional else shapes


def _program(network: nn.Module, source_model: Source) -> torch.export.ExportedProgram:
    example, shapes = _example(source_model), _shapes(source_model)
    # Autocast is off throughout, but torch.export cannot save the regions that turn it off.
    with patch.object(torch, "autocast", lambda *_, **__: contextlib.nullcontext()):
        return torch.export.export(network, example, dynamic_shapes=shapes, strict=True)


def _pt2(network: nn.Module, source_model: Source, path: Path) -> Run:
    with _quietly():
        torch.export.save(_program(network, source_model), path)
        loaded = torch.export.load(path).module()

    def run(latents: Tensor, labels: Tensor) -> Tensor:
        return loaded(latents, labels) if source_model.conditional else loaded(latents)

    return run


def _onnx(network: nn.Module, source_model: Source, path: Path) -> Run:
    import onnxruntime

    names = ["latents", "labels"] if source_model.conditional else ["latents"]
    with _quietly():
        torch.onnx.export(
            _program(network, source_model),
            (),
            str(path),
            input_names=names,
            output_names=["images"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [tensor.name for tensor in session.get_inputs()]

    def run(latents: Tensor, labels: Tensor) -> Tensor:
        given = {"latents": latents.numpy(), "labels": labels.numpy()}
        (images,) = session.run(["images"], {name: given[name] for name in inputs})
        return torch.from_numpy(images)

    return run


def _difference(source_model: Source, run: Run, uint8: bool) -> float:
    """The largest between the file's pixels and those that the checkpoint itself draws.

    Against its float pixels, for rounding to levels would hide half of one.
    """
    worst = 0.0
    truth = _network(source_model, uint8)
    for number, count in enumerate(CHECKED):
        latents, labels = draw_latents(source_model.learner, CHECK_SEED, number, count)
        with torch.no_grad():
            wanted = truth(latents, labels) if source_model.conditional else truth(latents)
            drawn = source_model.learner.sample(latents, labels)
        images = run(latents, labels)
        if images.shape != wanted.shape:
            return float("inf")
        scale = 255 if uint8 else 1
        error = (images.double() - wanted.double()).abs().max() / scale
        if not bool(error.isfinite()):  # nan is above no bound, and below none
            return float("inf")
        # And the exported arithmetic is that of `raygen generate`: the same levels, or next ones.
        levels = images.double() * (1 if uint8 else 255)
        rounding = (levels - drawn.double()).abs().max() / 255
        if float(rounding) > 1.5 / 255:
            return float(rounding)
        worst = max(worst, float(error))
    return worst


def audit_of(source_model: Source) -> dict[str, Any] | None:
    """The audit of the same checkpoint, of its study or of its trial, if there is one."""
    for folder in (source_model.folder.root, source_model.checkpoint.parent):
        path = UseFolder(folder).audit
        with contextlib.suppress(OSError, ValueError):
            audit = json.loads(path.read_text(encoding="utf-8"))
            if audit["model"]["checkpoint_hash"] == file_hash(source_model.checkpoint):
                return audit
    return None


def _require(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{', '.join(missing)} not installed: uv sync --extra export, or --out model.pt2"
        )


@contextlib.contextmanager
def _quietly() -> Any:
    """Without what the exporter says of itself: the check after it is what counts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
