"""The structure of torchtitan's trainer: torchdata's loader, a mesh, FSDP2, a container of optimizers, DCP."""

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from stopwatch import lap
from torch import nn
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer
from torch.utils.data import IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader


class Tokens(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.randint(0, 64, (33,))


class OptimizersContainer(Optimizer, Stateful):
    """As torchtitan's: one optimizer for each model part, which are updated one after the other."""

    def __init__(self, parts):
        self.optimizers = [torch.optim.AdamW(part.parameters(), lr=8e-4) for part in parts]
        Optimizer.__init__(self, [p for part in parts for p in part.parameters()], {})

    def step(self, *args, **kwargs):
        for optimizer in self.optimizers:
            optimizer.step(*args, **kwargs)

    def zero_grad(self, *args, **kwargs):
        for optimizer in self.optimizers:
            optimizer.zero_grad(*args, **kwargs)


dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("fsdp",))
blocks = [nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)) for _ in range(2)]
model = nn.Sequential(nn.Embedding(64, 32), *blocks, nn.Linear(32, 64))
for block in blocks:
    fully_shard(block, mesh=mesh)
fully_shard(model, mesh=mesh)
optimizers = OptimizersContainer([model])
batches = iter(StatefulDataLoader(Tokens(), batch_size=4, num_workers=1))
step = 0
while True:
    optimizers.zero_grad()
    for _ in range(2):
        tokens = next(batches)
        logits = model(tokens[:, :-1])
        (nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) / 2).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizers.step()
    step += 1
    lap(8)
    if step % 12 == 0:
        dcp.save({"model": model.state_dict()}, checkpoint_id=f"outputs/step-{step}")
