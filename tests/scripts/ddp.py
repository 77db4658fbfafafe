"""A plain DDP script: arguments, a distributed sampler, a checkpoint of rank 0 in each epoch."""

import argparse
import os

import torch
import torch.distributed as dist
from stopwatch import lap
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--bs", type=int, default=8)
parser.add_argument("--samples", type=int, default=2000)
options = parser.parse_args()
dist.init_process_group("gloo")
data = TensorDataset(torch.randn(options.samples, 64), torch.randint(0, 10, (options.samples,)))
sampler = DistributedSampler(data, drop_last=True)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)))
optimizer = torch.optim.AdamW(model.parameters())
for epoch in range(1000):
    sampler.set_epoch(epoch)
    for x, y in DataLoader(data, batch_size=options.bs, sampler=sampler, drop_last=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        lap(len(x))
    if dist.get_rank() == 0:
        torch.save(model.state_dict(), "checkpoint.pt")
        os.makedirs("out", exist_ok=True)
        torch.save(model.state_dict(), "out/checkpoint.pt")
