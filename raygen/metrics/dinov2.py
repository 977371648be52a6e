"""DINOv2 ViT-L/14 as torch-fidelity runs it: the features behind `fd_dinov2`."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from raygen.errors import InputError

NAME = "dinov2-vit-l-14"
FEATURES = 1024
CODE = "facebookresearch_dinov2_main"  # where torch.hub keeps the network's definition
FILE = "dinov2_vitl14_pretrain.pth"
INSTRUCTION = (
    "python -c \"import torch; torch.hub.load('facebookresearch/dinov2', 'dinov2_vitl14')\""
)


def load_dinov2(device: torch.device) -> nn.Module:
    """Return the extractor: uint8 images (n, 3, h, w) -> (features (n, 1024),).

    Raises:
        InputError: as find_weights.
    """
    dinov2_weights()
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    return FeatureExtractorDinoV2(NAME, ["dinov2"]).to(device).eval()


def dinov2_weights() -> Path:
    """Return the path of the weights.

    Nothing is downloaded here: torch.hub would run code from the network unasked.

    Raises:
        InputError: torch-fidelity is not installed, or torch.hub has not fetched the network.
    """
    try:
        import torch_fidelity.feature_extractor_dinov2  # noqa: F401
    except ImportError as error:
        raise InputError(
            "fd_dinov2 needs torch-fidelity: uv sync --extra fid, or use fd_classifier"
        ) from error
    hub = Path(torch.hub.get_dir())
    file = hub / "checkpoints" / FILE
    for part in (hub / CODE / "hubconf.py", file):
        if not part.exists():
            raise InputError(
                f"{part}: fd_dinov2 needs it; get it once by {INSTRUCTION}, or use fd_classifier"
            )
    return file


def weights_hash() -> str:
    """First digits of the SHA-256 of the weights: no published one exists to check them by."""
    with dinov2_weights().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def dinov2_features(extractor: nn.Module, images: Tensor) -> Tensor:
    """Return the class token (n, 1024) of uint8 images."""
    return extractor(images)[0]
