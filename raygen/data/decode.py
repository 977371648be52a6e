"""Picture files -> pixels, as Pillow's `convert`, and what it would get wrong."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from raygen.data.fit import Fit, Stack
from raygen.errors import InputError
from raygen.progress_bar import ticking

DEEP = 65_535  # white in 16 bits
# Of a file: as large as Pillow opens a picture without a warning, uncompressed.
MOST_BYTES = 1 << 28
WIDE_FORMATS = ("PNG", "PPM")  # those that Pillow may open with 16 bits in 32


def decode(content: bytes, where: str) -> Image.Image:
    """Decode one picture to the mode RGB, or L if it is grey.

    As users of torchvision and Hugging Face expect: the alpha channel is dropped, palettes and CMYK
    become RGB, the first frame counts, and the picture is turned as its EXIF says (as Hugging Face
    does). 16-bit grey is scaled to 8 bits; Pillow would clip it to white.

    Raises:
        InputError: not a picture, or pixels without a known range.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return to_bytes(ImageOps.exif_transpose(opened), opened.format, where)
    except InputError:
        raise
    except Exception as error:  # Pillow raises anything on damaged files, or on a claim of 40 GB
        raise InputError(f"{where}: not a readable picture") from error


def decode_all(contents: Iterable[bytes], places: Sequence[str], fit: Fit) -> np.ndarray:
    """Decode pictures to uint8 (n, c, size, size).

    Raises:
        InputError: as decode, or as Stack.put.
    """
    # One thread: with two, decoding 10,000 CIFAR-sized JPEGs took 1.6 s instead of 1.3 s.
    stack = Stack(len(places), fit)
    pictures = enumerate(zip(contents, places, strict=True))
    for row, (content, where) in ticking(pictures, "decoding pictures", len(places)):
        stack.put(row, decode(content, where), where)
    return stack.images


def read_bytes(file: Path) -> bytes:
    """Read the file of a picture whole.

    Raises:
        InputError: it cannot be read, or is larger than any picture.
    """
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise InputError(f"{file}: {size:,} bytes: a picture has at most {MOST_BYTES:,}")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error


def to_bytes(picture: Image.Image, kind: str | None, where: str) -> Image.Image:
    """Bring a picture to 8 bits: mode L if it is grey, else RGB.

    Raises:
        InputError: its pixels have no known range.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind in WIDE_FORMATS):
        grey = np.asarray(picture).astype(np.float64) * 255 / DEEP
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))
    if picture.mode in ("I", "F"):
        numbers = "whole numbers" if picture.mode == "I" else "floating-point numbers"
        raise InputError(
            f"{where}: pixels are 32-bit {numbers} without a known black and white; "
            "save it with 8 or 16 bits"
        )
    if picture.mode in ("1", "L", "LA", "La"):
        return picture.convert("L")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # the same colours; straight to RGB, Pillow warns
    return picture.convert("RGB")
