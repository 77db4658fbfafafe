"""Sequence classification with transformers, in the batches that its tokenizers return."""

import torch
import transformers
from items import Items

VOCABULARY = 400


def sentence(g):
    length = int(torch.randint(8, 48, (), generator=g))
    return torch.randint(5, VOCABULARY, (length,), generator=g), torch.randint(0, 3, (), generator=g)


class Sentences:
    unit, batch_size = "tokens", 8

    def build(self):
        sizes = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4}
        config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=3, **sizes)
        return transformers.BertForSequenceClassification(config)

    def loss(self, model, batch):
        return model(**batch).loss

    def samples(self, data):
        return Items(sentence)

    def collate_fn(self, items):
        words, labels = zip(*items, strict=True)
        ids = torch.nn.utils.rnn.pad_sequence(words, batch_first=True)
        values = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.stack(labels)}
        return transformers.BatchEncoding(values)

    def tokens_of(self, batch):
        return int(batch.attention_mask.sum())

    def layers(self, model):
        return list(model.bert.encoder.layer)
