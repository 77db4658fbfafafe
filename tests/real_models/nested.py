"""Nested tensors: sentences of different length in one jagged tensor, without padding."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

VOCABULARY, WIDTH, CLASSES = 200, 64, 4


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(VOCABULARY, WIDTH), nn.LayerNorm(WIDTH)
        self.projections = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, words):
        x = self.embedding(words)
        normed = self.norm(x)
        q, k, v = (one(normed).unflatten(-1, (4, WIDTH // 4)).transpose(1, 2) for one in self.projections)
        with sdpa_kernel(SDPBackend.MATH):  # asking for others fails where torch has CUDA and the machine has none
            x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))
        return self.head(torch.stack([sentence.mean(0) for sentence in x.unbind()]))


class Nested:
    unit, batch_size = "tokens", 16

    def build(self):
        return Encoder()

    def loss(self, model, batch):
        words, offsets, labels = batch
        words = torch.nested.nested_tensor_from_jagged(words, offsets)
        return F.cross_entropy(model(words), labels)

    def samples(self, data):
        def sentence(g):
            length = int(torch.randint(5, 40, (), generator=g))
            return torch.randint(0, VOCABULARY, (length,), generator=g), torch.randint(0, CLASSES, (), generator=g)

        return Items(sentence)

    def collate_fn(self, items):
        words, labels = zip(*items, strict=True)
        offsets = torch.tensor([0, *(len(one) for one in words)]).cumsum(0)
        return torch.cat(words), offsets, torch.stack(labels)

    def batch_size_of(self, batch):
        return len(batch[2])

    def tokens_of(self, batch):
        return len(batch[0])

    def layers(self, model):
        return []
