"""Sharpness-aware minimisation: a second pass at the point to which the first gradient leads."""

import torch
from items import Items, image_and_label
from torch import nn
from torch.nn import functional as F

RADIUS = 0.05


class Sharpness:
    unit, batch_size = "samples", 32

    def build(self):
        convolutions = nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 10))

    def optimizers(self, model):
        return torch.optim.SGD(model.parameters(), 0.05)

    def step(self, model, batch, ctx):
        pixels, labels = batch
        loss = F.cross_entropy(model(pixels), labels)
        ctx.backward(loss)
        steps = climb(model)
        ctx.backward(F.cross_entropy(model(pixels), labels))
        descend(model, steps)
        ctx.update()
        return loss

    def samples(self, data):
        return Items(image_and_label(32, 10))

    def layers(self, model):
        return []


@torch.no_grad()
def climb(model):
    """Move to where the loss is higher, and return by how much; gradients are zero then."""
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    steps = [parameter.grad * (RADIUS / norm) for parameter in model.parameters()]
    for parameter, step in zip(model.parameters(), steps, strict=True):
        parameter.add_(step)
        parameter.grad.zero_()
    return steps


@torch.no_grad()
def descend(model, steps):
    for parameter, step in zip(model.parameters(), steps, strict=True):
        parameter.sub_(step)


def plain(model, optimizers, batch):
    """Train a step without ``ctx``."""
    (optimizer,) = optimizers
    pixels, labels = batch
    loss = F.cross_entropy(model(pixels), labels)
    loss.backward()
    steps = climb(model)
    F.cross_entropy(model(pixels), labels).backward()
    descend(model, steps)
    optimizer.step()
    optimizer.zero_grad()
    return loss
