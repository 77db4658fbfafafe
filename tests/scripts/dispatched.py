"""Rank 0 reads the batches of all ranks, with workers, and hands them out, as accelerate's dispatcher does."""

import torch
import torch.distributed as dist
from stopwatch import lap
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
model = nn.parallel.DistributedDataParallel(nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def batches():
    data = TensorDataset(torch.randn(6400, 64), torch.randint(0, 10, (6400,)))
    loader = DataLoader(data, batch_size=8 * ranks, num_workers=2, prefetch_factor=3)
    return iter(loader)


source = batches() if rank == 0 else None
while True:
    x, y = torch.empty(8 * ranks, 64), torch.empty(8 * ranks, dtype=torch.int64)
    if rank == 0:
        try:
            x, y = next(source)
        except StopIteration:
            source = batches()
            x, y = next(source)
    dist.broadcast(x, 0)
    dist.broadcast(y, 0)
    own = slice(8 * rank, 8 * rank + 8)
    nn.functional.cross_entropy(model(x[own]), y[own]).backward()
    optimizer.step()
    optimizer.zero_grad()
    lap(8)
