"""Notes which tensors autograd saves for the backward pass, by the layer that computes them."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from bench.rank.work.live_memory import storage_of


class SavedActivations:
    """``bytes`` by the name of a layer, "" outside of all layers; each storage counts once, where it was saved first.

    Parameters and the batch are no activations: they are in memory anyway. ``on`` says whether the forward pass runs.
    """

    def __init__(self, layers: Mapping[nn.Module, str], buffers: Iterable[Tensor]) -> None:
        """Take the layers with their names."""
        self._names = {id(layer): name for layer, name in layers.items()}
        self._inside: list[str] = []
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}  # storages that count already, or never do
        self.bytes: dict[str, int] = {}
        self.on = False
        self.leave_out(buffers)

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Never count the storages of these tensors."""
        for tensor in tensors:
            self._is_new(tensor)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Note all tensors that are saved inside of this context."""

        def enter(module: nn.Module, *_: object) -> None:
            self.leave_out(module.parameters(recurse=False))
            if id(module) in self._names:
                self._inside.append(self._names[id(module)])

        def leave(module: nn.Module, *_: object) -> None:
            if id(module) in self._names:
                self._inside.pop()

        with contextlib.ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(enter).remove)
            stack.callback(register_module_forward_hook(leave, always_call=True).remove)
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self.note, lambda tensor: tensor))
            yield

    def note(self, tensor: Tensor) -> Tensor:
        """Note a tensor that autograd saves, and return it."""
        parameter = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)
        if self.on and not parameter and self._is_new(tensor):
            layer = self._inside[-1] if self._inside else ""
            storage = storage_of(tensor)
            assert storage is not None
            self.bytes[layer] = self.bytes.get(layer, 0) + storage.nbytes()
        return tensor

    def _is_new(self, tensor: Tensor) -> bool:
        """Remember the storage of a tensor for as long as it lives, and return whether it was not known."""
        storage = storage_of(tensor)
        if storage is None or id(storage) in self._known:
            return False
        self._known[id(storage)] = weakref.ref(storage, functools.partial(self._forget, id(storage)))
        return True

    def _forget(self, key: int, _: object) -> None:
        self._known.pop(key, None)
