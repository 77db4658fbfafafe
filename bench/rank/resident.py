"""Resident data: the same batches in each step, also if the model changes them in place."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from torch import Tensor

from bench.rank.checksum import checksum
from workloads.base import Batch
from workloads.batches import tensors_of


class Resident:
    """The micro-batches of one step, made once and repeated forever.

    A model that writes into its batch (``x.div_(255)``) would train on different data in each step, and in the end on
    zeros. Once such a write is found, the batches are made again, and ``copies`` is true: from then on each step must
    get a copy. The version of a tensor shows a write before the next batch is handed out; ``check`` also finds writes
    that do not change it, through ``x.data`` or NumPy views.
    """

    def __init__(self, make: Callable[[], Sequence[Batch]]) -> None:
        self._make = make
        self.copies = self._copies_before = False
        self._batches = make()
        self._versions = [_versions(batch) for batch in self._batches]
        self._checksums = self._sums()

    def __iter__(self) -> Generator[Batch, None, None]:
        while True:
            for number in range(len(self._batches)):
                yield self._batches[number]
                if not self.copies and _versions(self._batches[number]) != self._versions[number]:
                    self._restore()

    def check(self) -> None:
        """Compare all bits with the original ones; restore the batches if they differ."""
        if not self._as_made():
            self._restore()

    def begin_window(self) -> None:
        """Note whether copies were needed before the window."""
        self._copies_before = self.copies

    def condition(self) -> str:
        """Return the state of the data after the window, one of BATCH."""
        if self.copies:
            return "copied" if self._copies_before else "copied in the window"
        return "as made" if self._as_made() else "changed"

    def _as_made(self) -> bool:
        return self._sums() == self._checksums

    def _restore(self) -> None:
        self._batches, self.copies = self._make(), True

    def _sums(self) -> list[list[int]]:
        return [[checksum(tensor) for tensor in _plain(batch)] for batch in self._batches]


def _versions(batch: Batch) -> list[tuple[int, tuple[int, ...]]]:
    """Return how often each tensor was written to, and its shape, which ``unsqueeze_`` changes."""
    return [(tensor._version, tensor.shape) for tensor in _plain(batch)]


def _plain(batch: Batch) -> Iterator[Tensor]:
    """Yield the tensors of a batch; for nested and sparse ones those that hold their numbers and places."""
    for tensor in tensors_of(batch):
        if tensor.layout is torch.jagged:
            yield from (tensor.values(), tensor.offsets())  # type: ignore[attr-defined]
        elif tensor.is_nested:
            yield from tensor.unbind()
        elif tensor.layout is torch.sparse_coo:
            yield from (tensor._indices(), tensor._values())
        elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
            yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
        elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
            yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
        else:
            yield tensor
