"""Torchvision's Vision Transformer on square images (Dosovitskiy et al. 2020), base size, patches of 16 x 16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data.datasets import images
from workloads.stages import stages_of


class Transformer(torchvision.models.VisionTransformer):  # type: ignore[misc]
    """Torchvision's model, of which a stage of a pipeline may have some modules only."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images (batch, 3, size, size), or what a stage makes of what it is given."""
        if self.conv_proj is not None:
            x = self._process_input(x)
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.encoder.pos_embedding
        for block in self.encoder.layers.children():
            x = block(x)
        return x if self.heads is None else self.heads(self.encoder.ln(x)[:, 0])


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
        base = {"patch_size": 16, "num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072}
        return Transformer(image_size=self.size, num_classes=self.classes, **base)

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

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the loss calls the model with."""
        pixels, _ = batch
        return (pixels,)

    def stages(self, model: nn.Module, count: int) -> list[nn.Module]:
        """Return the model as the stages of a pipeline."""
        first, last = ("conv_proj", "class_token", "encoder.pos_embedding"), ("encoder.ln", "heads")
        return stages_of(model, count, "encoder.layers", first, last)
