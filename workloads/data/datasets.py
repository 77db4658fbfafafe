"""Datasets: every item is a function of its index alone, however ranks share the items.

They never draw from torch's global generators: augmentation has a generator of its own for each item. Synthetic data
comes from a small pool in memory and is then processed like real data, so that it has the same cost without the disk.
Each process makes its own pool when it is first asked for an item.
"""

from __future__ import annotations

import io
import math
import mmap
import random
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as image_ops

from workloads.data import criteo, mnist_idx
from workloads.data.demo import SIDE
from workloads.data.paths import images_of

LENGTH = 1 << 20  # Samples in an epoch of synthetic data: about as many as ImageNet has.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # Of ImageNet, as in torchvision's reference scripts.
DIGITS_MEAN, DIGITS_STD = 0.1307, 0.3081  # Of all pixels of MNIST's training set, as in PyTorch's example.
POOL_IMAGES, POOL_DIGITS, POOL_LINES, POOL_TOKENS = 16, 1024, 1024, 1 << 20


def images(data: str, size: int, classes: int) -> SyntheticImages | ImageFolder:
    """Return the dataset that ``--data`` names, for a workload that trains on square images."""
    kind, _, path = data.partition("=")
    return ImageFolder(path, size, classes) if kind == "folder" else SyntheticImages(size, classes)


def tokens(data: str, seq: int, vocab: int) -> SyntheticTokens | Text:
    """Return the dataset that ``--data`` names, for a workload that trains on tokens."""
    kind, _, path = data.partition("=")
    if kind != "text":
        return SyntheticTokens(seq, vocab)
    if vocab < 256:
        raise ValueError(f"the bytes of a text need :vocab=256 or more, and not {vocab}")
    return Text(path, seq)


def augment(image: Tensor, size: int, generator: random.Random) -> Tensor:
    """Turn a uint8 image (3, height, width) into a float one (3, size, size): random resized crop, flip, normalise.

    The crop is that of Szegedy et al. 2015 as torchvision draws it: 8 to 100 % of the area, aspect ratio 3:4 to 4:3.
    """
    height, width = image.shape[-2:]
    top, left, h, w = 0, 0, height, width
    for _ in range(10):
        area = height * width * generator.uniform(0.08, 1.0)
        ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_h, crop_w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < crop_h <= height and 0 < crop_w <= width:
            top, left = generator.randint(0, height - crop_h), generator.randint(0, width - crop_w)
            h, w = crop_h, crop_w
            break
    image = image_ops.resized_crop(image, top, left, h, w, [size, size], antialias=True)
    if generator.random() < 0.5:
        image = image_ops.horizontal_flip(image)
    normalised: Tensor = image_ops.normalize(image_ops.to_dtype(image, torch.float32, scale=True), MEAN, STD)
    return normalised


def decode(file: Path | io.BytesIO, size: int, index: int) -> Tensor:
    """Turn an image file into a float image (3, size, size), augmented by the index."""
    with Image.open(file) as image:
        pixels = image_ops.pil_to_tensor(image.convert("RGB"))
    return augment(pixels, size, random.Random(index))


class ImageFolder(Dataset[tuple[Tensor, Tensor]]):
    """``path/class/image``: real files, decoded and augmented. Labels are the positions of the sorted classes."""

    def __init__(self, path: str, size: int, classes: int) -> None:
        self.files, self.size = images_of(Path(path)), size
        names = sorted({file.parent.name for file in self.files})
        if len(names) > classes:
            raise ValueError(f"{path} has {len(names)} classes, the model {classes}; add :classes={len(names)}")
        self.labels = {name: label for label, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        file = self.files[index]
        return decode(file, self.size, index), torch.tensor(self.labels[file.parent.name])


class SyntheticImages(Dataset[tuple[Tensor, Tensor]]):
    """JPEG files in memory, decoded and augmented like real ones.

    Their sides are twice the size that is trained on, as ImageNet's photographs have 400 x 350 pixels on average
    (Russakovsky et al. 2015) for 224; but at least those of the demo's images.
    """

    def __init__(self, size: int, classes: int) -> None:
        self.size, self.classes = size, classes

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        file = io.BytesIO(self._pool[index % POOL_IMAGES])
        return decode(file, self.size, index), torch.tensor(index % self.classes)

    @cached_property
    def _pool(self) -> list[bytes]:
        return _photographs(max(2 * self.size, SIDE))


def _photographs(side: int) -> list[bytes]:
    """Return JPEG files cut from noise on all scales, each with as many bytes as a photograph.

    Coarse scales are strongest. At 160 x 160 pixels a file has 8.7 kB, as the demo's files.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.zeros(1, 3, 1, 1)
    while noise.shape[-1] < 2 * side:
        noise = F.interpolate(noise, scale_factor=2.0, mode="bilinear")
        noise += torch.randn(noise.shape, generator=generator) / noise.shape[-1] ** 0.4
    pixels = noise[0].sub_(noise.mean()).mul_(55 / noise.std()).add_(128).clamp_(0, 255).to(torch.uint8)
    contents = []
    for n in range(POOL_IMAGES):
        top, left = n // 4 * side // 4, n % 4 * side // 4
        file = io.BytesIO()
        image_ops.to_pil_image(pixels[:, top : top + side, left : left + side]).save(file, "jpeg", quality=90)
        contents.append(file.getvalue())
    return contents


class Text(Dataset[tuple[Tensor]]):
    """The bytes of a file as tokens, memory-mapped: sample i is bytes i seq to (i + 1) seq, and one more as target."""

    def __init__(self, path: str, seq: int) -> None:
        size = Path(path).stat().st_size
        self.seq, self.length = seq, (size - 1) // seq
        self.bytes = torch.from_file(path, shared=False, size=size, dtype=torch.uint8)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor]:
        start = index * self.seq
        return (self.bytes[start : start + self.seq + 1].long(),)


class SyntheticTokens(Dataset[tuple[Tensor]]):
    """Random tokens, ``seq + 1`` in a sample, cut from a random text like real ones."""

    def __init__(self, seq: int, vocab: int) -> None:
        self.seq, self.vocab = seq, vocab

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[Tensor]:
        start = index * self.seq % POOL_TOKENS
        return (self._pool[start : start + self.seq + 1].long(),)

    @cached_property
    def _pool(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        dtype = torch.uint8 if self.vocab <= 256 else torch.int32
        return torch.randint(0, self.vocab, (POOL_TOKENS + self.seq + 1,), dtype=dtype, generator=generator)


class DigitFiles(Dataset[tuple[Tensor, Tensor]]):
    """MNIST's training set: normalised images (1, 28, 28) and labels. Memory-mapped unless it is compressed."""

    def __init__(self, path: str) -> None:
        self.pixels, self.labels = (_values(file) for file in mnist_idx.training_set(path))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return _normalise(self.pixels[index]), self.labels[index].long()


class SyntheticDigits(Dataset[tuple[Tensor, Tensor]]):
    """Random pixels, 28 x 28, and random labels, normalised like real ones."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels, labels = self._pool
        return _normalise(pixels[index % POOL_DIGITS]), labels[index % POOL_DIGITS].long()

    @cached_property
    def _pool(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(
            0, 256, (POOL_DIGITS, mnist_idx.SIDE, mnist_idx.SIDE), dtype=torch.uint8, generator=generator
        )
        return pixels, torch.randint(0, mnist_idx.CLASSES, (POOL_DIGITS,), dtype=torch.uint8, generator=generator)


def _normalise(pixels: Tensor) -> Tensor:
    return pixels.unsqueeze(0).float().div_(255).sub_(DIGITS_MEAN).div_(DIGITS_STD)


def _values(file: mnist_idx.IDX) -> Tensor:
    """Return the values of an IDX file in their shape."""
    if file.compressed:
        with file.open() as stream:
            content = torch.frombuffer(bytearray(stream.read()), dtype=torch.uint8)
    else:
        content = torch.from_file(str(file.path), shared=False, size=file.path.stat().st_size, dtype=torch.uint8)
    return content[file.offset :].view(file.shape)


Click = tuple[Tensor, Tensor, Tensor]


class _Lines:
    """The lines of a text in memory or of a mapped file; their starts are searched once."""

    def __init__(self, content: bytearray | mmap.mmap) -> None:
        self.content = content
        chunks = torch.frombuffer(content, dtype=torch.uint8).split(criteo.CHUNK_BYTES)
        ends = [(chunk == ord("\n")).nonzero()[:, 0] + n * criteo.CHUNK_BYTES + 1 for n, chunk in enumerate(chunks)]
        self.bounds = torch.cat([torch.tensor([0]), *ends, torch.tensor([len(content)])]).unique_consecutive()

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def click(self, index: int, tables: int, rows: int) -> Click:
        """Return numbers (13,), categories (tables,) and the label of one line."""
        start, end = self.bounds[index : index + 2].tolist()
        numbers, categories, label = criteo.parse(bytes(self.content[start:end]), tables, rows)
        return torch.tensor(numbers), torch.tensor(categories), torch.tensor(label)


class ClickLog(Dataset[Click]):
    """A file of Criteo's data, memory-mapped."""

    def __init__(self, path: str, tables: int, rows: int) -> None:
        self.path, self.tables, self.rows = path, tables, rows
        with open(path, "rb") as file:
            self.lines = _Lines(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Click:
        try:
            return self.lines.click(index, self.tables, self.rows)
        except ValueError as error:
            raise ValueError(f"{self.path}, line {index + 1}: {error}") from None


class SyntheticClicks(Dataset[Click]):
    """Made-up lines in memory, parsed like real ones."""

    def __init__(self, tables: int, rows: int) -> None:
        self.tables, self.rows = tables, rows

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> Click:
        return self._pool.click(index % POOL_LINES, self.tables, self.rows)

    @cached_property
    def _pool(self) -> _Lines:
        return _Lines(bytearray(b"".join(criteo.made_up(seed) for seed in range(POOL_LINES))))


class SyntheticVectors(Dataset[tuple[Tensor, Tensor]]):
    """Standard normal features and a random label."""

    def __init__(self, features: int, classes: int) -> None:
        self.features, self.classes = features, classes

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(index)
        features = torch.randn(self.features, generator=generator)
        return features, torch.randint(0, self.classes, (), generator=generator)
