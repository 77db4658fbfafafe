"""Parameters, gradients and optimizer state sharded over all ranks; each layer is gathered while it computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from bench.plan.case import Case
from bench.plan.options import FLOAT8

OWN_PRECISION = True
COMPUTE = {"amp-fp16": torch.float16, **dict.fromkeys(("amp-bf16", *FLOAT8), torch.bfloat16)}
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


def remove_collectives(model: nn.Module, case: Case) -> bool:
    """Put copies of the rank's own shard in place of what other ranks have; False for several replicas, tp or pp.

    Without the all-reduce between replicas (HSDP) FSDP keeps gradients back, so that a step would lack its optimizer;
    what ranks with parts of one model send each other is part of its forward and backward pass.
    """
    if int(case.spread.options["replicate"]) > 1 or case.model_ranks > 1:
        return False
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.set_custom_all_gather(_OwnShardGathered())  # type: ignore[arg-type]  # the base class is private
            part.set_custom_reduce_scatter(_OwnShardScattered())  # type: ignore[arg-type]
    return True


class _InMemory:
    """Collectives of FSDP by which nothing leaves the rank."""

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return memory for the tensors of a collective."""
        return torch.empty(*size, dtype=dtype, device=device)


class _OwnShardGathered(_InMemory):
    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, async_op: bool = False
    ) -> None:
        """Copy this rank's shard to the place of each other rank's."""
        for rank, part in enumerate(output_tensor.chunk(group.size())):
            if rank != group.rank():  # its own is there already
                part.copy_(input_tensor)


class _OwnShardScattered(_InMemory):
    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, op: Any, async_op: bool = False
    ) -> None:
        """Copy this rank's shard."""
        output_tensor.copy_(input_tensor.chunk(group.size())[group.rank()])


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
