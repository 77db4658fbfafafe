"""A DCGAN: two models and two optimizers that take turns."""

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

NOISE = 32


class Gan:
    unit, batch_size = "samples", 16

    def build(self):
        generator = nn.Sequential(
            *(nn.Linear(NOISE, 64 * 16), nn.Unflatten(1, (64, 4, 4)), nn.ReLU()),
            *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh()),
        )
        discriminator = nn.Sequential(
            *(nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Flatten(), nn.Linear(64 * 16, 1)),
        )
        return {"generator": generator, "discriminator": discriminator}

    def optimizers(self, models):
        return [torch.optim.Adam(models[name].parameters(), 2e-4, (0.5, 0.999)) for name in models]

    def step(self, models, batch, ctx):
        of_generator, of_discriminator = ctx.optimizers
        noise, real = batch
        with ctx.autocast():
            fake = models["generator"](noise)
            loss = F.softplus(models["discriminator"](fake.detach())).mean()
            loss = loss + F.softplus(-models["discriminator"](real)).mean()
        ctx.backward(loss)
        ctx.update(of_discriminator)
        with ctx.autocast():
            of_fakes = F.softplus(-models["discriminator"](fake)).mean()
        ctx.backward(of_fakes)
        ctx.update(of_generator)
        return loss

    def samples(self, data):
        return Items(lambda g: (torch.randn(NOISE, generator=g), torch.rand(3, 16, 16, generator=g) * 2 - 1))

    def layers(self, models):
        return []


def plain(models, optimizers, batch):
    """Train a step without ``ctx``."""
    generator, discriminator = models["generator"], models["discriminator"]
    of_generator, of_discriminator = optimizers
    noise, real = batch
    fake = generator(noise)
    loss = F.softplus(discriminator(fake.detach())).mean() + F.softplus(-discriminator(real)).mean()
    loss.backward()
    of_discriminator.step()
    of_discriminator.zero_grad()
    F.softplus(-discriminator(fake)).mean().backward()
    of_generator.step()
    of_generator.zero_grad()
    of_discriminator.zero_grad()
    return loss
