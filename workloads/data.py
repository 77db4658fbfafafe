"""Datasets: every item is a function of its index alone, so that however ranks share them, they see the same.

None of them draws from torch's global generators: augmentation has a generator of its own for each item.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as image_ops

from workloads.files import images_of

LENGTH = 1 << 20  # samples in an epoch of synthetic data: about ImageNet's
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, as torchvision's references use them


def augment(image: Tensor, size: int, generator: random.Random) -> Tensor:
    """A uint8 image (3, height, width) to a float one (3, size, size): random resized crop, flip, normalise.

    The crop is that of Szegedy et al. 2015 as torchvision draws it: 8 to 100 % of the area, sides 3:4 to 4:3.
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


class SyntheticImages(Dataset[tuple[Tensor, Tensor]]):
    """Random uint8 images, 8/7 of the trained size, augmented as real ones are; only the decoding is missing."""

    def __init__(self, size: int, classes: int) -> None:
        self.size, self.classes = size, classes

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        source = self.size * 8 // 7
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, source, source), dtype=torch.uint8, generator=generator)
        label = torch.randint(0, self.classes, (), generator=generator)
        return augment(image, self.size, random.Random(index)), label


class ImageFolder(Dataset[tuple[Tensor, Tensor]]):
    """``path/class/image``: real files, decoded and augmented. Labels are the classes' places in sorted order."""

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
        with Image.open(file) as image:
            pixels = image_ops.pil_to_tensor(image.convert("RGB"))
        return augment(pixels, self.size, random.Random(index)), torch.tensor(self.labels[file.parent.name])


class SyntheticTokens(Dataset[tuple[Tensor]]):
    """Random tokens, ``seq + 1`` a sample."""

    def __init__(self, seq: int, vocab: int) -> None:
        self.seq, self.vocab = seq, vocab

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[Tensor]:
        generator = torch.Generator().manual_seed(index)
        return (torch.randint(0, self.vocab, (self.seq + 1,), generator=generator),)


class Text(Dataset[tuple[Tensor]]):
    """A file's bytes as tokens, memory-mapped: sample i is bytes i seq to (i + 1) seq, and one more as target."""

    def __init__(self, path: str, seq: int) -> None:
        size = Path(path).stat().st_size
        self.seq, self.length = seq, (size - 1) // seq
        self.bytes = torch.from_file(path, shared=False, size=size, dtype=torch.uint8)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor]:
        start = index * self.seq
        return (self.bytes[start : start + self.seq + 1].long(),)


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
