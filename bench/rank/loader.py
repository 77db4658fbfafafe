"""Batches for a rank. However a global batch is split over ranks, step s trains on the same samples."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bench.plan.case import Case
from bench.rank.resident import Resident
from launch.orphans import die_with_parent
from workloads.base import Batch
from workloads.batches import collate, map_tensors

DEATH_SECONDS = 0.5


@dataclass
class Batches:
    """An endless iterator of batches. ``steps_per_epoch`` is None if there are no epochs."""

    iterator: Generator[Batch, None, None]
    steps_per_epoch: int | None
    queued: int  # batches that the loader may prefetch
    workers: list[BaseProcess] = field(default_factory=list)  # of the current epoch
    resident: Resident | None = None

    def __next__(self) -> Batch:
        try:
            return next(self.iterator)
        except Exception as error:  # the death of a worker raises different errors, by what its rank did just then
            raise (_killed_worker(self.workers) or error) from None

    def close(self) -> None:
        """End the DataLoader's workers."""
        self.iterator.close()


class GlobalBatches(Sampler[list[int]]):
    """This rank's slice of every global batch of an epoch.

    An epoch is a permutation of all samples, drawn from (seed, epoch) and so the same on every rank; an incomplete last
    batch is dropped. Global batch s holds positions ``[s G, (s + 1) G)`` of the permutation. Rank r takes the r-th
    share of it in ``grad_accum_steps`` micro-batches, which iteration yields one after the other.
    """

    def __init__(self, length: int, case: Case, rank: int) -> None:
        assert case.rank_batch is not None
        assert case.global_batch is not None
        self.length, self.seed, self.rank, self.epoch = length, case.seed or 0, rank, 0
        self.micro_batch, self.micro_batches = case.rank_batch, case.micro_batches
        self.global_batch = case.global_batch
        self.steps = length // case.global_batch

    def __len__(self) -> int:
        return self.steps * self.micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        for step in range(self.steps):
            start = step * self.global_batch + self.rank * self.micro_batch * self.micro_batches
            for micro in range(self.micro_batches):
                first = start + micro * self.micro_batch
                yield order[first : first + self.micro_batch].tolist()


def batches(
    dataset: Dataset[Any], case: Case, device: torch.device, collate_fn: Callable[[Sequence[Any]], Batch] = collate
) -> Batches:
    """Return the micro-batches of this rank, on the host. Those of ``resident`` data are repeated on the device."""
    rank, length = int(os.environ.get("RANK", 0)), len(dataset)  # type: ignore[arg-type]
    assert case.rank_batch is not None
    if case.data_kind == "resident":
        size, first = case.rank_batch, rank * case.rank_batch * case.micro_batches
        starts = range(first, first + size * case.micro_batches, size)

        def make() -> list[Batch]:
            made = [collate_fn([dataset[i % length] for i in range(start, start + size)]) for start in starts]
            return [to_device(batch, case, device) for batch in made]

        resident = Resident(make)
        return Batches(iter(resident), None, 0, resident=resident)
    sampler = GlobalBatches(length, case, rank)
    if not sampler.steps:
        raise ValueError(
            f"{sampler.length} samples do not fill one global batch of {sampler.global_batch}; "
            "give a smaller --batch-size or --grad-accum-steps, fewer --gpus or more data"
        )
    assert case.num_workers is not None
    options: dict[str, Any] = {}
    if case.num_workers:
        options = {
            "prefetch_factor": case.prefetch_factor,
            "persistent_workers": case.persistent_workers,
            "multiprocessing_context": "fork",
            "worker_init_fn": _end_with_rank,
        }
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=case.num_workers,
        pin_memory=bool(case.pin_memory),
        collate_fn=collate_fn,
        **options,
    )
    workers: list[BaseProcess] = []
    queued = case.num_workers * (case.prefetch_factor or 0)
    return Batches(_epochs(loader, sampler, workers), sampler.steps, queued, workers)


def _end_with_rank(_: int) -> None:
    """End a DataLoader worker when its rank ends.

    A worker keeps its rank's GPU open. By itself it would look for the rank every 5 s only, and the next launch would
    lack the memory of a failed rank.
    """
    die_with_parent()


def to_device(batch: Batch, case: Case, device: torch.device) -> Batch:
    """Return the batch on the device, under ``bf16`` in bfloat16, and images in NHWC if the case says so."""

    def placed(tensor: Tensor) -> Tensor:
        there = tensor.to(device, non_blocking=True)
        if case.precision == "bf16" and there.is_floating_point():
            there = there.to(torch.bfloat16)
        if case.channels_last and there.dim() == 4:
            there = there.contiguous(memory_format=torch.channels_last)
        return there

    return map_tensors(placed, batch)


def _killed_worker(workers: Sequence[BaseProcess]) -> RuntimeError | None:
    """Return an error for the first worker that was killed, in PyTorch's words."""
    ending = wait([worker.sentinel for worker in workers], DEATH_SECONDS)
    for worker in (worker for worker in workers if worker.sentinel in ending):
        worker.join()  # its pipes close shortly before it ends
        if (code := worker.exitcode) and code < 0 and code != -signal.SIGTERM:
            return RuntimeError(f"DataLoader worker (pid {worker.pid}) is killed by signal: {signal.strsignal(-code)}.")
    return None


def _epochs(
    loader: DataLoader[Any], sampler: GlobalBatches, workers: list[BaseProcess]
) -> Generator[Batch, None, None]:
    while True:
        iterator = iter(loader)
        workers[:] = getattr(iterator, "_workers", [])
        yield from iterator
        sampler.epoch += 1
