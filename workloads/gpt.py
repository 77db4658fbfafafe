"""GPT-2's architecture: pre-norm decoder blocks, learned positions, output weights tied to the embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data.datasets import tokens
from workloads.stages import stages_of


class Block(nn.Module):
    """Attention and MLP on (batch, seq, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.dim = width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x after the block."""
        # Each head has its q, k and v side by side, so that a part of the columns has whole heads.
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (-1, 3, self.dim))
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        mlp: Tensor = self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
        return x + mlp


class Positions(nn.Embedding):
    """Learned embeddings of the positions of tokens (batch, seq), as (seq, width)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the first ``seq`` of them."""
        return self.weight[: tokens.shape[1]]


class Decoder(nn.Module):
    """Maps tokens (batch, seq) to logits (batch, seq, vocab)."""

    def __init__(self, layers: int, heads: int, width: int, seq: int, vocab: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, width), Positions(seq, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.tokens.weight
        self._init_weights(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of tokens.

        As a stage of a pipeline it has some of its modules only; it takes what the stage before it returned.
        """
        if self.tokens is not None:
            x = self.tokens(x) + self.positions(x)
        for block in self.blocks.children():
            x = block(x)
        return x if self.head is None else self.head(self.norm(x))  # type: ignore[no-any-return]

    def _init_weights(self, layers: int) -> None:
        """Initialise the weights: normal(0.02), residual projections scaled by 1/sqrt(2 layers).

        The source is Radford et al. 2019, section 2.3.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * layers) if residual else 1))


class GPT:
    """GPT with ``layers`` blocks and sequences of ``seq`` tokens."""

    unit = "tokens"
    batch_size = 16
    data = ("resident", "synthetic", "text")

    def __init__(self, layers: int = 4, heads: int = 4, width: int = 128, seq: int = 128, vocab: int = 256) -> None:
        self.n_layers, self.heads, self.width, self.seq, self.vocab = layers, heads, width, seq, vocab
        self.tokens = seq
        self.max_split = math.gcd(heads, width, seq, vocab)

    def build(self) -> nn.Module:
        """Return the decoder."""
        return Decoder(self.n_layers, self.heads, self.width, self.seq, self.vocab)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the next tokens."""
        (sequences,) = batch  # (batch, seq + 1): targets are the inputs shifted by one token
        logits = model(*self.inputs(batch))
        return F.cross_entropy(logits.flatten(0, 1).float(), sequences[:, 1:].flatten())

    def samples(self, data: str) -> torch.utils.data.Dataset[tuple[Tensor]]:
        """Return sequences of tokens."""
        return tokens(data, self.seq, self.vocab)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks."""
        return list(model.get_submodule("blocks").children())

    def split(self, model: nn.Module) -> dict[str, str]:
        """Return how the modules divide over ranks."""
        of_block = {"norm1": "norm", "qkv": "column", "out": "row", "norm2": "norm", "up": "column", "down": "row"}
        blocks = {f"blocks.{n}.{name}": kind for n in range(self.n_layers) for name, kind in of_block.items()}
        return {"tokens": "embedding", "positions": "positions", **blocks, "norm": "norm", "head": "head"}

    def tie(self, model: nn.Module) -> None:
        """Share the weights of the head and the embedding."""
        model.get_submodule("head").weight = model.get_submodule("tokens").weight

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the loss calls the model with."""
        (sequences,) = batch
        return (sequences[:, :-1],)

    def stages(self, model: nn.Module, count: int) -> list[nn.Module]:
        """Return the model as the stages of a pipeline."""
        return stages_of(model, count, "blocks", first=("tokens", "positions"), last=("norm", "head"))
