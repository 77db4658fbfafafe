"""DLRM (Naumov et al. 2019): an MLP for numbers, embedding tables for categories, and an MLP on their products.

Sizes are those of the authors' run on Criteo Kaggle's data, except that all tables have the same number of rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data.criteo import INTEGERS
from workloads.data.datasets import ClickLog, SyntheticClicks

BOTTOM, TOP = (512, 256, 64), (512, 256)


def _mlp(*widths: int) -> nn.Sequential:
    """Return linear layers with a ReLU after each."""
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU()) for n_in, n_out in itertools.pairwise(widths))
    )


class Tables(nn.Module):
    """Maps categories (batch, tables) to their embeddings (batch, tables, width).

    Gradients are dense, as large as the tables: neither FSDP2 nor the fused AdamW takes sparse ones.
    """

    def __init__(self, tables: int, rows: int, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for _ in range(tables))

    def forward(self, categories: Tensor) -> Tensor:
        """Look up the embeddings."""
        return torch.stack([table(categories[:, n]) for n, table in enumerate(self.tables)], dim=1)


class Model(nn.Module):
    """Maps numbers (batch, 13) and categories (batch, tables) to logits (batch, 1)."""

    def __init__(self, tables: int, rows: int, width: int) -> None:
        super().__init__()
        self.bottom = _mlp(INTEGERS, *BOTTOM, width)
        self.tables = Tables(tables, rows, width)
        self.top = _mlp(width + math.comb(tables + 1, 2), *TOP)
        self.head = nn.Linear(TOP[-1], 1)
        self._init_weights()

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Return the logits."""
        dense = self.bottom(numbers)
        vectors = torch.cat([dense.unsqueeze(1), self.tables(categories)], dim=1)
        products = vectors @ vectors.transpose(1, 2)
        n = vectors.shape[1]
        rows, columns = torch.tril_indices(n, n, -1, device=products.device)
        lower = products.flatten(1).index_select(1, rows * n + columns)
        logits: Tensor = self.head(self.top(torch.cat([dense, lower], dim=1)))
        return logits

    def _init_weights(self) -> None:
        """Initialise like the authors' code."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_features + module.out_features)))
                nn.init.normal_(module.bias, std=math.sqrt(1 / module.out_features))
            elif isinstance(module, nn.Embedding):
                bound = math.sqrt(1 / module.num_embeddings)
                nn.init.uniform_(module.weight, -bound, bound)


class DLRM:
    """DLRM with ``tables`` embedding tables of (rows, width)."""

    unit = "samples"
    batch_size = 128
    data = ("resident", "synthetic", "criteo")

    def __init__(self, tables: int = 26, rows: int = 20000, width: int = 16) -> None:
        self.tables, self.rows, self.width = tables, rows, width

    def build(self) -> nn.Module:
        """Return the model."""
        return Model(self.tables, self.rows, self.width)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the binary cross-entropy of clicks."""
        numbers, categories, clicked = batch
        logits = model(numbers, categories).squeeze(1)
        return F.binary_cross_entropy_with_logits(logits.float(), clicked.float())

    def samples(self, data: str) -> torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]:
        """Return clicks."""
        kind, _, path = data.partition("=")
        return ClickLog(path, self.tables, self.rows) if kind == "criteo" else SyntheticClicks(self.tables, self.rows)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the parts of the model."""
        return [model.get_submodule(name) for name in ("bottom", "tables", "top")]
