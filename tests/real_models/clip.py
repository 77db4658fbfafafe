"""Contrastive training as in CLIP: each image is compared with the texts of all ranks."""

import torch
import torch.distributed as dist
from items import Items
from torch import nn
from torch.nn import functional as F

VOCABULARY, WIDTH = 256, 64


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        convolutions = nn.Conv2d(3, 32, 4, 4), nn.GELU(), nn.Conv2d(32, WIDTH, 2, 2), nn.GELU()
        self.of_images = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, WIDTH))
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.of_texts = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images, texts):
        of_texts = self.of_texts(self.embedding(texts)).mean(1)
        return F.normalize(self.of_images(images)), F.normalize(of_texts), self.scale.exp()


def contrastive(images, texts, all_images, all_texts, scale, rank):
    own = torch.arange(len(images), device=images.device) + rank * len(images)
    return (F.cross_entropy(scale * images @ all_texts.T, own) + F.cross_entropy(scale * texts @ all_images.T, own)) / 2


class Clip:
    unit, batch_size = "samples", 32

    def build(self):
        return Towers()

    def step(self, model, batch, ctx):
        with ctx.autocast():
            images, texts, scale = model(*batch)
            loss = contrastive(images, texts, ctx.all_gather(images), ctx.all_gather(texts), scale, ctx.rank)
        ctx.backward(loss)
        ctx.update()
        return loss

    def samples(self, data):
        return Items(lambda g: (torch.randn(3, 32, 32, generator=g), torch.randint(0, VOCABULARY, (16,), generator=g)))

    def layers(self, model):
        return list(model.of_texts.layers)


def gathered(tensor):
    """Return the tensors of all ranks, with gradients for this rank's own."""
    if not dist.is_initialized():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.detach())
    parts[dist.get_rank()] = tensor
    return torch.cat(parts)


def plain(model, optimizers, batch):
    """Train a step without ``ctx``."""
    images, texts, scale = model(*batch)
    rank = dist.get_rank() if dist.is_initialized() else 0
    loss = contrastive(images, texts, gathered(images), gathered(texts), scale, rank)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss
