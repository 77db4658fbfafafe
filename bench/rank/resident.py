"""Resident data: the same batches again and again, also where the model changes them in place."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from bench.rank.checksum import checksum
from workloads.base import Batch


class Resident:
    """The micro-batches of one step, made once and handed out for ever.

    A model that writes into its batch (``x.div_(255)``) would train on something else in each step, and on zeros in the
    end. Once that is seen, the batches are made anew, and ``copies`` says that from then on each step must be handed a
    copy. A tensor's version tells it before the next batch is handed out; ``look`` finds what goes round that, as
    ``x.data`` and NumPy's views do.
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

    def look(self) -> None:
        """Compare all bits with those that were made."""
        if not self._as_made():
            self._restore()

    def window_begins(self) -> None:
        self._copies_before = self.copies

    def became(self) -> str:
        """Return which of BATCH the data is, after the window."""
        if self.copies:
            return "copied" if self._copies_before else "copied in the window"
        return "as made" if self._as_made() else "changed"

    def _as_made(self) -> bool:
        return self._sums() == self._checksums

    def _restore(self) -> None:
        self._batches, self.copies = self._make(), True

    def _sums(self) -> list[list[int]]:
        return [[checksum(tensor) for tensor in batch] for batch in self._batches]


def _versions(batch: Batch) -> list[tuple[int, tuple[int, ...]]]:
    """How often each tensor was written to, and its shape, which ``unsqueeze_`` changes."""
    return [(tensor._version, tensor.shape) for tensor in batch]
