"""LoRA by hand: the base is frozen in int8 and dequantised in each forward pass, two thin matrices learn."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

VOCABULARY, WIDTH, LENGTH = 256, 128, 48


class LoraInt8Linear(nn.Module):
    """int8 weights with a scale for each output are buffers; the update of low rank begins at zero."""

    def __init__(self, inputs: int, outputs: int, rank: int = 8) -> None:
        super().__init__()
        weight = torch.randn(outputs, inputs) / inputs**0.5
        scale = weight.abs().amax(1, keepdim=True) / 127
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.down, self.up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return F.linear(x, self.weight * self.scale) + self.up(self.down(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = LoraInt8Linear(WIDTH, 3 * WIDTH), LoraInt8Linear(WIDTH, WIDTH)
        self.wide, self.narrow = LoraInt8Linear(WIDTH, 4 * WIDTH), LoraInt8Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class LoraInt8:
    unit, batch_size, tokens = "tokens", 8, LENGTH

    def build(self):
        embedding, head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
        embedding.requires_grad_(False)
        return nn.Sequential(embedding, Block(), Block(), head)

    def loss(self, model, batch):
        return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def samples(self, data):
        return Items(lambda g: torch.randint(0, VOCABULARY, (LENGTH + 1,), generator=g))

    def layers(self, model):
        return [model[1], model[2]]
