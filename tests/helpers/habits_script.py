"""A training script with two habits that make its step do more work when ``flags.CHANGED`` is set."""

import contextlib
import sys

import torch
import torch.distributed as dist
from flags import CHANGED
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

habit = sys.argv[1]
dist.init_process_group("gloo")
torch.manual_seed(0)
model = DistributedDataParallel(
    nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8)),
    find_unused_parameters=habit == "find-unused" and CHANGED,
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
data = DataLoader(TensorDataset(torch.randn(800, 32), torch.arange(800) % 8), batch_size=8)
for _ in range(10):
    for number, (x, y) in enumerate(data):
        last = number % 2 == 1
        with contextlib.nullcontext() if last or (habit == "no-sync" and CHANGED) else model.no_sync():
            nn.functional.cross_entropy(model(x), y).backward()
        if last:
            optimizer.step()
            optimizer.zero_grad()
