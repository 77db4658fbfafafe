"""Torchvision's Vision Transformer on square images (Dosovitskiy et al. 2020), base size, patches of 16 x 16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data.datasets import images


class ViT:
    """ViT-B/16 on images of ``size`` x ``size`` pixels."""

    unit = "samples"
    batch_size = 32
    data = ("resident", "synthetic", "folder")

    def __init__(self, size: int = 224, classes: int = 1000) -> None:
        self.size, self.classes = size, classes

    def build(self) -> nn.Module:
        """Return torchvision's model.

        Its head is initialised to zero, so that the first step changes the head only.
        """
        return torchvision.models.vit_b_16(image_size=self.size, num_classes=self.classes)  # type: ignore[no-any-return]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the classes."""
        pixels, labels = batch
        return F.cross_entropy(model(pixels).float(), labels)

    def samples(self, data: str) -> torch.utils.data.Dataset[tuple[Tensor, Tensor]]:
        """Return images with labels."""
        return images(data, self.size, self.classes)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the encoder's blocks."""
        return list(model.get_submodule("encoder.layers").children())
