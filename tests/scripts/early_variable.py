"""Sets a variable before it imports torch, as many scripts do."""

import os

os.environ["OMP_NUM_THREADS"] = "2"

import torch
from torch import nn

model = nn.Linear(16, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
while True:
    model(torch.randn(8, 16)).sum().backward()
    optimizer.step()
