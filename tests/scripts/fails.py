"""Scripts that cannot be measured, each in its own way."""

import os
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

way = sys.argv[1]
model = nn.Linear(16, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
rank = int(os.environ["RANK"])


def start(_index):
    pass


def steps(number, updates=True):
    data = TensorDataset(torch.randn(number * 8, 16), torch.randint(0, 4, (number * 8,)))
    for x, y in DataLoader(data, batch_size=8):
        nn.functional.cross_entropy(model(x), y).backward()
        if updates:
            optimizer.step()
        elif way == "one-rank":
            time.sleep(0.1)


if way == "short":
    steps(17)
elif way == "exits":
    steps(2)
    sys.exit(3)
elif way == "arguments":
    sys.argv[1:] = ["--unknown"]
    import argparse

    argparse.ArgumentParser().parse_args()
elif way == "raises":
    steps(9)
    raise ValueError("the loss has left the building")
elif way == "by-hand":
    steps(6, updates=False)
elif way == "endless":
    while True:
        steps(100, updates=False)
elif way == "spawns":
    torch.multiprocessing.spawn(start, nprocs=2)
elif way == "one-rank":
    while True:
        steps(100, updates=rank == 0)
elif way == "unlike":
    torch.manual_seed(rank)
    torch.distributed.init_process_group("gloo")
    replica = nn.parallel.DistributedDataParallel(nn.Linear(16, 4))
    optimizer = torch.optim.SGD(replica.parameters(), lr=0.1)
    model = replica.module  # goes round DDP's forward pass
    while True:
        data = TensorDataset(torch.randn(800, 16) + rank, torch.randint(0, 4, (800,)))
        for x, y in DataLoader(data, batch_size=8):
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
