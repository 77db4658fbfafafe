"""Nested tensors: sentences of different length in one jagged tensor, without padding."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

VOCABULARY, WIDTH, CLASSES = 200, 64, 4


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(VOCABULARY, WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out, self.head = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, words):
        x = self.embedding(words)
        q, k, v = (part.unflatten(-1, (4, WIDTH // 4)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))
        return self.head(torch.stack([sentence.mean(0) for sentence in x.unbind()]))


class Nested:
    unit, batch_size = "tokens", 16

    def build(self):
        return Encoder()

    def loss(self, model, batch):
        words, labels = batch
        return F.cross_entropy(model(words), labels)

    def samples(self, data):
        def sentence(g):
            length = int(torch.randint(5, 40, (), generator=g))
            return torch.randint(0, VOCABULARY, (length,), generator=g), torch.randint(0, CLASSES, (), generator=g)

        return Items(sentence)

    def collate_fn(self, items):
        words, labels = zip(*items, strict=True)
        return torch.nested.nested_tensor(list(words), layout=torch.jagged), torch.stack(labels)

    def batch_size_of(self, batch):
        return len(batch[1])

    def tokens_of(self, batch):
        return batch[0].values().numel()

    def layers(self, model):
        return []
