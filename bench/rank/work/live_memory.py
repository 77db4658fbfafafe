"""Follows the storages of tensors from their first use to their release, to know how many bytes live at once."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.rank.distributed_tensors import local_of
from bench.rank.replaced import replaced


@dataclass
class _Live:
    storage: weakref.ref[torch.UntypedStorage]
    size: int
    made: bool  # by an operation


class LiveMemory:
    """``now`` and ``peak`` are bytes of all storages that were seen and live, each once."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._live: dict[
            int, _Live
        ] = {}  # by identity; a storage that is gone is removed, as another may get its place

    def see(self, tensors: Iterable[Tensor], made: bool = False) -> list[int]:
        """Count the storages of these tensors, and return the sizes of those that are new.

        ``made``: an operation has just made those that are new.
        """
        sizes = []
        for tensor in tensors:
            if (storage := storage_of(tensor)) is not None and id(storage) not in self._live:
                key, size = id(storage), storage.nbytes()
                self._live[key] = _Live(weakref.ref(storage, functools.partial(self._gone, key)), size, made)
                self._add(size)
                sizes.append(size)
        return sizes

    def made_without(self, tensors: Iterable[Tensor]) -> int:
        """Return the bytes of the storages that operations have made and that live, without those of some tensors."""
        others = {id(storage) for tensor in tensors if (storage := storage_of(tensor)) is not None}
        return sum(one.size for key, one in self._live.items() if one.made and key not in others)

    @contextlib.contextmanager
    def following_sizes(self) -> Iterator[None]:
        """Notice storages that change their size, as those of FSDP's gathered parameters do."""

        def noting(resize: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(resize)
            def resized(storage: torch.UntypedStorage, size: int) -> Any:
                result = resize(storage, size)
                if (known := self._live.get(id(storage))) is not None:
                    self._add(storage.nbytes() - known.size)
                    known.size = storage.nbytes()
                return result

            return resized

        with replaced(torch.UntypedStorage, "resize_", noting):
            yield

    def _add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, _: object) -> None:
        self.now -= self._live.pop(key).size


def storage_of(tensor: Tensor) -> torch.UntypedStorage | None:
    """Return the memory that a tensor has in this rank; None for one that has none of its own, as a sparse tensor."""
    try:
        return local_of(tensor).untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None
