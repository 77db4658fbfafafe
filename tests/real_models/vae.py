"""A variational autoencoder: the loss draws from what the encoder returns."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

SIZE, LATENT = 784, 32


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(SIZE, 1024), nn.ReLU(), nn.Linear(1024, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 1024), nn.ReLU(), nn.Linear(1024, SIZE))

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decoder(latent), mean, log_variance


class Vae:
    unit, batch_size = "samples", 64

    def build(self):
        return Autoencoder()

    def loss(self, model, batch):
        logits, mean, log_variance = model(batch)
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
        return F.binary_cross_entropy_with_logits(logits, batch, reduction="sum") / len(batch) + divergence

    def samples(self, data):
        return Items(lambda g: torch.rand(SIZE, generator=g))

    def layers(self, model):
        return []
