"""Replicas whose gradients are all-reduced in buckets during the backward pass."""

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
TYPES = {"none": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class OwnAttributes(nn.Module):
    """Wraps ``module``, whose public attributes are its own as well, as they are under strategies without a wrapper."""

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the wrapper, else of the model."""
        modules = self.__dict__.get("_modules", {})
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "module" not in modules:
                raise
            return getattr(modules["module"], name)


class Counting(OwnAttributes, DistributedDataParallel):
    """Counts forward passes after which gradients are exchanged.

    A model that bypasses them, as ``model.module(x)`` does, trains replicas without any exchange.
    """

    exchanges = 0

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run the forward pass, and count it if its gradients are to be exchanged."""
        if torch.is_grad_enabled() and self.require_backward_grad_sync:
            self.__dict__["exchanges"] = self.exchanges + 1  # nn.Module.__setattr__ would take microseconds
        return super().forward(*inputs, **kwargs)  # type: ignore[no-untyped-call]


def apply(
    model: nn.Module, layers: Sequence[nn.Module], mesh: DeviceMesh | None, case: Case, device: torch.device
) -> nn.Module:
    """Return the model in DistributedDataParallel; a frozen model as it is, as there is nothing to exchange."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return model.to(device)
    options = case.spread.options
    bucket_mb = int(options["bucket-mb"])
    ddp = Counting(
        model.to(device),
        process_group=mesh.get_group() if mesh is not None and case.model_ranks > 1 else None,
        device_ids=[device] if case.on_accelerator else None,
        # None also means 25, but with a small first bucket; an explicit size is that of all buckets.
        bucket_cap_mb=None if bucket_mb == 25 else bucket_mb,
        static_graph=options["static-graph"] == "on",
        find_unused_parameters=options["find-unused"] == "on",
        gradient_as_bucket_view=options["bucket-view"] == "on",
    )
    if case.fake_ranks:
        # DDP refuses annotations that are texts, as those of a function here are.
        ddp.register_comm_hook(TYPES[options["hook"]], lambda dtype, bucket: done_at_once(dtype, bucket))
    elif options["hook"] != "none":
        ddp.register_comm_hook(dist.group.WORLD, HOOKS[options["hook"]])
    return ddp


def done_at_once(dtype: torch.dtype | None, bucket: Any) -> torch.futures.Future[torch.Tensor]:
    """Average the gradients of a bucket as DDP does, or as one of HOOKS does if ``dtype`` is not None.

    A fake process group needs it: the futures of its collectives have no result, which DDP and HOOKS read.
    """
    buffer = bucket.buffer()
    sent = (buffer if dtype is None else buffer.to(dtype)).div_(dist.get_world_size())
    dist.all_reduce(sent)
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    future.set_result(sent if dtype is None else buffer.copy_(sent))
    return future


def gradient_sync(model: nn.Module, on: bool) -> contextlib.AbstractContextManager[None]:
    """Return no_sync() unless ``on``."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not on else contextlib.nullcontext()


def forward_is_local(model: nn.Module) -> bool | None:
    """Return whether the model has no buffers."""
    return next(model.buffers(), None) is None  # DDP broadcasts buffers at the start of the forward pass


def remove_collectives(model: nn.Module, case: Case) -> bool:
    """Make further backward passes exchange no gradients and, from the second one on, no buffers either.

    False where ranks have parts of one model: what they send each other is part of its forward and backward pass.
    """
    if case.model_ranks > 1:
        return False
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = False  # as in no_sync(), but for good
    return True
