"""Activations wait for the backward pass in the memory of the host, and not in that of the device."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

LEAST_BYTES = 1024  # A smaller tensor costs more time to copy than it saves memory.
MOST_COPIES = 4  # That are under way at once: what is copied stays on the device until then.


class Moved(NamedTuple):
    """An activation on the host: its strides on the device, and the event after which it is there."""

    host: Tensor
    stride: tuple[int, ...]
    there: Any


class ActivationOffload:
    """Copies what autograd saves to page-locked memory, and back when the backward pass needs it.

    The copy to the host is made on a stream of its own, so that the device computes meanwhile; it waits only where
    MOST_COPIES are under way. The backward pass waits for each copy back. Parameters stay, as they are in memory
    anyway, and so does what is not on the device or has a number at several places. ``tensors`` and ``bytes`` are what
    was copied to the host so far. ``seen`` is called with each tensor that autograd saves, in place of hooks that are
    outside of these.
    """

    def __init__(self, device: torch.device, keeps_strides: bool = False) -> None:
        """Take the device that computes.

        ``keeps_strides``: what comes back has the strides that it had, as compiled code expects, even if it was a part
        of a larger tensor and then takes as much memory.
        """
        self._device, self._keeps_strides = device, keeps_strides
        self._module: Any = None if device.type == "cpu" else torch.get_device_module(device)
        self._stream: Any = self._module.Stream(device) if self._module else None
        self._copies: deque[tuple[Tensor, Any]] = deque()  # with the event at the end of each
        self.tensors = self.bytes = 0
        self.seen: Callable[[Tensor], object] = lambda tensor: None

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a forward pass whose activations wait on the host."""
        return saved_tensors_hooks(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> Tensor | Moved:
        self.seen(tensor)
        size = tensor.numel() * tensor.element_size()
        if size < LEAST_BYTES or tensor.device != self._device or _is_parameter(tensor) or 0 in tensor.stride():
            return tensor
        self.tensors += 1
        self.bytes += size
        # A part of a larger tensor is made dense first: otherwise it would be copied by way of pageable memory.
        source = tensor.detach() if _is_dense(tensor) else tensor.detach().contiguous()
        if self._stream is None:
            return Moved(source.clone(), tensor.stride(), None)
        return Moved(*self._copied(source, tensor.stride()))

    def _copied(self, source: Tensor, stride: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...], Any]:
        """Begin to copy to the host; the source is kept until the device has waited for an earlier copy."""
        host = torch.empty_like(source, device="cpu", pin_memory=True)
        now, there = self._module.current_stream(self._device), self._module.Event()
        self._stream.wait_stream(now)
        with self._module.stream(self._stream):
            host.copy_(source, non_blocking=True)
            there.record(self._stream)
        self._copies.append((source, there))
        while len(self._copies) > MOST_COPIES:
            now.wait_event(self._copies.popleft()[1])
        return host, stride, there

    def _unpack(self, packed: Tensor | Moved) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        if self._module:
            now = self._module.current_stream(self._device)
            while self._copies:  # the forward pass is over
                now.wait_event(self._copies.popleft()[1])
            now.wait_event(packed.there)
        back = packed.host.to(self._device, non_blocking=True)
        if not self._keeps_strides or back.stride() == packed.stride:
            return back
        placed = torch.empty_strided(back.size(), packed.stride, dtype=back.dtype, device=self._device)
        return placed.copy_(back)


def _is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


def _is_dense(tensor: Tensor) -> bool:
    """Return whether its numbers lie side by side in memory, in any order: then a copy has the same strides."""
    return torch.empty_like(tensor, device="meta").stride() == tensor.stride()
