"""What `torchrun script.py` starts in launch_cost.py: the least that trains. Prints when its first step starts."""

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
torch.manual_seed(0)
layers = [part for _ in range(4) for part in (nn.Linear(256, 256), nn.GELU())]
model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(256, 10)))
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
x, y = torch.randn(64, 256), torch.randint(0, 10, (64,))
Path(os.environ["STARTED"], os.environ["RANK"]).write_text(str(time.time_ns()))
for _ in range(3):
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
os._exit(0)  # torch 2.15 sometimes aborts in the teardown of Gloo
