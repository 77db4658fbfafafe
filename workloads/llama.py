"""Llama's architecture: pre-norm decoder blocks with RMSNorm, rotary embeddings, grouped-query attention and SwiGLU.

Touvron et al. 2023; sizes and the base of the rotation are those of Llama 3 (Dubey et al. 2024, table 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workloads.base import Batch
from workloads.data.datasets import tokens
from workloads.stages import stages_of

THETA = 500_000.0
EPSILON = 1e-5


def rotate(x: Tensor) -> Tensor:
    """Return the rotary embedding of x (…, seq, dim): pair j at position t is rotated by t THETA^(-2j/dim).

    The source is Su et al. 2021. The pairs are (j, j + dim/2), ordered differently than in Meta's code, which makes no
    difference for random weights. Angles are computed here in float32: a buffer would be cast with the model, an
    argument by FSDP's mixed precision, and bfloat16 cannot represent 257.
    """
    seq, dim = x.shape[-2:]
    frequencies = THETA ** (torch.arange(0, dim, 2, device=x.device, dtype=torch.float32) / -dim)
    angles = torch.arange(seq, device=x.device, dtype=torch.float32)[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention; ``heads`` / ``kv_heads`` query heads share a head of keys and values."""

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.dim, self.groups = width // heads, heads // kv_heads
        self.q = nn.Linear(width, heads * self.dim, bias=False)
        self.k = nn.Linear(width, kv_heads * self.dim, bias=False)
        self.v = nn.Linear(width, kv_heads * self.dim, bias=False)
        self.out = nn.Linear(heads * self.dim, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention output of x (batch, seq, width)."""
        q, k, v = (project(x).unflatten(-1, (-1, self.dim)).transpose(1, 2) for project in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(rotate(q), self._shared(rotate(k)), self._shared(v), is_causal=True)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(-2))
        return out

    def _shared(self, x: Tensor) -> Tensor:
        """Repeat each head for its group.

        SDPA's ``enable_gqa`` would leave float32 without a fused kernel on CUDA, and FLOPs uncounted before torch 2.12.
        """
        return x.unsqueeze(2).expand(-1, -1, self.groups, -1, -1).flatten(1, 2)


class Block(nn.Module):
    """Attention and gated MLP on (batch, seq, width)."""

    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, EPSILON), nn.RMSNorm(width, EPSILON)
        self.attention = Attention(width, heads, kv_heads)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x after the block."""
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        mlp: Tensor = self.down(F.silu(self.gate(y)) * self.up(y))
        return x + mlp


class Decoder(nn.Module):
    """Maps tokens (batch, seq) to logits (batch, seq, vocab)."""

    def __init__(self, layers: int, heads: int, kv_heads: int, width: int, hidden: int, vocab: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width, heads, kv_heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width, EPSILON)
        self.head = nn.Linear(width, vocab, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of tokens.

        As a stage of a pipeline it has some of its modules only; it takes what the stage before it returned.
        """
        if self.tokens is not None:
            x = self.tokens(x)
        for block in self.blocks.children():
            x = block(x)
        return x if self.head is None else self.head(self.norm(x))  # type: ignore[no-any-return]

    def init_weights(self) -> None:
        """Initialise the weights: normal(0.02), residual projections scaled by 1/sqrt(2 layers).

        The source is Radford et al. 2019, section 2.3.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.ones_(parameter)
            else:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * len(self.blocks)) if residual else 1))


class Llama:
    """Llama with ``layers`` blocks and sequences of ``seq`` tokens."""

    unit = "tokens"
    batch_size = 16
    data = ("resident", "synthetic", "text")

    def __init__(
        self,
        layers: int = 4,
        heads: int = 4,
        kv_heads: int = 2,
        width: int = 128,
        hidden: int = 384,
        seq: int = 128,
        vocab: int = 256,
        tied: int = 1,
    ) -> None:
        self.sizes = (layers, heads, kv_heads, width, hidden, vocab)
        self.seq, self.vocab, self.tied = seq, vocab, bool(tied)
        self.tokens = seq
        self.max_split = math.gcd(kv_heads, heads, hidden, seq, vocab)

    def build(self) -> nn.Module:
        """Return the decoder.

        It is built on the meta device first, so that its eight billion weights are drawn only once.
        """
        with torch.device("meta"):
            model = Decoder(*self.sizes)
        model.to_empty(device=torch.get_default_device())
        self.tie(model)
        model.init_weights()
        return model

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
        projections = {f"attention.{name}": "column" for name in ("q", "k", "v")}
        of_block = {"norm1": "norm", **projections, "attention.out": "row", "norm2": "norm"}
        of_block |= {"gate": "column", "up": "column", "down": "row"}
        layers, *_ = self.sizes
        blocks = {f"blocks.{n}.{name}": kind for n in range(layers) for name, kind in of_block.items()}
        return {"tokens": "embedding", **blocks, "norm": "norm", "head": "head"}

    def tie(self, model: nn.Module) -> None:
        """Share the weights of the head and the embedding, if they are tied."""
        if self.tied:
            model.get_submodule("head").weight = model.get_submodule("tokens").weight

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the loss calls the model with."""
        (sequences,) = batch
        return (sequences[:, :-1],)

    def stages(self, model: nn.Module, count: int) -> list[nn.Module]:
        """Return the model as the stages of a pipeline."""
        return stages_of(model, count, "blocks", first=("tokens",), last=("norm", "head"))
