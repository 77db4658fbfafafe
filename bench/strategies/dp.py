"""One process for all GPUs: each step copies the model to them, splits the batch and gathers the outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from bench.plan.case import Case
from bench.strategies.ddp import OwnAttributes

OWN_PRECISION = False


def apply(
    model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case, device: torch.device
) -> nn.Module:
    """Return the model in DataParallel."""
    if case.precision == "amp-bf16":
        autocast_to(model, torch.bfloat16)
    return Replicated(model.to(device), device_ids=device_ids(case))


class Replicated(OwnAttributes, nn.DataParallel[nn.Module]):
    """DataParallel with the attributes of the model."""


def device_ids(case: Case) -> list[int]:
    """Return the device of each replica. With --oversubscribe a device may hold several replicas."""
    return [i % torch.cuda.device_count() for i in range(case.gpus)]


def autocast_to(model: nn.Module, dtype: torch.dtype) -> None:
    """Make replicas compute in ``dtype``.

    torch enables autocast in their threads but not its type, which is float16 there (parallel_apply.py). Leaving
    autocast undoes it.
    """
    model.register_forward_pre_hook(lambda *_: torch.set_autocast_dtype("cuda", dtype))


def gradient_sync(model: nn.Module, on: bool) -> contextlib.AbstractContextManager[None]:
    """Return an empty context."""
    return contextlib.nullcontext()  # replicas are rebuilt in each step; gradients always reduce to the source module


def forward_is_local(model: nn.Module) -> bool | None:
    """Return None: there are no other ranks."""
    return None


def remove_collectives(model: nn.Module, case: Case) -> bool:
    """Return False: they are part of nn.DataParallel's forward pass."""
    return False
