"""Semantic segmentation: a class for every pixel, from the dictionary that LR-ASPP returns."""

import torch
import torchvision
from items import Items
from torch.nn import functional as F

CLASSES, SIZE = 5, 64


class Segmentation:
    unit, batch_size = "samples", 4

    def build(self):
        return torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=CLASSES
        )

    def loss(self, model, batch):
        pixels, classes = batch
        return F.cross_entropy(model(pixels)["out"], classes)

    def samples(self, data):
        shapes = (3, SIZE, SIZE), (SIZE, SIZE)
        return Items(lambda g: (torch.randn(shapes[0], generator=g), torch.randint(0, CLASSES, shapes[1], generator=g)))

    def layers(self, model):
        return []
