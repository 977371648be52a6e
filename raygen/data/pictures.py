"""uint8 tensors <-> pictures on disk."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from raygen.files import replacing


def tile(images: Tensor, columns: int = 8) -> Image.Image:
    """Lay images (n, c, h, w) uint8 out row by row; the last row may end in black."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    canvas = np.zeros((rows * columns, height, width, channels), np.uint8)
    canvas[:n] = images.permute(0, 2, 3, 1).cpu().numpy()
    canvas = canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    canvas = canvas.reshape(rows * height, columns * width, channels)
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)


def save_grid(images: Tensor, path: Path, columns: int = 8) -> None:
    """Save one PNG with all images.

    Raises:
        StorageError, RaygenError: it cannot be written.
    """
    with replacing(path) as partial:
        tile(images, columns).save(partial, format="PNG")
