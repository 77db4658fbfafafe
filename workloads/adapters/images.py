"""Image classifiers of timm and torchvision, with random weights, on square images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.adapters import chosen, package, repeated_blocks
from workloads.base import Batch
from workloads.data.datasets import images


class _Classifier:
    """What both have in common."""

    unit = "samples"
    batch_size = 32
    data = ("resident", "synthetic", "folder")

    def __init__(self, model: str, size: int = 224, classes: int = 1000) -> None:
        self.model, self.size, self.classes = model, size, classes

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the classes, without that of auxiliary classifiers."""
        pixels, labels = batch
        output: Any = model(pixels)
        logits: Tensor = getattr(output, "logits", output)
        return F.cross_entropy(logits.float(), labels)

    def samples(self, data: str) -> torch.utils.data.Dataset[tuple[Tensor, Tensor]]:
        """Return images with labels."""
        return images(data, self.size, self.classes)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the repeated blocks."""
        return repeated_blocks(model)


class Timm(_Classifier):
    """A model of timm: ``timm:model=NAME``, with ``:size`` and ``:classes``; see ``timm.list_models()``."""

    def build(self) -> nn.Module:
        """Return the model."""
        timm = package("timm", "timm")
        name = chosen(self.model, timm.list_models(), "timm")
        options = {"img_size": self.size} if self.size != 224 else {}
        try:
            found: nn.Module = timm.create_model(name, pretrained=False, num_classes=self.classes, **options)
        except TypeError:  # a model that takes images of every size
            found = timm.create_model(name, pretrained=False, num_classes=self.classes)
        return found


class Torchvision(_Classifier):
    """A classifier of torchvision: ``torchvision:model=NAME``, with ``:size`` and ``:classes``."""

    def build(self) -> nn.Module:
        """Return the model."""
        name = chosen(self.model, torchvision.models.list_models(module=torchvision.models), "torchvision")
        options = {"image_size": self.size} if name.startswith("vit") else {}
        found: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=self.classes, **options)
        return found
