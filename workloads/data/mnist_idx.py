"""The IDX files of MNIST (LeCun, Cortes and Burges), plain or compressed by gzip. No torch.

A file has a big-endian header of 32-bit numbers (a magic number, and the length of each dimension), then one byte for
each value.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

SIDE, CLASSES = 28, 10
CHUNK_BYTES = 1 << 24
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049  # bytes 0, 0, 8 (for unsigned bytes) and the number of dimensions


class IDX(NamedTuple):
    """One file: its values have ``shape`` and begin at byte ``offset``."""

    path: Path
    shape: tuple[int, ...]
    offset: int

    @property
    def compressed(self) -> bool:
        """Whether the file is compressed with gzip."""
        return self.path.suffix == ".gz"

    def open(self) -> BinaryIO:
        """Open the file, decompressed."""
        return open_file(self.path)


def training_set(folder: str) -> tuple[IDX, IDX]:
    """Return images and labels, with checked headers. Raise ValueError or OSError with a message for the user."""
    if not Path(folder).is_dir():
        raise FileNotFoundError("there is no such folder")
    images = _header(_find(folder, "train-images", 3), IMAGES_MAGIC, 3)
    labels = _header(_find(folder, "train-labels", 1), LABELS_MAGIC, 1)
    if images.shape[1:] != (SIDE, SIDE):
        raise ValueError(
            f"{images.path.name} has images of {' x '.join(map(str, images.shape[1:]))}; wanted {SIDE} x {SIDE}"
        )
    if images.shape[0] != labels.shape[0]:
        raise ValueError(
            f"{images.path.name} has {images.shape[0]} images, {labels.path.name} {labels.shape[0]} labels; "
            "wanted equally many"
        )
    if not images.shape[0]:
        raise ValueError(f"{images.path.name} has no images")
    return images, labels


def header(magic: int, *shape: int) -> bytes:
    """Return the header of a file with values of ``shape``."""
    return struct.pack(f">{1 + len(shape)}I", magic, *shape)


def open_file(path: Path) -> BinaryIO:
    """Open a file, decompressed."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _find(folder: str, name: str, dimensions: int) -> Path:
    names = [f"{name}{dot}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for dot in "-."]
    for each in names:
        if (path := Path(folder, each)).is_file():
            return path
    raise FileNotFoundError(f"there is no {name} in it; wanted: {' or '.join(names)}")


def _header(path: Path, magic: int, dimensions: int) -> IDX:
    wanted = 4 * (1 + dimensions)
    try:
        with open_file(path) as stream:
            start = stream.read(wanted)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is not a complete gzip file: {error}") from None
    if len(start) < wanted:
        raise ValueError(f"{path.name} has {len(start)} bytes; wanted a header of {wanted}")
    found, *shape = struct.unpack(f">{1 + dimensions}I", start)
    if found != magic:
        raise ValueError(f"{path.name} begins with {found}; wanted {magic}, the magic number of such a file")
    file = IDX(path, tuple(shape), wanted)
    check_size(file, _inflated(path) if file.compressed else path.stat().st_size)
    return file


def _inflated(path: Path) -> int:
    """Return the size of a compressed file's contents in bytes. Raise ValueError if it is damaged or cut short."""
    try:
        with open_file(path) as stream:
            return sum(len(chunk) for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""))
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is not a complete gzip file: {error}") from None


def check_size(file: IDX, size: int) -> None:
    """Raise ValueError unless ``size``, of the whole file decompressed, is what its header says."""
    wanted = file.offset + math.prod(file.shape)
    if size != wanted:
        raise ValueError(f"{file.path.name} has {size} bytes; wanted {wanted}, by its header")
