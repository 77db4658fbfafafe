"""Streams: which items a rank and its workers get, and how they go on after their end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from made_up_plans import case
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from bench.rank.describe import describe
from bench.rank.loader import batches
from bench.rank.streams import Shard, endless
from workloads.checks import Checked, WorkloadError
from workloads.mlp import MLP


class Numbers(IterableDataset[Tensor]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.arange(self.length))


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (2, 0), (3, 0), (2, 1), (2, 2), (1, 3)])
def test_every_item_goes_to_one_rank_and_one_worker(ranks: int, workers: int) -> None:
    found = [
        [int(item) for item in DataLoader(Shard(Numbers(23), rank, ranks), batch_size=None, num_workers=workers)]
        for rank in range(ranks)
    ]
    assert sorted(item for each in found for item in each) == list(range(23))
    assert max(map(len, found)) - min(map(len, found)) <= max(workers, 1)


def test_a_source_that_ends_begins_again() -> None:
    began: list[Any] = []
    source = endless([1, 2, 3], began)
    assert [next(source) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]
    assert len(began) == 3
    with pytest.raises(ValueError, match="the data has no batch"):
        next(endless([], began))


def workload(**members: Any) -> Checked:
    return Checked("mine.py:Net", type("Net", (MLP,), members)())


def numbers(source: Any, count: int) -> list[list[int]]:
    return [next(source).flatten().tolist() for _ in range(count)]


@pytest.mark.parametrize("rank", [0, 1])
def test_batches_of_a_stream_are_full_and_ranks_do_not_wait(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """11 items: rank 0 has 6 and rank 1 has 5, of which the last ones fill no batch of 2."""
    monkeypatch.setenv("RANK", str(rank))
    stream = workload(samples=lambda self, data: Numbers(11), collate_fn=lambda self, items: torch.stack(items))
    found = batches(stream, "synthetic", case(batch_size=2, data="synthetic", num_workers=0), torch.device("cpu"))
    expected = {0: [[0, 2], [4, 6], [8, 10], [0, 2]], 1: [[1, 3], [5, 7], [1, 3], [5, 7]]}
    assert numbers(found, 4) == expected[rank]
    assert found.steps_per_epoch is None


def test_a_loader_of_the_workloads_own_is_asked_for_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    own = workload(loader=lambda self, rank, world, size: [torch.full((size,), rank * 10 + world)] * 3)
    streamed = case(batch_size=2, data="synthetic", num_workers=None)
    assert numbers(batches(own, "synthetic", streamed, torch.device("cpu")), 2) == [[12, 12], [12, 12]]
    resident = batches(own, "resident", case(batch_size=2, grad_accum_steps=2), torch.device("cpu"))
    assert numbers(resident, 3) == [[12, 12]] * 3
    assert resident.resident is not None


@pytest.mark.parametrize("given", [None, "x", iter([1]), torch.ones(3), 7])
def test_what_is_no_loader_is_refused(given: Any) -> None:
    with pytest.raises(WorkloadError, match=r"mine.py:Net: loader\(\) returned"):
        workload(loader=lambda self, rank, world, size: given).loader(0, 1, 2)


def test_a_workload_with_a_loader_needs_no_samples() -> None:
    members = {name: getattr(MLP, name) for name in ("unit", "batch_size", "build", "loss", "layers", "__init__")}
    members["loader"] = lambda self, rank, world, size: [(torch.randn(size, 256), torch.zeros(size).long())]
    own = Checked("mine.py:Net", type("Net", (), members)())
    said = describe(own, "none", "resident", 8)
    assert said.own_loader
    assert said.flops_per_sample == describe(Checked("mlp", MLP()), "none", "resident", 8).flops_per_sample
