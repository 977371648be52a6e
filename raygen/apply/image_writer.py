"""A stream of images to disk: one chunk in memory at a time, however many there are."""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raygen.data.pictures import save_grid, tile
from raygen.files import replacing
from raygen.metrics.model import CHUNK
from raygen.progress_bar import ticking

PER_FOLDER = 10_000
FRAME_MS = 80
ENLARGE = 4  # times, in an animation

Chunks = Iterable[tuple[Tensor, Tensor]]


def write_folder(chunks: Chunks, folder: Path, total: int) -> None:
    """One PNG per image, by number; in sub-folders of 10,000 if there are more than that."""
    folder.mkdir(parents=True, exist_ok=True)
    width = len(str(total - 1))
    number = 0
    for images, _ in _counted(chunks, total):
        for image in images:
            place = folder
            if total > PER_FOLDER:
                place = folder / f"{number // PER_FOLDER:0{len(str((total - 1) // PER_FOLDER))}d}"
                place.mkdir(exist_ok=True)
            tile(image.unsqueeze(0), 1).save(place / f"{number:0{width}d}.png")
            number += 1


def write_grid(chunks: Chunks, path: Path, columns: int) -> None:
    """All images in one picture."""
    save_grid(torch.cat([images for images, _ in chunks]), path, columns)


def write_gif(chunks: Chunks, path: Path) -> None:
    """An endless loop, four times as large as the images, without smoothing."""
    images = torch.cat([images for images, _ in chunks])
    frames = [tile(image.unsqueeze(0), 1) for image in images]
    large = [frame.resize((frame.width * ENLARGE, frame.height * ENLARGE), 0) for frame in frames]
    first, *others = large
    with replacing(path) as partial:
        first.save(
            partial, format="GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0
        )


def write_npz(chunks: Chunks, path: Path, total: int, shard: int | None) -> Path:
    """Write one archive, or several of `shard` images each; return the (first) one's path."""
    stream = _counted(chunks, total)
    if shard is None:
        _archive(stream, path, total)
        return path
    count = -(-total // shard)
    paths = [path.with_stem(f"{path.stem}-{k:0{len(str(count - 1))}d}") for k in range(count)]
    cut = _Cut(stream)
    for number, shard_path in enumerate(paths):
        size = min(shard, total - number * shard)
        _archive(cut.take(size), shard_path, size)
    return paths[0]


def _archive(chunks: Chunks, path: Path, total: int) -> None:
    """What numpy.savez_compressed(images=..., labels=...) writes, without holding the images."""
    labels = []
    zipped = zipfile.ZIP_DEFLATED
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipped) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False}
            for images, of in chunks:
                pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
                if not labels:
                    shape = {"shape": (total, *pixels.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header | shape)  # pyright: ignore
                file.write(pixels.tobytes())
                labels.append(of.numpy())
        with archive.open("labels.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.concatenate(labels))  # pyright: ignore


class _Cut:
    """Takes given numbers of images from a stream whose chunks end elsewhere."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = iter(chunks)
        self.rest: tuple[Tensor, Tensor] | None = None

    def take(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        while count:
            images, labels = self.rest or next(self.chunks)
            self.rest = (images[count:], labels[count:]) if len(images) > count else None
            yield images[:count], labels[:count]
            count -= min(count, len(images))


def _counted(chunks: Chunks, total: int) -> Iterator[tuple[Tensor, Tensor]]:
    return ticking(chunks, f"drawing {total} images", -(-total // CHUNK))
