"""The Inception of FID: torch-fidelity's port of the 2015-12-05 graph, with its TF1 resize."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from raygen.cache import cache_folder
from raygen.errors import InputError

FEATURES = 2048
HASH = "6726825d"  # first digits of the SHA-256, as in torch-fidelity's file name
FILE = f"weights-inception-2015-12-05-{HASH}.pth"


def load_inception(device: torch.device) -> nn.Module:
    """Return the extractor: uint8 images (n, 3, h, w) -> (features (n, 2048),).

    Raises:
        InputError: as find_weights.
    """
    weights = inception_weights()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    extractor = FeatureExtractorInceptionV3(
        "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=str(weights)
    )
    # 1.4 times as fast on a CPU, 1.1 times on CUDA with TF32; the features move by 5e-7 of them.
    extractor.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return extractor.to(device).eval()


def inception_weights() -> Path:
    """Return the path of the weights, downloaded to the cache if they are not there.

    Raises:
        InputError: torch-fidelity is not installed, the weights cannot be downloaded, or the file
            has another checksum.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except ImportError as error:
        raise InputError(
            "fid needs torch-fidelity: uv sync --extra fid, or use fd_classifier"
        ) from error

    path = cache_folder() / FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), HASH, progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{path}: the Inception weights for fid are not there and could not be downloaded "
                f"({error}); put {URL_INCEPTION_V3} there, or use fd_classifier"
            ) from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(HASH):
        raise InputError(
            f"{path}: SHA-256 starts with {digest[:8]}, not {HASH}: delete it and run again"
        )
    return path


def inception_features(extractor: nn.Module, images: Tensor) -> Tensor:
    """Return pool3 features (n, 2048) of uint8 images."""
    return extractor(images)[0]
