"""A whole step in torch.compile, without a DataLoader."""

import torch
from stopwatch import lap
from torch import nn

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters())


@torch.compile
def train_step(x, y):
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss


while True:
    train_step(torch.randn(16, 64), torch.randint(0, 10, (16,)))
    lap(16)
