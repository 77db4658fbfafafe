"""Batches for a rank. However a global batch is split over ranks, step s trains on the same samples."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from bench.case import Case
from workloads.base import Batch


@dataclass
class Batches:
    """An endless iterator of batches. ``steps_per_epoch`` is None where there are no epochs."""

    iterator: Generator[Batch, None, None]
    steps_per_epoch: int | None
    queued: int  # batches that the loader may hold ready when nobody takes any

    def __next__(self) -> Batch:
        return next(self.iterator)

    def close(self) -> None:
        """End the DataLoader's workers."""
        self.iterator.close()


class GlobalBatches(Sampler[list[int]]):
    """This rank's slice of every global batch of an epoch.

    An epoch is a permutation of all samples, drawn from (seed, epoch) and so the same on every rank; the ragged tail
    is dropped. Global batch s holds places ``[s G, (s + 1) G)`` of it, rank r the r-th ``batch_size`` of those.
    """

    def __init__(self, length: int, case: Case, rank: int) -> None:
        assert case.batch_size is not None
        assert case.global_batch is not None
        self.length, self.seed, self.rank, self.epoch = length, case.seed, rank, 0
        self.batch_size, self.global_batch = case.batch_size, case.global_batch

    def __len__(self) -> int:
        return self.length // self.global_batch

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        for step in range(len(self)):
            start = step * self.global_batch + self.rank * self.batch_size
            yield order[start : start + self.batch_size].tolist()


def batches(dataset: Dataset[Any], case: Case, device: torch.device) -> Batches:
    """The batches of this rank, on the host, or for ``resident`` one batch on the device for ever."""
    rank, length = int(os.environ.get("RANK", 0)), len(dataset)  # type: ignore[arg-type]
    assert case.batch_size is not None
    if case.data_kind == "resident":
        first = [dataset[i % length] for i in range(rank * case.batch_size, (rank + 1) * case.batch_size)]
        return Batches(_repeat([tensor.to(device) for tensor in default_collate(first)]), None, 0)
    sampler = GlobalBatches(length, case, rank)
    if not len(sampler):
        raise ValueError(
            f"{sampler.length} samples do not fill one global batch of {sampler.global_batch}; "
            "give a smaller --batch-size, fewer --gpus or more data"
        )
    assert case.num_workers is not None
    options: dict[str, Any] = {}
    if case.num_workers:
        options = {
            "prefetch_factor": case.prefetch_factor,
            "persistent_workers": case.persistent_workers,
            "multiprocessing_context": "fork",
        }
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=case.num_workers, pin_memory=bool(case.pin_memory), **options
    )
    return Batches(_epochs(loader, sampler), len(sampler), case.num_workers * (case.prefetch_factor or 0))


def _repeat(batch: Batch) -> Generator[Batch, None, None]:
    while True:
        yield batch


def _epochs(loader: DataLoader[Any], sampler: GlobalBatches) -> Generator[Batch, None, None]:
    while True:
        yield from loader
        sampler.epoch += 1
