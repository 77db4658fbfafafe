"""Replicas whose gradients are all-reduced in buckets while the backward pass runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

from bench.case import Case

OWN_PRECISION = False


def apply(model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case) -> nn.Module:
    device_ids = [torch.cuda.current_device()] if case.device == "cuda" else None
    return DistributedDataParallel(model, device_ids=device_ids)


def forward_is_local(model: nn.Module) -> bool | None:
    return next(model.buffers(), None) is None  # DDP broadcasts buffers as the forward pass begins
