"""The structure of torchvision's references/classification/train.py: its epochs, its evaluation, its samplers."""

import argparse
import os

import torch
import torch.distributed as dist
import torchvision
from stopwatch import lap
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler
from torchvision.transforms import v2


def train_one_epoch(model, criterion, optimizer, loader, model_ema, args):
    model.train()
    for number, (image, target) in enumerate(loader):
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        lap(len(image))
        if number % 4 == 0:
            model_ema.update_parameters(model)


def evaluate(model, criterion, loader):
    model.eval()
    with torch.inference_mode():
        for image, target in loader:
            criterion(model(image), target).item()


parser = argparse.ArgumentParser()
parser.add_argument("-b", "--batch-size", default=4, type=int)
parser.add_argument("-j", "--workers", default=1, type=int)
parser.add_argument("--epochs", default=90, type=int)
args = parser.parse_args()
dist.init_process_group("gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
dist.barrier()
transform = v2.Compose([v2.PILToTensor(), v2.RandomResizedCrop(32), v2.ToDtype(torch.float, scale=True)])
train_set = torchvision.datasets.FakeData(96, (3, 32, 32), 10, transform)
test_set = torchvision.datasets.FakeData(16, (3, 32, 32), 10, transform)
train_sampler = DistributedSampler(train_set)
train = DataLoader(train_set, batch_size=args.batch_size, sampler=train_sampler, num_workers=args.workers)
test = DataLoader(test_set, batch_size=8, sampler=SequentialSampler(test_set), num_workers=args.workers)
model = torchvision.models.resnet18(num_classes=10)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30)
model = nn.parallel.DistributedDataParallel(model)
model_ema = torch.optim.swa_utils.AveragedModel(model.module, avg_fn=torch.optim.swa_utils.get_ema_avg_fn())
for epoch in range(args.epochs):
    train_sampler.set_epoch(epoch)
    train_one_epoch(model, criterion, optimizer, train, model_ema, args)
    schedule.step()
    evaluate(model, criterion, test)
    if dist.get_rank() == 0:
        torch.save({"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}, f"model_{epoch}.pth")
