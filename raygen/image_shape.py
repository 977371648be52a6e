"""The shape of the images of a data set: square, with one or three channels."""

from typing import Any, NamedTuple

SIZES = (16, 32, 64, 128, 256)
BASE = 4  # networks begin or end at 4x4


class ImageShape(NamedTuple):
    """Images (channels, size, size): 3 channels are red, green and blue, 1 is grey."""

    channels: int = 3
    size: int = 32

    @classmethod
    def of(cls, record: Any) -> "ImageShape":
        """Return the shape that a study or checkpoint recorded as (channels, height, width).

        Those that recorded none are of a time when all images were 32x32 in colour.
        """
        return cls(int(record[0]), int(record[1])) if record else cls()

    @property
    def halvings(self) -> int:
        """How often the size is halved until it is 4."""
        return (self.size // BASE).bit_length() - 1

    @property
    def values(self) -> int:
        """How many numbers an image has."""
        return self.channels * self.size * self.size

    @property
    def chw(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def __str__(self) -> str:
        return f"{self.size}x{self.size} {'colour' if self.channels == 3 else 'grey'}"


CIFAR10 = ImageShape()
