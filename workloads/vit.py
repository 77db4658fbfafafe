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

LAYERS, HEADS = 12, 12


class Attention(nn.Module):
    """Self-attention as ``nn.MultiheadAttention`` has it, of which each head has its q, k and v side by side."""

    def __init__(self, theirs: nn.MultiheadAttention) -> None:
        """Take the parameters of torchvision's."""
        super().__init__()
        width, self.dim = theirs.embed_dim, theirs.head_dim
        # On the meta device no random numbers are drawn, so that those of other modules stay torchvision's.
        self.qkv, self.out = nn.Linear(width, 3 * width, device="meta"), nn.Linear(width, width, device="meta")
        self.qkv.weight, self.qkv.bias = self._by_head(theirs.in_proj_weight), self._by_head(theirs.in_proj_bias)
        self.out.weight, self.out.bias = theirs.out_proj.weight, theirs.out_proj.bias

    def forward(self, x: Tensor, *_: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """Return what x (batch, tokens, width) attends to, and None in place of the weights."""
        q, k, v = self.qkv(x).unflatten(-1, (-1, 3, self.dim)).permute(3, 0, 2, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)), None

    def _by_head(self, rows: Tensor) -> nn.Parameter:
        """Return the rows of all heads' q, k and v in the order of the heads."""
        return nn.Parameter(rows.detach().unflatten(0, (3, -1, self.dim)).transpose(0, 1).flatten(0, 2).clone())


class Transformer(torchvision.models.VisionTransformer):  # type: ignore[misc]
    """Torchvision's model, of which a stage of a pipeline may have some modules only, and a rank some heads only."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        for block in self.encoder.layers.children():
            block.self_attention = Attention(block.self_attention)

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

    split_sequence = False  # The class token makes it odd.
    max_split = HEADS

    def __init__(self, size: int = 224, classes: int = 1000) -> None:
        self.size, self.classes = size, classes

    def build(self) -> nn.Module:
        """Return torchvision's model.

        Its head is initialised to zero, so that the first step changes the head only.
        """
        base = {"patch_size": 16, "num_layers": LAYERS, "num_heads": HEADS, "hidden_dim": 768, "mlp_dim": 3072}
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

    def split(self, model: nn.Module) -> dict[str, str]:
        """Return how the modules divide over ranks."""
        of_block = {"self_attention.qkv": "column", "self_attention.out": "row", "mlp.0": "column", "mlp.3": "row"}
        of_block |= {"ln_1": "whole", "ln_2": "whole"}
        name = "encoder.layers.encoder_layer_"
        blocks = {f"{name}{n}.{part}": kind for n in range(LAYERS) for part, kind in of_block.items()}
        return {**blocks, **dict.fromkeys(("conv_proj", "encoder", "encoder.ln", "heads.head", ""), "whole")}

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the loss calls the model with."""
        pixels, _ = batch
        return (pixels,)

    def stages(self, model: nn.Module, count: int) -> list[nn.Module]:
        """Return the model as the stages of a pipeline."""
        first, last = ("conv_proj", "class_token", "encoder.pos_embedding"), ("encoder.ln", "heads")
        return stages_of(model, count, "encoder.layers", first, last)
