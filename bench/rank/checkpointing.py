"""Activation checkpointing: recomputes activations in the backward pass instead of keeping them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from bench.rank.private import ATTENTION, SCALED_MM

aten = torch.ops.aten
# Expensive operations, whose results selective checkpointing keeps: the operators of matmuls, convolutions and
# attention on any device.
KEPT = {
    *(aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default),
    SCALED_MM,
    *ATTENTION,
}


def checkpoint_layers(layers: Sequence[nn.Module], mode: str) -> None:
    """Checkpoint the layers as the value of ``--activation-checkpointing`` says.

    Hooks that a strategy adds later are not part of the recomputation.
    """
    if mode == "none":
        return
    every = int(mode.partition("every=")[2] or 1)
    options: dict[str, Any] = {"use_reentrant": False}
    if mode == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    for layer in layers[every - 1 :: every]:
        layer.__class__ = _checkpointed(type(layer), options)


def _checkpointed(kind: type[nn.Module], options: dict[str, Any]) -> type[nn.Module]:
    """Return a subclass whose forward is checkpointed.

    A forward set on the instance would be shared by nn.DataParallel's replicas.
    """

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(functools.partial(kind.forward, self), *args, **options, **kwargs)

    return type(kind.__name__, (kind,), {"forward": forward, "checkpointed": kind})


@contextlib.contextmanager
def watch_layers(model: nn.Module, ran: Callable[[nn.Module], None]) -> Iterator[int]:
    """Call ``ran`` with a checkpointed layer whenever its forward pass runs; yield the number of such layers.

    Each layer runs once in the forward pass, and again if it is recomputed.
    """
    layers = [layer for layer in model.modules() if hasattr(type(layer), "checkpointed")]
    with contextlib.ExitStack() as stack:
        for kind in {type(layer).checkpointed for layer in layers}:  # type: ignore[attr-defined]
            stack.enter_context(_counted(kind, ran))
        yield len(layers)


@contextlib.contextmanager
def _counted(kind: type[nn.Module], ran: Callable[[nn.Module], None]) -> Iterator[None]:
    own, forward = kind.__dict__.get("forward"), kind.forward

    @functools.wraps(forward)
    def counted(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        ran(self)
        return forward(self, *args, **kwargs)

    kind.forward = counted
    try:
        yield
    finally:
        if own is None:
            del kind.forward
        else:
            kind.forward = own


def _policy(context: object, operator: object, *args: object, **kwargs: object) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in KEPT else CheckpointPolicy.PREFER_RECOMPUTE
