"""Batches for a rank. However a global batch is split over ranks, step s trains on the same samples."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler

from bench.plan.case import Case
from bench.rank.resident import Resident
from bench.rank.streams import Shard, endless
from launch.orphans import die_with_parent
from workloads.base import Batch
from workloads.batches import map_tensors
from workloads.checks import Checked

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


def batches(workload: Checked, data: str, case: Case, device: torch.device) -> Batches:
    """Return the micro-batches of this rank, on the host. Those of ``resident`` data are repeated on the device.

    Ranks that have parts of one model get the same: ``rank`` is the position among those with different samples.
    """
    ranks = case.data_ranks
    rank = int(os.environ.get("RANK", 0)) // case.tensor_ranks % ranks
    assert case.rank_batch is not None
    if workload.has_loader:
        return _of_stream(lambda: workload.loader(rank, ranks, case.rank_batch), case, device)
    dataset = workload.samples(data)
    if isinstance(dataset, IterableDataset):
        shard = Shard(dataset, rank, ranks)
        return _of_stream(lambda: _loader(shard, case, workload, batch_size=case.rank_batch), case, device)
    if case.data_kind == "resident":
        return _resident(lambda: _first_batches(dataset, case, rank, workload), case, device)
    sampler = GlobalBatches(len(dataset), case, rank)  # type: ignore[arg-type]
    if not sampler.steps:
        raise ValueError(
            f"{sampler.length} samples do not fill one global batch of {sampler.global_batch}; "
            "give a smaller --batch-size or --grad-accum-steps, fewer --gpus or more data"
        )
    loader = _loader(dataset, case, workload, sampler=sampler)
    workers: list[BaseProcess] = []
    return Batches(_epochs(loader, sampler, workers), sampler.steps, _queued(loader), workers)


def _of_stream(open_: Callable[[], Iterable[Batch]], case: Case, device: torch.device) -> Batches:
    """Return the batches of a source that decides on their order itself."""
    began: list[Any] = []
    if case.data_kind == "resident":
        return _resident(lambda: list(itertools.islice(endless(open_(), began), case.micro_batches)), case, device)
    source = open_()
    workers: list[BaseProcess] = []

    def iterate() -> Generator[Batch, None, None]:
        for batch in endless(source, began):
            workers[:] = getattr(began[-1], "_workers", [])
            yield batch

    return Batches(iterate(), None, _queued(source), workers)


def _resident(make: Callable[[], Sequence[Batch]], case: Case, device: torch.device) -> Batches:
    resident = Resident(lambda: [to_device(batch, case, device) for batch in make()])
    return Batches(iter(resident), None, 0, resident=resident)


def _first_batches(dataset: Any, case: Case, rank: int, workload: Checked) -> list[Batch]:
    """Return this rank's share of the first samples, which are repeated if there are fewer."""
    assert case.rank_batch is not None
    size, length = case.rank_batch, len(dataset)
    first = rank * size * case.micro_batches
    starts = range(first, first + size * case.micro_batches, size)
    return [workload.collate_fn([dataset[i % length] for i in range(start, start + size)]) for start in starts]


def _loader(
    dataset: Any, case: Case, workload: Checked, sampler: GlobalBatches | None = None, batch_size: int | None = None
) -> DataLoader[Any]:
    options: dict[str, Any] = {"batch_sampler": sampler} if sampler else {"batch_size": batch_size, "drop_last": True}
    if case.num_workers:
        options |= {
            "prefetch_factor": case.prefetch_factor,
            "persistent_workers": case.persistent_workers,
            "multiprocessing_context": "fork",
            "worker_init_fn": _end_with_rank,
        }
    return DataLoader(
        dataset,
        num_workers=case.num_workers or 0,
        pin_memory=bool(case.pin_memory),
        collate_fn=workload.collate_fn,
        **options,
    )


def _queued(source: Any) -> int:
    """Return how many batches a loader may hold."""
    return int(getattr(source, "num_workers", 0) or 0) * int(getattr(source, "prefetch_factor", 0) or 0)


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
