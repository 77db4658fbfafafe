"""A small convolutional network on handwritten digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data.datasets import DigitFiles, SyntheticDigits


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return a block that halves height and width."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


class CNN:
    """Two convolutions and two linear layers."""

    unit = "samples"
    batch_size = 128
    data = ("resident", "synthetic", "mnist")

    def build(self) -> nn.Module:
        """Return the network."""
        hidden = nn.Sequential(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU())
        return nn.Sequential(_block(1, 32), _block(32, 64), hidden, nn.Linear(128, 10))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the digits."""
        pixels, labels = batch
        return F.cross_entropy(model(pixels).float(), labels)

    def samples(self, data: str) -> torch.utils.data.Dataset[tuple[Tensor, Tensor]]:
        """Return digits with labels."""
        kind, _, path = data.partition("=")
        return DigitFiles(path) if kind == "mnist" else SyntheticDigits()

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks."""
        return [child for child in model.children() if isinstance(child, nn.Sequential)]
