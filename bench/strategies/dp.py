"""One process for all GPUs: each step copies the model to them, splits the batch and gathers what they return."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from bench.case import Case

OWN_PRECISION = False


def apply(
    model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case, device: torch.device
) -> nn.Module:
    # With --oversubscribe a device is named more than once: it then holds that many replicas.
    devices = [i % torch.cuda.device_count() for i in range(case.gpus)]
    return nn.DataParallel(model.to(device), device_ids=devices)


def compiled(model: nn.Module, layers: Sequence[nn.Module]) -> Sequence[nn.Module]:
    return [model]  # on one GPU, where there are no replicas; bench.rules says why on no more


def gradient_sync(model: nn.Module, on: bool) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()  # replicas last for one pass: each backward brings their gradients home


def forward_is_local(model: nn.Module) -> bool | None:
    return None
