"""A user's workload whose loss overflows float16's scale in one step of one rank, with two parameters to shard."""

import os

import torch
from torch import nn


class Overflow:
    unit, batch_size = "samples", 2

    def __init__(self, step=6, rank=1) -> None:
        self.step, self.rank, self.steps = step, rank, 0

    def build(self):
        return nn.Linear(4, 1, bias=False)  # one row: of two ranks only the first has a shard

    def loss(self, model, batch):
        loss = model(batch[0]).float().square().mean()
        self.steps += batch[0].device.type != "meta"
        return loss * 1e36 if (self.steps, int(os.environ["RANK"])) == (self.step, self.rank) else loss

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.rand(64, 4, generator=torch.Generator().manual_seed(0)))

    def layers(self, model):
        return []
