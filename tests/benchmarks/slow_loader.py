"""bare_loop.py's loader-bound case as a stepbench workload."""

import time

import torch
from torch import nn
from torch.nn import functional as F


class SlowData(torch.utils.data.Dataset):
    def __len__(self):
        return 1_000_000

    def __getitem__(self, index):
        time.sleep(0.005)
        return torch.zeros(64), torch.tensor(index % 10)


class SlowLoader:
    unit, batch_size = "samples", 4

    def build(self):
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def loss(self, model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    def samples(self, data):
        return SlowData()

    def layers(self, model):
        return []
