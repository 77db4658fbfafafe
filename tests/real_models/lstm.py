"""An LSTM over sentences of different length: padded, packed, and counted without the padding."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

VOCABULARY = 300


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 64, padding_idx=0)
        self.lstm = nn.LSTM(64, 96, batch_first=True, bidirectional=True)
        self.head = nn.Linear(192, 12)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(states)


def sentence(g):
    length = int(torch.randint(5, 40, (), generator=g))
    words = torch.randint(1, VOCABULARY, (length,), generator=g)
    return words, words % 12


class Lstm:
    unit, batch_size = "tokens", 16

    def build(self):
        return Tagger()

    def loss(self, model, batch):
        logits = model(batch["words"], batch["lengths"])
        return F.cross_entropy(logits.flatten(0, 1), batch["tags"].flatten(), ignore_index=-1)

    def samples(self, data):
        return Items(sentence)

    def collate_fn(self, items):
        words, tags = zip(*items, strict=True)
        return {
            "words": pad_sequence(words, batch_first=True),
            "tags": pad_sequence(tags, batch_first=True, padding_value=-1),
            "lengths": [len(one) for one in words],  # no tensor: it stays on the host, as packing wants it
        }

    def tokens_of(self, batch):
        return sum(batch["lengths"])

    def layers(self, model):
        return []
