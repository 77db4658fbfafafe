"""Faster R-CNN: a batch is a list of images of different sizes and a list of dictionaries."""

import torch
import torchvision
from items import Items

CLASSES = 5


def image_with_boxes(g):
    height, width = (int(torch.randint(64, 97, (), generator=g)) for _ in range(2))
    corners = torch.rand(3, 2, generator=g) * 30
    boxes = torch.cat([corners, corners + 10 + 20 * torch.rand(3, 2, generator=g)], 1)
    labels = torch.randint(1, CLASSES, (3,), generator=g)
    return torch.rand(3, height, width, generator=g), {"boxes": boxes, "labels": labels}


class Detection:
    unit, batch_size = "samples", 2

    def build(self):
        sizes = {"min_size": 64, "max_size": 96, "num_classes": CLASSES}
        samples = {"rpn_post_nms_top_n_train": 100, "rpn_pre_nms_top_n_train": 200, "box_batch_size_per_image": 32}
        return torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, **sizes, **samples
        )

    def loss(self, model, batch):
        images, targets = batch
        return sum(model(images, targets).values())

    def samples(self, data):
        return Items(image_with_boxes)

    def collate_fn(self, items):
        images, targets = zip(*items, strict=True)
        return list(images), list(targets)

    def batch_size_of(self, batch):
        return len(batch[0])

    def layers(self, model):
        return []
