"""Batches as a detector has them: a list of images of different sizes, and a list of dictionaries."""

import torch
from stopwatch import lap
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Boxes(Dataset):
    def __len__(self):
        return 4000

    def __getitem__(self, index):
        size = 8 + index % 5
        return torch.randn(3, size, size), {"boxes": torch.rand(index % 3 + 1, 4), "name": f"image {index}"}


def collate(items):
    return torch.randn(3, 1), [image for image, _ in items], [target for _, target in items]


model = nn.Conv2d(3, 4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for _, images, targets in DataLoader(Boxes(), batch_size=8, collate_fn=collate, num_workers=1):
        loss = sum(
            model(image[None]).mean() * len(target["boxes"]) for image, target in zip(images, targets, strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lap(8)
