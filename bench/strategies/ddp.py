"""Replicas whose gradients are all-reduced in buckets while the backward pass runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook, fp16_compress_hook
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

from bench.plan.case import Case

OWN_PRECISION = False
HOOKS: dict[str, Callable[..., Any]] = {"fp16": fp16_compress_hook, "bf16": bf16_compress_hook}


class Counting(DistributedDataParallel):
    """Counts forward passes after which gradients are exchanged: a model that goes round them, as
    ``model.module(x)`` does, trains replicas that know nothing of each other."""

    exchanges = 0

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and self.require_backward_grad_sync:
            self.__dict__["exchanges"] = self.exchanges + 1  # nn.Module's own way to set it would take microseconds
        return super().forward(*inputs, **kwargs)  # type: ignore[no-untyped-call]


def apply(
    model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case, device: torch.device
) -> nn.Module:
    options = case.spread.options
    bucket_mb = int(options["bucket-mb"])
    ddp = Counting(
        model.to(device),
        device_ids=[device] if case.on_accelerator else None,
        # None is 25 as well, but with a small first bucket; a size that was asked for holds for all of them
        bucket_cap_mb=None if bucket_mb == 25 else bucket_mb,
        static_graph=options["static-graph"] == "on",
        find_unused_parameters=options["find-unused"] == "on",
        gradient_as_bucket_view=options["bucket-view"] == "on",
    )
    if options["hook"] != "none":
        ddp.register_comm_hook(dist.group.WORLD, HOOKS[options["hook"]])
    return ddp


def compiled(model: nn.Module, layers: Sequence[nn.Module]) -> Sequence[nn.Module]:
    return [model]  # torch splits the graph at the buckets, so that they are reduced during the backward pass


def gradient_sync(model: nn.Module, on: bool) -> contextlib.AbstractContextManager[None]:
    assert isinstance(model, DistributedDataParallel)
    return contextlib.nullcontext() if on else model.no_sync()


def forward_is_local(model: nn.Module) -> bool | None:
    return next(model.buffers(), None) is None  # DDP broadcasts buffers as the forward pass begins
