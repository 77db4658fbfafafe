"""One device and no process group: the baseline of every other strategy."""

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
    """Return the model on the device."""
    return model.to(device)


def gradient_sync(model: nn.Module, on: bool) -> contextlib.AbstractContextManager[None]:
    """Return an empty context."""
    return contextlib.nullcontext()


def forward_is_local(model: nn.Module) -> bool | None:
    """Return None: there are no other ranks."""
    return None


def remove_collectives(model: nn.Module, case: Case) -> bool:
    """Return False: there are none."""
    return False
