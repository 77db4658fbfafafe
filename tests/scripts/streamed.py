"""An iterable dataset whose last batch is shorter, under FSDP2 with bfloat16 and checkpointing."""

import torch
import torch.distributed as dist
from stopwatch import lap
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset

dist.init_process_group("gloo")


class Stream(IterableDataset):
    def __iter__(self):
        for _ in range(204):
            yield torch.randn(64), torch.randint(0, 10, ())


layers = nn.ModuleList([nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(3)])
head = nn.Linear(64, 10)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.head = layers, head

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return self.head(x)


model = Model()
for layer in layers:
    fully_shard(layer, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
fully_shard(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
optimizer = torch.optim.AdamW(model.parameters())
while True:
    for x, y in DataLoader(Stream(), batch_size=8):
        loss = nn.functional.cross_entropy(model(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lap(len(x))
