"""A language model whose output layer is its embedding."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

VOCABULARY, WIDTH, LENGTH = 512, 96, 64


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        return self.head(self.blocks(self.embedding(tokens), mask, is_causal=True))


class TiedWeights:
    unit, batch_size, tokens = "tokens", 8, LENGTH

    def build(self):
        return LanguageModel()

    def loss(self, model, batch):
        return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def samples(self, data):
        return Items(lambda g: torch.randint(0, VOCABULARY, (LENGTH + 1,), generator=g))

    def layers(self, model):
        return list(model.blocks.layers)
