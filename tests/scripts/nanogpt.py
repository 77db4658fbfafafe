"""The structure of nanoGPT's train.py: globals that a file of the current folder overrides, and its own batches."""

import os

import torch
import torch.distributed as dist
from stopwatch import lap
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import bench  # a file beside this one, as in nanoGPT

gradient_accumulation_steps, batch_size, block_size, vocab = 4, 4, 16, 64
exec(open("configurator.py").read())

ddp = int(os.environ.get("RANK", -1)) != -1
dist.init_process_group("gloo")
model = nn.Sequential(nn.Embedding(vocab, 32), nn.Linear(32, vocab))
optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95))
if ddp:
    model = DistributedDataParallel(model)


def get_batch():
    data = torch.randint(0, vocab, (batch_size, block_size + 1))
    return data[:, :-1], data[:, 1:]


assert bench.NAME == "a file of the script's own"
x, y = get_batch()
while True:
    for micro_step in range(gradient_accumulation_steps):
        if ddp:
            model.require_backward_grad_sync = micro_step == gradient_accumulation_steps - 1
        logits = model(x)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()) / gradient_accumulation_steps
        x, y = get_batch()
        loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    lap(gradient_accumulation_steps * batch_size)
