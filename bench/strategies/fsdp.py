"""Parameters, gradients and optimizer state sharded over all ranks; each layer is gathered while it computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from bench.plan.case import Case

OWN_PRECISION = True
COMPUTE = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}
REDUCE = {"own": None, "fp32": torch.float32, "bf16": torch.bfloat16}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
RESHARD = {"on": True, "off": False}


def apply(
    model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case, device: torch.device
) -> nn.Module:
    """Shard the layers one by one as they move to the device, so that the whole model need not fit there."""
    chosen = case.spread.options["reshard"]
    common: dict[str, Any] = {"mesh": mesh, "offload_policy": _offload(case)}
    of_layers = {**common, "reshard_after_forward": RESHARD[chosen] if chosen in RESHARD else int(chosen)}
    policy = _precision(case)
    # The root stays gathered by default, as the backward pass begins with it.
    inner = [(layer, of_layers) for layer in layers if layer is not model]
    for part, options in [*inner, (model, common)]:
        if policy.param_dtype is not None:
            _keep_batch_norms(part, options)
        fully_shard(part, mp_policy=policy, **options)
    return model


def compiled(model: nn.Module, layers: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """Return the layers."""
    return layers or [model]  # the hooks that gather and free parameters stay outside of compiled regions


@contextlib.contextmanager
def gradient_sync(model: nn.Module, on: bool) -> Iterator[None]:
    """Exchange gradients in the backward pass if ``on``, else accumulate them."""
    assert isinstance(model, FSDPModule)
    model.set_requires_gradient_sync(on)
    model.set_is_last_backward(on)
    yield


def forward_is_local(model: nn.Module) -> bool | None:
    """Return False."""
    return False  # the first layer is gathered before anything is computed


def _precision(case: Case) -> MixedPrecisionPolicy:
    compute = COMPUTE.get(str(case.precision))
    reduce = REDUCE[case.spread.options["reduce"]]
    if compute is not None and reduce is None:
        reduce = torch.float32
    return MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=reduce)


def _offload(case: Case) -> OffloadPolicy:
    return CPUOffloadPolicy() if case.spread.options["offload"] == "cpu" else OffloadPolicy()


def _keep_batch_norms(part: nn.Module, options: Mapping[str, Any]) -> None:
    """Keep batch norms in float32, as under autocast: their running statistics are, and all must be of one type."""
    norms: list[nn.Module] = [m for m in part.modules() if isinstance(m, BATCH_NORMS) and not isinstance(m, FSDPModule)]
    if norms:
        fully_shard(norms, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False), **options)
