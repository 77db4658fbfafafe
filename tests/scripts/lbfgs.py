"""L-BFGS, whose step evaluates its closure many times."""

import torch
from stopwatch import lap
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Linear(64, 10)
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
while True:
    for x, y in DataLoader(TensorDataset(torch.randn(3200, 64), torch.randint(0, 10, (3200,))), batch_size=32):

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        lap(32)
