"""Self-distillation as in BYOL and DINO: a student learns what its own moving average predicts."""

import copy

import torch
from items import Items
from torch import nn
from torch.nn import functional as F

MOMENTUM = 0.01


def network():
    convolutions = nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64))


@torch.no_grad()
def follow(teacher, student):
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, MOMENTUM)


def distance(student, teacher, batch):
    one, other = batch
    with torch.no_grad():
        target = F.normalize(teacher(other))
    return 2 - 2 * (F.normalize(student(one)) * target).sum(1).mean()


class EmaTeacher:
    unit, batch_size = "samples", 64

    def build(self):
        student = network()
        return {"student": student, "teacher": copy.deepcopy(student)}

    def optimizers(self, models):
        return torch.optim.SGD(models["student"].parameters(), 0.05, momentum=0.9)

    def step(self, models, batch, ctx):
        with ctx.autocast():
            loss = distance(models["student"], models["teacher"], batch)
        ctx.backward(loss)
        ctx.update()
        follow(models["teacher"], models["student"])
        return loss

    def samples(self, data):
        return Items(lambda g: tuple(torch.randn(3, 32, 32, generator=g) for _ in range(2)))

    def layers(self, models):
        return []


def plain(models, optimizers, batch):
    """Train a step without ``ctx``."""
    (optimizer,) = optimizers
    loss = distance(models["student"], models["teacher"], batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    follow(models["teacher"], models["student"])
    return loss
