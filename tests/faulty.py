"""A user's workload that goes wrong, or takes known time and memory, on request: ``faulty.py:Faulty:fault=raise``."""

import os
import signal
import time

import torch
from torch import nn


class Data(torch.utils.data.Dataset):
    def __init__(self, sleep_s: float) -> None:
        self.sleep_s = sleep_s

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int):
        time.sleep(self.sleep_s)
        return (torch.full((4,), float(index)),)


class Faulty:
    unit, batch_size = "samples", 2

    def __init__(self, fault="none", rank=0, step=4, sleep_ms=0, data_ms=0, mib=0) -> None:
        self.fault, self.rank, self.step = fault, rank, step
        self.sleep_s, self.data_s, self.mib = sleep_ms / 1000, data_ms / 1000, mib
        self.steps = 0

    def build(self):
        return nn.Linear(4, 1)

    def loss(self, model, batch):
        loss = model(batch[0]).square().mean()
        if batch[0].device.type != "meta":
            time.sleep(self.sleep_s)
            if self.mib:
                torch.ones(self.mib << 18)  # float32
            self.steps += 1
            if self.steps == self.step and int(os.environ["RANK"]) == self.rank:
                loss = self.go_wrong(loss)
        return loss

    def go_wrong(self, loss):
        if self.fault == "raise":
            raise ValueError("first line\nthe cause's last line")
        if self.fault == "oom":
            torch.empty(1 << 46)
        if self.fault == "exit":
            os._exit(3)
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "hang":
            time.sleep(1000)
        return loss * float("nan") if self.fault == "nan" else loss

    def samples(self, data):
        return Data(self.data_s)

    def layers(self, model):
        return []
