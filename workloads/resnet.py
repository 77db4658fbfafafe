"""Torchvision's ResNets on square images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data.datasets import images


class ResNet:
    """ResNet-18 (He et al. 2015); deeper ones differ in ``depth``."""

    unit = "samples"
    batch_size = 32
    data = ("resident", "synthetic", "folder")
    depth = 18

    def __init__(self, size: int = 224, classes: int = 1000) -> None:
        self.size, self.classes = size, classes

    def build(self) -> nn.Module:
        """Return torchvision's model."""
        return torchvision.models.get_model(f"resnet{self.depth}", num_classes=self.classes)  # type: ignore[no-any-return]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the classes."""
        pixels, labels = batch
        return F.cross_entropy(model(pixels).float(), labels)

    def samples(self, data: str) -> torch.utils.data.Dataset[tuple[Tensor, Tensor]]:
        """Return images with labels."""
        return images(data, self.size, self.classes)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the residual blocks."""
        return [
            block for name, stage in model.named_children() if name.startswith("layer") for block in stage.children()
        ]


class ResNet50(ResNet):
    """ResNet-50."""

    batch_size = 64
    depth = 50
