"""Pictures of any size -> the square size and the channels that a model is to learn."""

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from raygen.errors import InputError
from raygen.image_shape import SIZES

How = Literal["crop", "pad", "resize"]
SMOOTH = Image.Resampling.LANCZOS  # antialiased where it makes smaller


class Fit(NamedTuple):
    """The size and channels to bring pictures to, None for those that they have, and how."""

    size: int | None = None
    channels: int | None = None
    how: How = "crop"

    @property
    def words(self) -> str:
        return f"{self.size}-{self.channels}-{self.how}"


class Stack:
    """Pictures one by one into one array, uint8 (n, c, size, size).

    Where nothing is said, all must be of one square size, and they are grey if all are.
    """

    def __init__(self, count: int, fit: Fit) -> None:
        self.count, self.fit = count, fit
        self.first: tuple[tuple[int, int], str] | None = None  # size of the first one, and where
        self.images = np.empty((0, 0, 0, 0), np.uint8)

    def put(self, row: int, picture: Image.Image, where: str) -> None:
        """Add a picture of mode L or RGB.

        Raises:
            InputError: its size cannot be used, or differs from that of the first.
        """
        if self.fit.size is None:
            self._check_size(picture.size, where)
        elif picture.size != (self.fit.size, self.fit.size):
            picture = resized(picture, self.fit.size, self.fit.how)
        channels = self.fit.channels or len(picture.getbands())
        if not self.images.size:
            shape = (self.count, channels, *picture.size)
            self.images = np.empty(shape, np.uint8)
        if channels > self.images.shape[1]:  # the first one in colour, after grey ones
            self.images = np.repeat(self.images, 3, axis=1)
        mode = "L" if self.images.shape[1] == 1 else "RGB"
        pixels = np.asarray(picture.convert(mode))
        self.images[row] = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]

    def _check_size(self, size: tuple[int, int], where: str) -> None:
        if self.first is None:
            width, height = size
            if width != height or width not in SIZES:
                raise InputError(f"{where}: {unusable(width, height)}")
            self.first = size, where
        elif size != self.first[0]:
            (width, height), (first, place) = size, self.first
            raise InputError(
                f"{where}: {width}x{height}, but {place} is {first[0]}x{first[1]}; "
                "set data.size, to which all are brought"
            )


def unusable(width: int, height: int) -> str:
    """Say that pictures of a size cannot be learnt as they are, and what to do."""
    side = max(width, height)
    nearest = next((size for size in SIZES if size >= side), SIZES[-1])
    how = "pad" if width == height and side <= nearest else "crop"
    return (
        f"{width}x{height}, but images must be squares of {', '.join(map(str, SIZES))}; set "
        f"data.size, such as {nearest}, and data.fit (crop, pad or resize), such as {how}"
    )


def resized(picture: Image.Image, size: int, how: How) -> Image.Image:
    """Return a picture of size x size.

    `crop`: the square in its middle, made smaller or larger. `resize`: the whole, its proportions
    lost. `pad`: the whole, made smaller if it must be, in the middle of a black square.
    """
    if how == "resize":
        return picture.resize((size, size), SMOOTH)
    if how == "crop":
        return ImageOps.fit(picture, (size, size), SMOOTH)
    if max(picture.size) > size:
        picture = ImageOps.contain(picture, (size, size), SMOOTH)
    square = Image.new(picture.mode, (size, size))
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square


def fit_array(images: np.ndarray, fit: Fit, where: str) -> np.ndarray:
    """Bring images uint8 (n, c, h, w) to a shape.

    Raises:
        InputError: nothing says to what, and their size cannot be used.
    """
    channels, height, width = images.shape[1:]
    if fit.size is None and (height != width or width not in SIZES):
        raise InputError(f"{where}: {unusable(width, height)}")
    same = fit.size in (None, height) and height == width
    if same and fit.channels in (None, channels):
        return images
    if same and fit.channels == 3:
        return np.repeat(images, 3, axis=1)
    stack = Stack(len(images), fit)
    for row, image in enumerate(images):
        pixels = image[0] if channels == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        stack.put(row, Image.fromarray(pixels), where)
    return stack.images


def in_colour(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Images of several files: grey ones become colours where others are."""
    most = max(part.shape[1] for part in parts)
    return [np.repeat(part, 3, axis=1) if part.shape[1] < most else part for part in parts]
