"""Images on disk as a model that "generates" them: a folder of pictures, or an .npz.

Read a chunk at a time, so that a million of them take no more memory than a thousand.
"""

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from raygen.data.decode import decode, read_bytes
from raygen.data.listing import PICTURES, left_out_note, list_files
from raygen.data.npz import DAMAGED
from raygen.errors import InputError
from raygen.image_shape import ImageShape
from raygen.metrics.protocol import Record
from raygen.untrusted import one_line

KEYS = ("images", "samples", "arr_0")  # ours; EDM's; that of numpy and of guided diffusion


class Pictures(NamedTuple):
    """Picture files in the order of their names, at any depth of a folder.

    `notes` say in a line what else lies there and is left out.
    """

    files: list[Path]
    shape: ImageShape
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: list[int]) -> np.ndarray:
        """Decode some of them: (n, c, size, size).

        Raises:
            InputError: one is not a picture, or of another size than the real images.
        """
        images = np.empty((len(rows), *self.shape.chw), np.uint8)
        for place, row in enumerate(rows):
            where = str(self.files[row])
            picture = decode(read_bytes(self.files[row]), where)
            if picture.size != (self.shape.size, self.shape.size):
                width, height = picture.size
                raise InputError(f"{where}: {width}x{height}, but the real images are {self.shape}")
            pixels = np.asarray(picture.convert("L" if self.shape.channels == 1 else "RGB"))
            images[place] = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels
        return images


class Archive:
    """The image array of an .npz, read in order: a compressed one cannot be entered midway."""

    notes: tuple[str, ...] = ()

    def __init__(self, file: Path, image: ImageShape) -> None:
        self.file, self.image = file, image
        self.name, self.shape = _image_array(file, image)
        self._rows: Iterator[np.ndarray] = iter(())
        self._next = 0

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: list[int]) -> np.ndarray:
        """Read some images, in ascending order: (n, c, h, w)."""
        if self._next == 0 or rows[0] < self._next:
            self._rows, self._next = _npz_rows(self.file, self.name, self.image.values), 0
        rows_read = []
        for row in rows:
            pixels = next(islice(self._rows, row - self._next, None), None)
            if pixels is None:
                raise InputError(f"{self.file}: ends before image {row} of {len(self)}")
            self._next = row + 1
            rows_read.append(pixels)
        images = np.stack(rows_read)
        if len(self.shape) == 4 and self.shape[1] != self.image.channels:
            return images.reshape(-1, *self.shape[1:]).transpose(0, 3, 1, 2)
        return images.reshape(-1, *self.image.chw)


class StoredImages:
    """Stored images in the place of a model (raygen.metrics.model.Generative)."""

    latent_dim, parameters = 1, 0

    def __init__(
        self, store: Pictures | Archive, device: torch.device, count: int, seed: int
    ) -> None:
        """Serve `count` of the images: all, or by chance with the seed, in the order on disk."""
        self.store, self.device, self.classes = store, device, count  # labels are positions
        order = torch.arange(len(store))
        if count < len(store):
            random = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(store), generator=random)[:count].sort().values
        self.order = order
        drawn = "all" if count == len(store) else f"of {len(store)}, by seed {seed}"
        self.origin: Record = {"source": f"stored images, {drawn}"}

    def sample(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Read the images at the positions that the labels say: uint8 (n, c, h, w)."""
        images = self.store.read(self.order[labels.cpu()].tolist())
        return torch.from_numpy(np.ascontiguousarray(images)).to(self.device)


def open_images(source: Path, image: ImageShape) -> Pictures | Archive:
    """Open a folder of pictures (at any depth) or an .npz of uint8 (n, h, w, c), of one shape.

    Raises:
        InputError: neither, empty, unreadable, or of another shape or type.
    """
    if source.suffix == ".npz":
        return Archive(source, image)
    files, left_out = list_files(source)
    notes = left_out_note(source, left_out)
    if not files:
        left = f"; {notes[0].removeprefix(f'{source}: ')}" if notes else ""
        raise InputError(f"{source}: no pictures in it ({', '.join(PICTURES)}){left}")
    return Pictures(files, image, notes)


def _image_array(file: Path, image: ImageShape) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the image array, from the headers alone."""
    try:
        with zipfile.ZipFile(file) as archive:
            arrays = {
                name.removesuffix(".npy"): _header(archive, name)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
    except DAMAGED as error:
        raise InputError(f"{file}: not a readable .npz file") from error
    name = next((key for key in KEYS if key in arrays), None)
    if name is None:
        names = one_line(", ".join(arrays)) or "nothing"
        raise InputError(f"{file}: has {names}, but needs images (or {' or '.join(KEYS[1:])})")
    shape, fortran, dtype = arrays[name]
    if dtype != np.uint8:
        raise InputError(f"{file}: {name} is {dtype}, but pixels must be uint8")
    channels, side, _ = image.chw
    taken: list[tuple[int, ...]] = [(side, side, channels), (channels, side, side)]
    if channels == 1:
        taken.append((side, side))
    if shape[1:] not in taken or fortran:
        wanted = ", ".join(map(str, taken[0]))
        raise InputError(f"{file}: {name} has shape {shape}, not (n, {wanted})")
    if shape[0] == 0:
        raise InputError(f"{file}: {name} is empty")
    return name, shape


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    with archive.open(name) as member:
        return _read_header(member)


def _read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    if np.lib.format.read_magic(member) == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)


def _npz_rows(file: Path, name: str, size: int) -> Iterator[np.ndarray]:
    """The pixels of one image after another."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as member:
            _read_header(member)
            while len(content := member.read(size)) == size:
                yield np.frombuffer(content, np.uint8)
    except DAMAGED as error:
        raise InputError(f"{file}: damaged ({error})") from error
