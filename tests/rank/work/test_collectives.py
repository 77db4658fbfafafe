"""Collectives: their messages, and what a rank sends for them by the ring algorithm."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from bench.messages.counts import CountLine
from bench.rank.flops import counting
from bench.rank.work import collectives as module
from bench.rank.work.collectives import Collectives
from bench.rank.work.live_memory import LiveMemory
from bench.rank.work.operations import Operations


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def lines(run: Callable[[Tensor], object]) -> list[CountLine]:
    """What is counted of collectives of one rank, each with a message of 40 bytes."""
    counter = Collectives()
    operations = Operations(LiveMemory(), counter)
    operations.part = "backward"
    with counting(operations):
        run(torch.ones(10))
    assert (operations.failed, counter.unknown) == ("", {})
    return list(counter.lines())


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (dist.all_reduce, "all-reduce ×1"),
        (lambda x: dist.all_gather([torch.empty(10)], x), "all-gather ×1"),
        (lambda x: dist.all_gather_into_tensor(torch.empty(10), x), "all-gather ×1"),
        (lambda x: dist.reduce_scatter_tensor(torch.empty(10), x), "reduce-scatter ×1"),
        (lambda x: dist.broadcast(x, 0), "broadcast ×1"),
        (lambda x: dist.reduce(x, 0), "reduce ×1"),
        (lambda x: dist.gather(x, [torch.empty(10)]), "gather ×1"),
        (lambda x: dist.scatter(torch.empty(10), [x]), "scatter ×1"),
        (lambda x: dist.all_to_all_single(torch.empty(10), x), "all-to-all ×1"),
    ],
)
def test_each_kind_is_seen_with_its_message(alone: None, run: Callable[[Tensor], object], name: str) -> None:
    [line] = lines(run)
    assert (line.part, line.kind, line.name, line.type) == ("backward", "collective", name, "float32")
    assert (line.calls, line.bytes) == (1, 40)


def test_a_barrier_has_no_message(alone: None) -> None:
    [line] = lines(lambda _: dist.barrier())
    assert (line.name, line.type, line.bytes, line.wire_bytes) == ("barrier ×1", "", 0, 0)


@pytest.mark.parametrize(
    ("kind", "of_four"),
    [
        (module.ALL_REDUCE, 1.5),  # a reduce-scatter and an all-gather, each of 3 parts of 4
        (module.ALL_GATHER, 0.75),
        (module.REDUCE_SCATTER, 0.75),
        (module.ALL_TO_ALL, 0.75),
        (module.BROADCAST, 1.0),
        (module.SEND, 1.0),
        (module.RECEIVE, 0.0),
    ],
)
def test_what_a_rank_of_four_sends(kind: module.Kind, of_four: float) -> None:
    assert kind.wire(4) == of_four


def in_late_thread(store: dist.Store, started: threading.Event) -> None:
    group = dist.ProcessGroupGloo(store, 1, 2)
    started.wait(60)
    time.sleep(0.2)  # else the collective might be done before rank 0 asks for its future
    group.allreduce([torch.ones(10)]).wait()


@pytest.mark.parametrize("waits", [True, False])
def test_what_follows_a_collective_is_counted(waits: bool) -> None:
    store, started = dist.HashStore(), threading.Event()
    other = threading.Thread(target=in_late_thread, args=(store, started))
    other.start()
    group = dist.ProcessGroupGloo(store, 0, 2)
    target, operations = torch.zeros(10), Operations(LiveMemory(), Collectives())
    with counting(operations), module.futures_of_done_work() if waits else contextlib.nullcontext():
        if waits:
            started.set()
        future = group.allreduce([torch.ones(10)]).get_future()
        after = future.then(lambda done: target.copy_(done.value()[0]))
        started.set()
        after.wait()
    other.join()
    assert target.tolist() == [2.0] * 10
    counted = {name: count.calls for (name, _), count in operations.parts[""].operations.items()}
    assert counted.get("copy_", 0) == (1 if waits else 0)
