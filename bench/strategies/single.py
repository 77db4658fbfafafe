"""One device and no process group: what every other strategy is measured against."""

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
    return model.to(device)


def compiled(model: nn.Module, layers: Sequence[nn.Module]) -> Sequence[nn.Module]:
    return [model]


def gradient_sync(model: nn.Module, on: bool) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def forward_is_local(model: nn.Module) -> bool | None:
    return None
