"""A stack of linear layers: a minimal workload for trying things out and for tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data.datasets import SyntheticVectors


class MLP:
    """A stack of ``layers`` linear layers of ``width``."""

    unit = "samples"
    batch_size = 64
    data = ("resident", "synthetic")

    def __init__(self, layers: int = 4, width: int = 256, features: int = 256, classes: int = 10) -> None:
        self.widths = [features, *[width] * layers]
        self.features, self.classes = features, classes

    def build(self) -> nn.Module:
        """Return the layers in sequence."""
        blocks = [
            nn.Sequential(nn.Linear(n_in, n_out), nn.GELU())
            for n_in, n_out in zip(self.widths, self.widths[1:], strict=False)
        ]
        return nn.Sequential(*blocks, nn.Linear(self.widths[-1], self.classes))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the classes."""
        x, y = batch
        return F.cross_entropy(model(x).float(), y)

    def samples(self, data: str) -> torch.utils.data.Dataset[tuple[Tensor, Tensor]]:
        """Return vectors with labels."""
        return SyntheticVectors(self.features, self.classes)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the layers."""
        return [child for child in model.children() if isinstance(child, nn.Sequential)]
