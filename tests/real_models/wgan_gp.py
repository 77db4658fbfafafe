"""WGAN-GP: the critic's loss has the norm of its own gradient, which is differentiated again."""

import torch
from items import Items
from torch import nn

NOISE, SIZE = 16, 64


def penalty(critic, real, fake):
    """Return how far the gradient between real and fake samples is from norm 1."""
    share = torch.rand(len(real), 1, device=real.device)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((gradient.norm(dim=1) - 1) ** 2).mean()


class WganGp:
    unit, batch_size = "samples", 64

    def build(self):
        generator = nn.Sequential(
            nn.Linear(NOISE, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, SIZE)
        )
        critic = nn.Sequential(nn.Linear(SIZE, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 1))
        return {"generator": generator, "critic": critic}

    def optimizers(self, models):
        return [torch.optim.Adam(models[name].parameters(), 1e-4, (0.0, 0.9)) for name in ("generator", "critic")]

    def step(self, models, batch, ctx):
        """Update the critic three times, and then the generator."""
        of_generator, of_critic = ctx.optimizers
        generator, critic = models["generator"], models["critic"]
        noise, real = batch
        for _ in range(3):
            with torch.no_grad():
                fake = generator(noise + 0.1 * torch.randn_like(noise))
            loss = critic(fake).mean() - critic(real).mean() + 10 * penalty(critic, real, fake)
            ctx.backward(loss)
            ctx.update(of_critic)
        ctx.backward(-critic(generator(noise)).mean())
        ctx.update(of_generator)
        return loss

    def samples(self, data):
        return Items(lambda g: (torch.randn(NOISE, generator=g), torch.randn(SIZE, generator=g)))

    def layers(self, models):
        return []


def plain(models, optimizers, batch):
    """Train a step without ``ctx``."""
    of_generator, of_critic = optimizers
    generator, critic = models["generator"], models["critic"]
    noise, real = batch
    for _ in range(3):
        with torch.no_grad():
            fake = generator(noise + 0.1 * torch.randn_like(noise))
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty(critic, real, fake)
        loss.backward()
        of_critic.step()
        of_critic.zero_grad()
    (-critic(generator(noise)).mean()).backward()
    of_generator.step()
    of_generator.zero_grad()
    of_critic.zero_grad()
    return loss
