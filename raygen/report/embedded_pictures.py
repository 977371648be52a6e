"""Sample grids as data URIs, small enough that the page can be mailed."""

import base64
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from raygen.results import Results

COLUMNS = 8  # of a grid
LARGEST = 200_000  # bytes; a 64-tile CIFAR grid (113 kB) stays an exact PNG


class Picture(NamedTuple):
    """One grid: where it comes from and what the browser loads."""

    uri: str
    width: int
    height: int
    kimg: float | None  # None for real images
    exact: bool  # False: recompressed to WebP to keep the page small


def nearest_milestone(pictures: Iterable[float], kimg: float) -> float:
    """Of the milestones that have a picture the one nearest to `kimg`; the last one for nan."""
    return max(pictures) if math.isnan(kimg) else min(pictures, key=lambda at: abs(at - kimg))


def sample_picture(study: Results, trial: int, kimg: float) -> Picture | None:
    """Sample grid of a trial nearest to `kimg` (nan: the last one); None if there is none."""
    grids = study.folder.trial(trial).all_samples()
    if not grids:
        return None
    nearest = nearest_milestone(grids, kimg)
    return embed_picture(grids[nearest], nearest)


def real_picture(study: Results) -> Picture | None:
    """Grid of real training images; None if the study has none."""
    return embed_picture(study.folder.real, None)


def trial_picture(study: Results, trial: int, name: str, kimg: float) -> Picture | None:
    """Another picture of a trial nearest to `kimg` (nan: the last one); None if there is none."""
    paths = study.folder.trial(trial).all_pictures(name)
    if not paths:
        return None
    nearest = nearest_milestone(paths, kimg)
    return embed_picture(paths[nearest], nearest)


def variation(study: Results, trial: int, kimg: float) -> float | None:
    """How much the samples nearest to `kimg` vary, as a share of real images; None if unknown.

    For studies whose journal does not say it: standard deviation over the tiles of a grid, mean
    over their pixels.
    """
    grids = study.folder.trial(trial).all_samples()
    if not grids:
        return None
    nearest = nearest_milestone(grids, kimg)
    drawn, real = _spread(grids[nearest]), _spread(study.folder.real)
    return drawn / real if drawn is not None and real else None


def _spread(path: Path) -> float | None:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=float)
    except (OSError, SyntaxError):
        return None
    side = pixels.shape[1] // COLUMNS
    rows = pixels.shape[0] // side if side else 0
    if rows * COLUMNS < 2:
        return None
    tiles = pixels[: rows * side, : COLUMNS * side].reshape(rows, side, COLUMNS, side, 3)
    return float(tiles.swapaxes(1, 2).reshape(-1, side, side, 3).std(axis=0, ddof=1).mean())


def tiles_picture(
    path: Path, rows: int, columns: int = COLUMNS, largest: int | None = None, quality: int = 90
) -> Picture | None:
    """The first rows and columns of a grid, a pixel of nothing between its tiles, as WebP.

    Tiles wider than `largest` pixels are made smaller. None as `embed_picture`.
    """
    try:
        with Image.open(path) as image:
            side = image.width // COLUMNS
            rows = min(rows, image.height // max(1, side))
            pixels = image.convert("RGB").crop((0, 0, columns * side, rows * side))
        if largest is not None and side > largest:
            side = largest
            pixels = pixels.resize((columns * side, rows * side), Image.Resampling.BOX)
        tiles = Image.new("RGBA", (columns * (side + 1) - 1, rows * (side + 1) - 1))
        for row in range(rows):
            for column in range(columns):
                left, top = column * side, row * side
                tile = pixels.crop((left, top, left + side, top + side))
                tiles.paste(tile, (column * (side + 1), row * (side + 1)))
        small = io.BytesIO()
        tiles.save(small, "WEBP", quality=quality, method=4)
    except (OSError, SyntaxError, ValueError):  # ValueError: a picture without a single tile
        return None
    uri = f"data:image/webp;base64,{base64.b64encode(small.getvalue()).decode()}"
    return Picture(uri, *tiles.size, None, exact=False)


def embed_picture(path: Path, kimg: float | None) -> Picture | None:
    """One PNG as a data URI; None if it is missing or unreadable (a page never fails on it)."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            exact = len(data) <= LARGEST
            if not exact:
                small = io.BytesIO()
                image.convert("RGB").save(small, "WEBP", quality=90, method=4)
                data = small.getvalue()
    except (OSError, SyntaxError):  # Pillow reports a broken PNG as SyntaxError
        return None
    kind = "png" if exact else "webp"
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Picture(uri, width, height, kimg, exact)
