"""Activations wait for the backward pass in the memory of the host, and not in that of the device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

LEAST_BYTES = 1024  # A smaller tensor costs more time to copy than it saves memory.


class Moved(NamedTuple):
    """An activation on the host, and its strides on the device, which compiled code relies on."""

    host: Tensor
    stride: tuple[int, ...]


class ActivationOffload:
    """Copies what autograd saves to page-locked memory, and back when the backward pass needs it.

    Both happen on a stream of their own, so that the device computes meanwhile; the backward pass waits for each copy.
    Parameters stay, as they are in memory anyway, and so does what is not on the device or has a number at several
    places. ``tensors`` and ``bytes`` are what was copied to the host so far. ``seen`` is called with each tensor that
    autograd saves, in place of hooks that are outside of these.
    """

    def __init__(self, device: torch.device) -> None:
        """Take the device that computes."""
        self._device = device
        self._module: Any = None if device.type == "cpu" else torch.get_device_module(device)
        self._stream = self._module.Stream(device) if self._module else None
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
        if self._stream is None:
            return Moved(tensor.detach().clone(), tensor.stride())
        host = torch.empty_like(tensor, device="cpu", pin_memory=True)
        self._stream.wait_stream(self._module.current_stream(self._device))
        with self._module.stream(self._stream):
            host.copy_(tensor.detach(), non_blocking=True)
        tensor.record_stream(self._stream)  # Its memory is not used again before it is copied.
        return Moved(host, tensor.stride())

    def _unpack(self, packed: Tensor | Moved) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        if self._stream is None:
            return self._on_device(packed)
        with self._module.stream(self._stream):  # after the copy to the host
            tensor = self._on_device(packed)
        now = self._module.current_stream(self._device)
        now.wait_stream(self._stream)
        tensor.record_stream(now)
        return tensor

    def _on_device(self, moved: Moved) -> Tensor:
        host = moved.host
        tensor = torch.empty_strided(host.size(), moved.stride, dtype=host.dtype, device=self._device)
        return tensor.copy_(host, non_blocking=True)


def _is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)
