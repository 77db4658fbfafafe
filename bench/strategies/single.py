"""One device and no process group: what every other strategy is measured against."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from bench.case import Case

OWN_PRECISION = False


def apply(model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case) -> nn.Module:
    return model


def forward_is_local(model: nn.Module) -> bool | None:
    return None
