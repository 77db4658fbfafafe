"""Float16 with a GradScaler that skips its first steps, accumulation of 4 micro-batches, and two workers."""

import torch
from stopwatch import lap
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(model.parameters())
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
loader = DataLoader(
    TensorDataset(torch.randn(6400, 64), torch.randint(0, 10, (6400,))),
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
)
micro = 0
while True:
    for x, y in loader:
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), y) / 4
        scaler.scale(loss).backward()
        micro += 1
        if micro % 4 == 0:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            schedule.step()
            lap(64)
