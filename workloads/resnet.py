"""Torchvision's ResNet on square images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data import ImageFolder, SyntheticImages


class ResNet:
    unit = "samples"
    batch_size = 32
    data = ("resident", "synthetic", "folder")

    def __init__(self, size: int = 224, classes: int = 1000) -> None:
        self.size, self.classes = size, classes

    def build(self) -> nn.Module:
        model: nn.Module = torchvision.models.resnet18(num_classes=self.classes)
        return model

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        return F.cross_entropy(model(images).float(), labels)

    def samples(self, data: str) -> torch.utils.data.Dataset[tuple[Tensor, Tensor]]:
        kind, _, path = data.partition("=")
        if kind == "folder":
            return ImageFolder(path, self.size, self.classes)
        return SyntheticImages(self.size, self.classes)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        return [
            block for name, stage in model.named_children() if name.startswith("layer") for block in stage.children()
        ]
