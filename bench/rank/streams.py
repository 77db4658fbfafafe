"""Data without an order that bench decides on: iterable datasets, and loaders of a workload's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info


class Shard(IterableDataset[Any]):
    """The items of a stream that are this rank's, and in a DataLoader's worker this worker's: every N-th one."""

    def __init__(self, stream: Iterable[Any], rank: int, ranks: int) -> None:
        self.stream, self.rank, self.ranks = stream, rank, ranks

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        position, step = self.rank * workers + own, self.ranks * workers
        for number, item in enumerate(self.stream):
            if number % step == position:
                yield item


def endless(source: Iterable[Any], began: list[Any]) -> Iterator[Any]:
    """Yield what a source has, again from its start whenever it ends; ValueError if it has nothing.

    So a rank whose data ends earlier than that of others begins its next epoch, and nobody waits for it. ``began`` gets
    each iterator when it has begun.
    """
    while True:
        iterator = iter(source)
        began.append(iterator)
        empty = True
        for one in iterator:
            empty = False
            yield one
        if empty:
            raise ValueError("the data has no batch: give more data, or a smaller --batch-size")
