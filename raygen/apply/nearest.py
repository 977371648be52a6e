"""The nearest of many images to each of some: chunked, so that memory stays bounded."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from raygen.data.batches import to_model_range
from raygen.progress_bar import ticking

QUERIES, REFERENCES = 2000, 2500  # images compared at once

Encode = Callable[[Tensor], Tensor]  # uint8 images (n, 3, 32, 32) -> vectors (n, d)


class Nearest(NamedTuple):
    """Of each query: the distance to its nearest reference and that one's number, both (n,)."""

    distance: Tensor
    number: Tensor


class Space(NamedTuple):
    """Where distances are measured: an encoding, and the unit that its distances are in.

    With `flip`, an image is as near as the nearer of itself and its mirror image: what was trained
    on mirrored images may copy these, too.
    """

    name: str
    encode: Encode
    flip: bool


def pixel_space(device: torch.device, flip: bool) -> Space:
    """Distances are root mean square differences in levels of 0 to 255."""

    def encode(images: Tensor) -> Tensor:
        vectors = images.to(device).flatten(1).float()
        return vectors / vectors.shape[1] ** 0.5

    return Space("pixels", encode, flip)


def feature_space(
    features: Callable[[Tensor], Tensor], images: Tensor, device: torch.device, flip: bool
) -> Space:
    """Distances between features, each divided by its standard deviation over `images`."""

    def plain(part: Tensor) -> Tensor:
        return features(to_model_range(part.to(device)))

    spread = torch.cat([plain(part) for part in images.split(QUERIES)]).std(dim=0).clamp(min=1e-6)
    root = len(spread) ** 0.5
    return Space("features", lambda part: plain(part) / (spread * root), flip)


@torch.no_grad()
def nearest(
    space: Space, queries: Tensor, references: Tensor, apart: Tensor | None = None
) -> Nearest:
    """Find the reference nearest to each query; both uint8 images (n, 3, 32, 32).

    `apart`: for each query the number of a reference that does not count: itself.
    """
    chunks = []
    starts = range(0, len(queries), QUERIES)
    for start in ticking(starts, f"nearest of {len(references)} images", len(starts)):
        part = slice(start, start + QUERIES)
        best = _Best(queries[part], None if apart is None else apart[part], space)
        for number, chunk in enumerate(references.split(REFERENCES)):
            best.look(space.encode(chunk), number * REFERENCES)
        chunks.append(best.exact(references, space))
    return Nearest(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


class _Best:
    """The nearest so far to a chunk of queries."""

    def __init__(self, images: Tensor, apart: Tensor | None, space: Space) -> None:
        self.apart = apart
        views = [images, images.flip(-1)] if space.flip else [images]
        self.encoded = [space.encode(view) for view in views]
        self.norms = [encoded.square().sum(dim=1, keepdim=True) for encoded in self.encoded]
        self.score = torch.full((len(images),), torch.inf, device=self.encoded[0].device)
        self.index = torch.zeros(len(images), dtype=torch.long, device=self.score.device)

    def look(self, references: Tensor, start: int) -> None:
        squares = references.square().sum(dim=1)
        for encoded, norms in zip(self.encoded, self.norms, strict=True):
            scores = torch.addmm(norms + squares, encoded, references.T, alpha=-2)
            if self.apart is not None:
                column = self.apart.to(scores.device) - start
                rows = ((column >= 0) & (column < len(references))).nonzero().squeeze(1)
                scores[rows, column[rows]] = torch.inf
            score, index = scores.min(dim=1)
            closer = score < self.score
            self.score = torch.where(closer, score, self.score)
            self.index = torch.where(closer, index + start, self.index)

    def exact(self, references: Tensor, space: Space) -> tuple[Tensor, Tensor]:
        """Distances again, by differences: products lose those between near duplicates."""
        index = self.index.cpu()
        chosen = space.encode(references[index])
        distances = [(encoded - chosen).norm(dim=1) for encoded in self.encoded]
        return torch.stack(distances).min(dim=0).values.cpu(), index
