"""A model in the layout of the Hugging Face hub: safetensors, config.json, README.md, samples."""

import json
import math
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from raygen.apply.card import model_card
from raygen.apply.export import audit_of
from raygen.apply.source import Source, open_source
from raygen.data.pictures import save_grid
from raygen.document import dump
from raygen.errors import InputError, RaygenError, cannot_write
from raygen.files import check_target
from raygen.metrics.model import draw_latents
from raygen.training.checkpoint import CONFIG, SAFETENSORS, load_sampler

SHOWN = 16  # images
SEED = 7


def export_to_hub(source: Path, folder: Path) -> Path:
    """Write a folder that `huggingface-cli upload` takes, and that raygen reads as a checkpoint.

    Raises:
        InputError: no checkpoint, the folder is not empty, or safetensors is missing.
        RaygenError: what the files draw is not what the checkpoint draws; nothing is written.
    """
    if find_spec("safetensors") is None:
        raise InputError("--to-hf needs safetensors: uv sync --extra hf")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--to-hf {folder}: already exists; choose an empty or a new folder")
    check_target(folder / CONFIG, "--to-hf")
    model = open_source(source, torch.device("cpu"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, and put in its place as a whole.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            whole = Path(scratch) / "model"
            whole.mkdir()
            _write(model, whole, folder.name)
            if folder.exists():
                folder.rmdir()
            os.replace(whole, folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


def _write(model: Source, folder: Path, name: str) -> None:
    from safetensors.torch import save_file

    average = model.content["learner"]["average"]
    weights = {key: value.contiguous().clone() for key, value in average.items()}
    save_file(weights, folder / SAFETENSORS, {"format": "pt"})
    settings = {key: value for key, value in model.content.items() if key not in _LEFT_OUT}
    (folder / CONFIG).write_text(json.dumps(_plain(settings), indent=2) + "\n", encoding="utf-8")
    again, _ = load_sampler(folder / SAFETENSORS, torch.device("cpu"))
    latents, labels = draw_latents(model.learner, SEED, 0, SHOWN)
    images = model.learner.sample(latents, labels)
    if not torch.equal(again.sample(latents, labels), images):
        raise RaygenError(f"{name}: draws other images than the checkpoint; not written")
    save_grid(images, folder / "samples.png")
    # Read back as it will be used, weights and pixels are the same.
    interface = {"pixels": "uint8", "difference": 0.0, "latent_dim": model.learner.latent_dim}
    card = model_card(Path(name), model.content, model.facts(), interface, audit_of(model))
    (folder / "README.md").write_text(_front_matter(model) + card + _USE, encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)


_LEFT_OUT = ("learner", "loop", "report")
_USE = """
## Loading

![samples](samples.png)

```python
import raygen

generator = raygen.Generator("FOLDER")  # where this folder was downloaded to
images = generator(16, seed=1)  # uint8 (16, c, h, w)
```
"""


def _front_matter(model: Source) -> str:
    """What the hub shows of it and searches by."""
    scores = [
        {"type": name, "value": value, "name": name}
        for name, value in sorted(model.content["scores"].items())
        if math.isfinite(value)
    ]
    kind = "image-generation"
    data = model.content["data"]["name"]
    record: dict[str, Any] = {
        "library_name": "raygen",
        "pipeline_tag": "unconditional-image-generation",
        "tags": [kind, str(model.content["trial"]["family"]), str(model.facts()["architecture"])],
    }
    if scores:
        results = {
            "task": {"type": kind},
            "dataset": {"type": data, "name": data},
            "metrics": scores,
        }
        record["model-index"] = [{"name": str(model.facts()["architecture"]), "results": [results]}]
    return f"---\n{dump(record)}---\n\n"


def _plain(value: Any) -> Any:
    """Without what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): _plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
