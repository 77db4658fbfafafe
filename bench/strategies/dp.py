"""One process for all GPUs: each step copies the model to them, splits the batch and gathers what they return."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from bench.plan.case import Case

OWN_PRECISION = False


def apply(
    model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case, device: torch.device
) -> nn.Module:
    if case.precision == "amp-bf16":
        autocast_to(model, torch.bfloat16)
    return nn.DataParallel(model.to(device), device_ids=device_ids(case))


def device_ids(case: Case) -> list[int]:
    """With --oversubscribe a device is named more than once: it then holds that many replicas."""
    return [i % torch.cuda.device_count() for i in range(case.gpus)]


def autocast_to(model: nn.Module, dtype: torch.dtype) -> None:
    """Have replicas compute in ``dtype``: torch tells their threads that autocast is on but not its type, which is
    float16 there (parallel_apply.py). Leaving autocast undoes it."""
    model.register_forward_pre_hook(lambda *_: torch.set_autocast_dtype("cuda", dtype))


def compiled(model: nn.Module, layers: Sequence[nn.Module]) -> Sequence[nn.Module]:
    return [model]  # on one GPU, where there are no replicas; bench.plan.constraints says why on no more


def gradient_sync(model: nn.Module, on: bool) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()  # replicas last for one pass: each backward brings their gradients home


def forward_is_local(model: nn.Module) -> bool | None:
    return None
