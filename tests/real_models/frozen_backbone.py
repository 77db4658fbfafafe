"""A frozen ResNet with a head that learns: parameters without gradients, and a part that stays in evaluation."""

import torchvision
from items import Items, image_and_label
from torch import nn
from torch.nn import functional as F


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = torchvision.models.resnet18(weights=None)
        self.backbone.fc = nn.Identity()
        self.backbone.requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))

    def train(self, mode: bool = True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, pixels):
        return self.head(self.backbone(pixels))


class FrozenBackbone:
    unit, batch_size = "samples", 8

    def build(self):
        return Classifier()

    def loss(self, model, batch):
        pixels, labels = batch
        return F.cross_entropy(model(pixels), labels)

    def samples(self, data):
        return Items(image_and_label(48, 10))

    def layers(self, model):
        return []
