"""DDPM: the model predicts the noise in an image; noise and time are drawn in the loss."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

STEPS = 1000


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.convolution = nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.of_time = nn.Linear(64, channels)

    def forward(self, x, time):
        return x + self.convolution(F.silu(self.norm(x))) + self.of_time(time)[:, :, None, None]


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time, self.first = nn.Embedding(STEPS, 64), nn.Conv2d(3, 32, 3, padding=1)
        self.blocks = nn.ModuleList(Block(32) for _ in range(4))
        self.last = nn.Conv2d(32, 3, 3, padding=1)
        self.register_buffer("kept", torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS), 0))

    def forward(self, images, noise, time):
        kept = self.kept[time][:, None, None, None]
        x, of_time = self.first(kept.sqrt() * images + (1 - kept).sqrt() * noise), self.time(time)
        for block in self.blocks:
            x = block(x, of_time)
        return self.last(x)


class Diffusion:
    unit, batch_size = "samples", 8

    def build(self):
        return Denoiser()

    def loss(self, model, batch):
        noise, time = torch.randn_like(batch), torch.randint(0, STEPS, (len(batch),), device=batch.device)
        return F.mse_loss(model(batch, noise, time), noise)

    def samples(self, data):
        return Items(lambda g: torch.rand(3, 16, 16, generator=g) * 2 - 1)

    def layers(self, model):
        return list(model.blocks)
