"""Direct preference optimisation: a policy is compared with a frozen copy of itself on pairs of answers."""

import copy

import torch
from items import Items
from tied_weights import VOCABULARY, LanguageModel
from torch import nn
from torch.nn import functional as F


class PolicyAndReference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.policy = LanguageModel()
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)

    def forward(self, tokens):
        with torch.no_grad():
            reference = likelihood(self.reference, tokens)
        return likelihood(self.policy, tokens) - reference


def likelihood(model, tokens):
    logs = F.log_softmax(model(tokens[:, :-1]), -1)
    return logs.gather(2, tokens[:, 1:, None]).squeeze(2).sum(1)


class Preferences:
    unit, batch_size = "samples", 4

    def build(self):
        return PolicyAndReference()

    def loss(self, model, batch):
        better, worse = model(torch.cat(batch)).chunk(2)
        return -F.logsigmoid(0.1 * (better - worse)).mean()

    def samples(self, data):
        return Items(lambda g: tuple(torch.randint(0, VOCABULARY, (32,), generator=g) for _ in range(2)))

    def layers(self, model):
        return []
