"""A GAN whose critic is updated five times for each update of the generator."""

import torch
from stopwatch import lap
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

generator, critic = nn.Linear(8, 64), nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
of_generator = torch.optim.Adam(generator.parameters())
of_critic = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
done = 0
while True:
    for (real,) in DataLoader(TensorDataset(torch.randn(4000, 64)), batch_size=10, shuffle=True, drop_last=True):
        fake = generator(torch.randn(10, 8)).detach()
        of_critic.zero_grad()
        (critic(fake).mean() - critic(real).mean()).backward()
        of_critic.step()
        done += 1
        if done % 5 == 0:
            of_generator.zero_grad()
            (-critic(generator(torch.randn(10, 8))).mean()).backward()
            of_generator.step()
            lap(50)
