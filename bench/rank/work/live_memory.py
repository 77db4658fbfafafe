"""Follows the storages of tensors from their first use to their release, to know how many bytes live at once."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from bench.rank.replaced import replaced


class LiveMemory:
    """``now`` and ``peak`` are bytes of all storages that were seen and live, each once."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._live: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}

    def see(self, tensors: Iterable[Tensor]) -> set[int]:
        """Count the storages of these tensors, and return the keys of those that are new."""
        new = set()
        for tensor in tensors:
            if (storage := storage_of(tensor)) is not None and id(storage) not in self._live:
                key, size = id(storage), storage.nbytes()
                self._live[key] = weakref.ref(storage, functools.partial(self._gone, key)), size
                self._add(size)
                new.add(key)
        return new

    def keys(self, tensors: Iterable[Tensor]) -> set[int]:
        """Return the keys of the storages of tensors."""
        return {id(storage) for tensor in tensors if (storage := storage_of(tensor)) is not None}

    def bytes_of(self, keys: Iterable[int]) -> int:
        """Return the bytes of those storages that still live."""
        return sum(self._live[key][1] for key in keys if key in self._live)

    @contextlib.contextmanager
    def following_sizes(self) -> Iterator[None]:
        """Notice storages that change their size, as those of FSDP's gathered parameters do."""

        def noting(resize: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(resize)
            def resized(storage: torch.UntypedStorage, size: int) -> Any:
                result = resize(storage, size)
                if (known := self._live.get(id(storage))) is not None:
                    self._live[id(storage)] = known[0], storage.nbytes()
                    self._add(storage.nbytes() - known[1])
                return result

            return resized

        with replaced(torch.UntypedStorage, "resize_", noting):
            yield

    def _add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, _: object) -> None:
        self.now -= self._live.pop(key)[1]


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """Return the memory of a tensor; None for one that has none of its own, as a sparse tensor."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None
