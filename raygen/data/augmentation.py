"""What a discriminator sees changed, and how often: policies of DiffAugment and of ADA."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
from pydantic import AfterValidator
from torch import Tensor

from raygen.data.ada import blit, geometric
from raygen.data.diffaugment import color, cutout, translation
from raygen.errors import did_you_mean


class Augment(NamedTuple):
    """A change, and how many random numbers it takes for an image."""

    change: Callable[[Tensor, Tensor], Tensor]
    numbers: int


AUGMENTS = {
    "color": Augment(color, 3),
    "translation": Augment(translation, 2),
    "cutout": Augment(cutout, 2),
    "blit": Augment(blit, 4),
    "geometric": Augment(geometric, 6),
}


class Policy:
    """Several changes in order, such as "color,translation,cutout"; "none" changes nothing.

    `always`: every image has every change; else each has each with a probability.
    """

    def __init__(self, names: str, always: bool = True) -> None:
        self.parts = [AUGMENTS[name] for name in names.split(",") if name != "none"]
        self.always = always
        self.numbers = sum(part.numbers + (not always) for part in self.parts)

    def __call__(self, images: Tensor, uniform: Tensor, p: Tensor | None = None) -> Tensor:
        """Change images (n, c, h, w) by uniform numbers (n, self.numbers) in [0, 1).

        `p` () is the probability of each change, of a policy that is not for always.
        """
        start = 0
        for change, numbers in self.parts:
            changed = change(images, uniform[:, start : start + numbers])
            start += numbers
            if self.always:
                images = changed
            else:
                assert p is not None
                images = torch.where((uniform[:, start] < p).view(-1, 1, 1, 1), changed, images)
                start += 1
        return images


def _known(names: str) -> str:
    parts = names.split(",")
    for part in parts:
        if part not in AUGMENTS and names != "none":
            hint = did_you_mean(part, AUGMENTS)
            raise ValueError(
                f"unknown augmentation {part!r}, give none or some of {','.join(AUGMENTS)}{hint}"
            )
    if len(set(parts)) != len(parts):
        raise ValueError("names an augmentation twice")
    return names


PolicyName = Annotated[str, AfterValidator(_known)]
