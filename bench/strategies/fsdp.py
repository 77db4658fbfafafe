"""Parameters, gradients and optimizer state sharded over all ranks; each layer is gathered while it computes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.modules.batchnorm import _BatchNorm

from bench.case import Case

OWN_PRECISION = True

POLICIES = {
    "fp32": MixedPrecisionPolicy(),
    "amp-bf16": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32),
}


def apply(model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case) -> nn.Module:
    policy = POLICIES[case.precision]
    for part in [*layers, model]:
        if policy.param_dtype is not None:
            _keep_batch_norms(part, mesh)
        fully_shard(part, mesh=mesh, mp_policy=policy)
    return model


def forward_is_local(model: nn.Module) -> bool | None:
    return False  # the first layer is gathered before anything is computed


def _keep_batch_norms(part: nn.Module, mesh: DeviceMesh | None) -> None:
    """Batch norms stay in float32, as under autocast: their running statistics are, and must be of one type."""
    norms: list[nn.Module] = [
        m for m in part.modules() if isinstance(m, _BatchNorm) and not hasattr(m, "set_requires_gradient_sync")
    ]
    if norms:
        fully_shard(norms, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
