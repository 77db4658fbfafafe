"""BERT (Devlin et al. 2018): post-norm encoder blocks, pre-trained by predicting masked tokens.

Without dropout, as all models here: training must be the same under every strategy. Without the next-sentence task,
which RoBERTa (Liu et al. 2019) found to be of no use.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from workloads.base import Batch
from workloads.data.datasets import SyntheticTokens, Text, tokens
from workloads.stages import stages_of

MASK = 256  # The first token that is not a byte.
MASKED = 0.15  # Share of the tokens of a sequence.
POSITIONS = 512  # The longest sequence, in tokens.
EPSILON = 1e-12


class Masked(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Sequences with some tokens masked, as (tokens, masked positions, original tokens), each a function of its index.

    Of the chosen tokens 80 % become the mask, 10 % a random token and 10 % stay (Devlin et al. 2018, section 3.1). All
    sequences have equally many, so that the mean loss over small batches equals that over the large one.
    """

    def __init__(self, source: SyntheticTokens | Text, seq: int, vocab: int) -> None:
        self.source, self.seq, self.vocab = source, seq, vocab
        self.masked = max(1, round(MASKED * seq))

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = random.Random(index)
        hidden = self.source[index][0][: self.seq].clone()
        positions = torch.tensor(sorted(generator.sample(range(self.seq), self.masked)))
        targets = hidden[positions]
        for position in positions.tolist():
            draw = generator.random()
            if draw < 0.9:
                hidden[position] = MASK if draw < 0.8 else generator.randrange(self.vocab)
        return hidden, positions, targets


class Block(nn.Module):
    """Attention and MLP on (batch, seq, width), each followed by its norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.dim = width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x after the block."""
        # Each head has its q, k and v side by side, so that a part of the columns has whole heads.
        q, k, v = self.qkv(x).unflatten(-1, (-1, 3, self.dim)).permute(3, 0, 2, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        x = self.norm1(x + self.out(attended))
        mixed: Tensor = self.norm2(x + self.down(F.gelu(self.up(x))))
        return mixed


class Encoder(nn.Module):
    """Maps tokens (batch, seq) and positions (batch, masked) to logits (batch, masked, vocab)."""

    def __init__(self, layers: int, heads: int, width: int, vocab: int) -> None:
        super().__init__()
        self.tokens, self.positions, self.types = (nn.Embedding(n, width) for n in (vocab, POSITIONS, 2))
        self.norm = nn.LayerNorm(width, EPSILON)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.dense, self.head_norm = nn.Linear(width, width), nn.LayerNorm(width, EPSILON)
        self.head = nn.Linear(width, vocab)
        self.head.weight = self.tokens.weight
        self._init_weights()

    def forward(self, x: Tensor, masked: Tensor) -> Tensor:
        """Return the logits of the masked positions of tokens.

        As a stage of a pipeline it has some of its modules only; it takes what the stage before it returned.
        """
        if self.tokens is not None:
            # There is one sentence, so all tokens have the first type.
            x = self.norm(self.tokens(x) + self.positions.weight[: x.shape[1]] + self.types.weight[0])
        for block in self.blocks.children():
            x = block(x)
        if self.head is None:
            return x
        x = x.gather(1, masked.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        logits: Tensor = self.head(self.head_norm(F.gelu(self.dense(x))))
        return logits

    def _init_weights(self) -> None:
        """Initialise like BERT's authors: normal(0.02), truncated at two standard deviations."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)


class BERT:
    """BERT with ``layers`` blocks and sequences of ``seq`` tokens."""

    unit = "tokens"
    batch_size = 8
    data = ("resident", "synthetic", "text")
    split_sequence = False  # The norms follow what is added up, and the head takes tokens from anywhere in a sequence.

    def __init__(self, layers: int = 12, heads: int = 12, width: int = 768, seq: int = 128, vocab: int = 30522) -> None:
        self.n_layers, self.heads, self.width, self.seq, self.vocab = layers, heads, width, seq, vocab
        self.tokens = seq
        self.max_split = math.gcd(heads, width, vocab)

    def build(self) -> nn.Module:
        """Return the encoder."""
        return Encoder(self.n_layers, self.heads, self.width, self.vocab)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of the masked tokens."""
        *_, targets = batch
        return F.cross_entropy(model(*self.inputs(batch)).flatten(0, 1).float(), targets.flatten())

    def samples(self, data: str) -> Dataset[tuple[Tensor, Tensor, Tensor]]:
        """Return masked sequences."""
        return Masked(tokens(data, self.seq, self.vocab), self.seq, self.vocab)

    def layers(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks."""
        return list(model.get_submodule("blocks").children())

    def split(self, model: nn.Module) -> dict[str, str]:
        """Return how the modules divide over ranks."""
        of_block = {"qkv": "column", "out": "row", "up": "column", "down": "row", "norm1": "whole", "norm2": "whole"}
        blocks = {f"blocks.{n}.{name}": kind for n in range(self.n_layers) for name, kind in of_block.items()}
        others = dict.fromkeys(("positions", "types", "norm", "dense", "head_norm"), "whole")
        return {"tokens": "embedding", **blocks, **others, "head": "head"}

    def tie(self, model: nn.Module) -> None:
        """Share the weights of the head and the embedding."""
        model.get_submodule("head").weight = model.get_submodule("tokens").weight

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the loss calls the model with."""
        sequences, positions, _ = batch
        return sequences, positions

    def stages(self, model: nn.Module, count: int) -> list[nn.Module]:
        """Return the model as the stages of a pipeline."""
        first, last = ("tokens", "positions", "types", "norm"), ("dense", "head_norm", "head")
        return stages_of(model, count, "blocks", first, last)
