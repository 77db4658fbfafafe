"""Gives a model its first weights where ``--init`` says: on the host, on the device, or shard by shard.

With ``meta`` rank 0 alone holds the whole model, on the host. Every rank distributes a model without data, and each
parameter is then sent from rank 0 to where its parts belong. So any model can be built in this way, also one that loads
a checkpoint, and its weights are those of ``cpu``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from workloads.checks import Checked

META = torch.device("meta")


def built(workload: Checked, init: str | None, device: torch.device) -> tuple[Any, nn.Module | None]:
    """Return the model or models of a workload, and with ``meta`` on rank 0 the one that has the weights."""
    if init == "device":
        with device:
            return workload.build(), None
    if init != "meta":
        return workload.build(), None
    source = as_one(workload.build()) if dist.get_rank() == 0 else None
    random = torch.get_rng_state().to(device)
    with META:
        empty = workload.build()
    dist.broadcast(random, 0)  # as if each rank had built the model
    torch.set_rng_state(random.cpu())
    return empty, source


def as_one(built: Any) -> nn.Module:
    """Return what a workload has built as one module."""
    model: nn.Module = nn.ModuleDict(built) if isinstance(built, dict) else built
    return model


@torch.no_grad()
def fill(model: nn.Module, source: nn.Module | None, device: torch.device, host: bool) -> None:
    """Move a distributed model from the meta device to ``device``, to the host if set, and fill it from rank 0.

    Weights of ``source`` are freed as they are sent.
    """
    model.to_empty(device=torch.device("cpu") if host else device)
    weights = dict(source.named_parameters()) if source else {}
    for name, parameter in model.named_parameters():
        whole = _on(device, weights.get(name), parameter)
        if isinstance(parameter, DTensor):
            parts = distribute_tensor(whole, parameter.device_mesh, parameter.placements)
            parameter.to_local().copy_(parts.to_local())
        else:
            dist.broadcast(whole, 0)
            parameter.copy_(whole)
        if source:
            weights[name].data = torch.empty(0)  # rank 0 shall not have the whole model and its shards at once
    buffers = dict(source.named_buffers()) if source else {}
    for name, buffer in model.named_buffers():
        whole = _on(device, buffers.get(name), buffer).reshape(-1).contiguous()
        dist.broadcast(whole.view(torch.uint8), 0)  # not every backend knows all types
        buffer.copy_(whole.view(buffer.shape))


def _on(device: torch.device, tensor: Tensor | None, like: Tensor) -> Tensor:
    """Return the whole tensor on the device and in the type of ``like``; without values where there is none."""
    if tensor is None:
        return torch.empty(like.shape, dtype=like.dtype, device=device)
    return tensor.detach().to(device, like.dtype)
