"""A data set whose item i is drawn from the seed i, and so always the same."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset


class Items(Dataset):
    """``length`` items, each what ``make`` draws from a generator."""

    def __init__(self, make: Callable[[torch.Generator], Any], length: int = 512) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.make(torch.Generator().manual_seed(index))


def image_and_label(size: int, classes: int) -> Callable[[torch.Generator], Any]:
    return lambda g: (torch.randn(3, size, size, generator=g), torch.randint(0, classes, (), generator=g))
