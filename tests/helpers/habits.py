"""Workloads of a user, each with a habit that makes its step do more work when ``flags.CHANGED`` is set."""

from __future__ import annotations

from typing import Any

import torch
from flags import CHANGED
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

WIDTH = 32


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(x)))


class Net(nn.Module):
    def __init__(self, block: type[nn.Module] = Block) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block() for _ in range(3))
        self.head = nn.Linear(WIDTH, 8)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Plain:
    unit, batch_size = "samples", 8

    def build(self) -> nn.Module:
        return Net()

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x).float(), y)

    def samples(self, data: str) -> list[tuple[Tensor, int]]:
        generator = torch.Generator().manual_seed(0)
        return [(torch.randn(WIDTH, generator=generator), number % 8) for number in range(128)]

    def layers(self, model: nn.Module) -> list[nn.Module]:
        return list(model.blocks)


class Logs(Plain):
    """Logs the loss of each step."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        loss = super().loss(model, batch)
        if CHANGED:
            self.last = loss.item()
        return loss


class LeftOut(Plain):
    """Forgets a layer, which FSDP then gathers with the root."""

    def layers(self, model: nn.Module) -> list[nn.Module]:
        return list(model.blocks)[: 2 if CHANGED else 3]


class Softmax(Block):
    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(x.float(), -1).to(x.dtype) if CHANGED else torch.softmax(x, -1)
        return super().forward(weights * x)


class WideSoftmax(Plain):
    """Computes a softmax in float32 inside a model of bfloat16."""

    def build(self) -> nn.Module:
        return Net(Softmax)


class Copying(Block):
    def forward(self, x: Tensor) -> Tensor:
        turned = x.view(-1, 4, WIDTH // 4).transpose(1, 2)
        turned = turned.contiguous() if CHANGED else turned
        return super().forward((turned * 2).transpose(1, 2).reshape(-1, WIDTH))


class Contiguous(Plain):
    """Copies a tensor that another operation could have read as it is."""

    def build(self) -> nn.Module:
        return Net(Copying)


class Keeps(Plain):
    """Keeps an activation of each step in a list."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        logits = model(batch[0])
        if CHANGED:
            self.kept.append(logits.detach() * 1)
        else:
            logits = logits * 1
        return F.cross_entropy(logits.float(), batch[1])


class Unfused(Plain):
    """Loses the fused optimizer."""

    def optimizers(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), fused=not CHANGED, foreach=CHANGED)


class Recomputing(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if CHANGED else checkpoint(super().forward, x, use_reentrant=False)


class LostCheckpointing(Plain):
    """Loses the checkpointing of its layers."""

    def build(self) -> nn.Module:
        return Net(Recomputing)


class Buffered(Plain):
    """Has a buffer, which DDP broadcasts in each step."""

    def build(self) -> nn.Module:
        model = Net()
        if CHANGED:
            model.register_buffer("scale", torch.ones(WIDTH))
        return model


class Printing(Block):
    def forward(self, x: Tensor) -> Tensor:
        if CHANGED:
            print("forward")
        return super().forward(x)


class Prints(Plain):
    """Prints inside of compiled code."""

    def build(self) -> nn.Module:
        return Net(Printing)


class ToNumpy(Plain):
    """Reads the batch with NumPy."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        if CHANGED:
            self.mean = float(batch[0].numpy().mean())
        return super().loss(model, batch)


class ToHost(Plain):
    """Copies the batch to the host, which shows on a GPU alone."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        if CHANGED:
            self.batch = batch[0].cpu()
        return super().loss(model, batch)
