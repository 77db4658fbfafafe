"""The parts of a rank, run in this process: batches, clocks, warm-up."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fed_batches import fed
from made_up_plans import case
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import TensorDataset

from bench.messages.heartbeat import STAGE, Heartbeat
from bench.messages.rank_record import PARTS
from bench.messages.spec import Spec, Turns
from bench.plan.case import Case
from bench.rank.checkpointing import checkpoint_layers
from bench.rank.clock import AcceleratorClock, HostClock, by_part, by_step, marks_a_step, run_delay_ns
from bench.rank.loader import GlobalBatches
from bench.rank.measure import warmup_steps
from bench.rank.mesh import mesh_of
from bench.rank.parallelize import Way, parallelize
from bench.rank.recorded import failure_of, last_seconds
from bench.strategies import fsdp
from workloads.base import load

CPU = torch.device("cpu")


def split(ranks: int, length: int = 50, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    """Return the global batches of 12 samples, put together from the slices of all ranks."""
    spread = case(strategy="ddp", gpus=ranks, batch_size=12 // ranks, seed=seed)
    samplers = [GlobalBatches(length, spread, rank) for rank in range(ranks)]
    for sampler in samplers:
        sampler.epoch = epoch
    return [joined(slices) for slices in zip(*samplers, strict=True)]


def joined(lists: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def test_however_a_global_batch_is_split_each_step_sees_the_same_samples() -> None:
    whole = split(1)
    assert whole == split(2) == split(4)
    assert [len(batch) for batch in whole] == [12] * 4  # 50 samples: four batches, and an incomplete one of 2
    assert len({i for batch in whole for i in batch}) == 48


def accumulated(strategy: str, gpus: int, batch_size: int, micro_batches: int, epoch: int = 0) -> list[list[int]]:
    """Return the global batches of 50 samples: for each step every rank's micro-batches, one rank after the other."""
    spread = case(
        strategy=strategy, gpus=gpus, device="cuda", batch_size=batch_size, grad_accum_steps=micro_batches, seed=3
    )
    ranks = []
    for rank in range(spread.world_size):
        sampler = GlobalBatches(50, spread, rank)
        sampler.epoch = epoch
        given = list(sampler)
        assert len(given) == len(sampler) == sampler.steps * micro_batches
        assert {len(micro_batch) for micro_batch in given} == {batch_size * spread.devices // spread.world_size}
        ranks.append([joined(given[i : i + micro_batches]) for i in range(0, len(given), micro_batches)])
    return [joined(of_ranks) for of_ranks in zip(*ranks, strict=True)]


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize(
    ("strategy", "gpus", "batch_size", "micro_batches"),
    [
        # all make 12 samples a step
        *[("single", 1, 6, 2), ("single", 1, 1, 12)],
        *[("ddp", 2, 6, 1), ("ddp", 2, 2, 3), ("ddp", 3, 2, 2), ("ddp", 6, 1, 2), ("ddp:hook=fp16", 4, 1, 3)],
        *[("fsdp", 4, 3, 1), ("fsdp:replicate=2", 4, 1, 3)],
        *[("dp", 2, 6, 1), ("dp", 4, 3, 1), ("dp", 2, 3, 2), ("dp", 3, 1, 4), ("dp", 1, 4, 3)],
    ],
)
def test_however_a_step_is_split_into_ranks_devices_and_micro_batches_it_sees_the_same_samples(
    strategy: str, gpus: int, batch_size: int, micro_batches: int, epoch: int
) -> None:
    whole = accumulated("single", 1, 12, 1, epoch)
    assert [len(set(step)) for step in whole] == [12] * 4
    assert accumulated(strategy, gpus, batch_size, micro_batches, epoch) == whole


def in_order(length: int, generator: torch.Generator) -> torch.Tensor:
    return torch.arange(length)


@pytest.mark.parametrize(
    ("axes", "rank", "expected"),
    [
        # two ranks of three micro-batches of two: steps of 12, of which 25 samples hold two
        ({"strategy": "ddp", "gpus": 2}, 0, [[0, 1], [2, 3], [4, 5], [12, 13], [14, 15], [16, 17]]),
        ({"strategy": "ddp", "gpus": 2}, 1, [[6, 7], [8, 9], [10, 11], [18, 19], [20, 21], [22, 23]]),
        # two devices of one rank: four samples at once
        (
            {"strategy": "dp", "gpus": 2},
            0,
            [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]],
        ),
        # steps of 6
        ({"strategy": "single"}, 0, [[i, i + 1] for i in range(0, 24, 2)]),
    ],
)
def test_a_ranks_micro_batches_follow_each_other(
    monkeypatch: pytest.MonkeyPatch, axes: dict[str, object], rank: int, expected: list[list[int]]
) -> None:
    monkeypatch.setattr("torch.randperm", in_order)
    sampler = GlobalBatches(25, case(device="cuda", batch_size=2, grad_accum_steps=3, **axes), rank)
    assert list(sampler) == expected
    assert (sampler.steps, len(sampler)) == (len(expected) // 3, len(expected))


def test_the_order_depends_on_seed_and_epoch() -> None:
    assert split(2) != split(2, seed=1)
    assert split(2) != split(2, epoch=1)
    assert split(2, epoch=1) == split(4, epoch=1)


def test_epochs_follow_each_other_without_end() -> None:
    data = TensorDataset(torch.arange(10))
    feed = fed(data, case(batch_size=5, data="synthetic", num_workers=0, strategy="single"), torch.device("cpu"))
    assert feed.steps_per_epoch == 2
    seen = [next(feed)[0].tolist() for _ in range(5)]
    feed.close()
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == list(range(10))
    assert seen[:2] != seen[2:4]


def test_epochs_of_micro_batches_are_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.randperm", in_order)
    monkeypatch.setenv("RANK", "1")
    data = TensorDataset(torch.arange(11))  # two steps of 1 x 2 x 2, and three left over
    asked = case(batch_size=1, grad_accum_steps=2, gpus=2, data="synthetic", num_workers=0)
    feed = fed(data, asked, CPU)
    assert (feed.steps_per_epoch, feed.queued) == (2, 0)
    assert [next(feed)[0].tolist() for _ in range(6)] == [[2], [3], [6], [7], [2], [3]]
    feed.close()


@pytest.mark.parametrize(
    ("workers", "ahead", "queued"),
    [(0, None, 0), (1, 5, 5), (2, 3, 6)],
)
def test_micro_batches_that_the_loader_holds_ready(workers: int, ahead: int | None, queued: int) -> None:
    axes = {"num_workers": workers, "prefetch_factor": ahead, "grad_accum_steps": 2}
    feed = fed(TensorDataset(torch.arange(50)), case(batch_size=5, data="synthetic", **axes), CPU)
    assert (feed.steps_per_epoch, feed.queued) == (2, queued)  # 5 x 2 ranks x 2: of 50, two and a half


@pytest.mark.parametrize(
    ("axes", "rank", "expected"),
    [
        # the samples of one global batch, repeated if there are too few
        ({"gpus": 2, "batch_size": 2, "grad_accum_steps": 2}, 0, [[0, 1], [2, 3]]),
        ({"gpus": 2, "batch_size": 2, "grad_accum_steps": 2}, 1, [[4, 5], [6, 0]]),
        ({"strategy": "single", "batch_size": 2, "grad_accum_steps": 3}, 0, [[0, 1], [2, 3], [4, 5]]),
        ({"strategy": "dp", "gpus": 2, "batch_size": 2}, 0, [[0, 1, 2, 3]]),
        ({"strategy": "dp", "gpus": 2, "batch_size": 2, "grad_accum_steps": 2}, 0, [[0, 1, 2, 3], [4, 5, 6, 0]]),
    ],
)
def test_resident_data_are_the_micro_batches_of_one_step(
    monkeypatch: pytest.MonkeyPatch, axes: dict[str, object], rank: int, expected: list[list[int]]
) -> None:
    monkeypatch.setenv("RANK", str(rank))
    feed = fed(TensorDataset(torch.arange(7)), case(**axes, device="cuda"), CPU)
    first, second = [next(feed) for _ in expected], [next(feed) for _ in expected]
    assert [batch[0].tolist() for batch in first] == expected
    assert [again[0] is batch[0] for batch, again in zip(first, second, strict=True)] == [True] * len(expected)
    assert (feed.steps_per_epoch, feed.queued) == (None, 0)


def test_resident_data_is_the_first_samples_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    data = TensorDataset(torch.arange(5))
    feed = fed(data, case(batch_size=3, strategy="ddp", gpus=2), torch.device("cpu"))
    assert next(feed)[0].tolist() == [3, 4, 0]  # the second rank's three, repeated if there are too few
    assert next(feed)[0] is next(feed)[0]
    assert (feed.steps_per_epoch, feed.queued) == (None, 0)


def test_too_few_samples_for_a_global_batch_are_told() -> None:
    asked = case(batch_size=6, strategy="ddp", gpus=2, data="synthetic", num_workers=0)
    with pytest.raises(ValueError, match="10 samples do not fill one global batch of 12"):
        fed(TensorDataset(torch.arange(10)), asked, torch.device("cpu"))


def test_too_few_samples_for_the_micro_batches_of_a_step_are_told() -> None:
    asked = case(batch_size=3, strategy="ddp", gpus=2, grad_accum_steps=2, data="synthetic", num_workers=0)
    assert fed(TensorDataset(torch.arange(12)), asked, CPU).steps_per_epoch == 1
    with pytest.raises(ValueError, match="11 samples do not fill one global batch of 12; give a smaller --batch-size"):
        fed(TensorDataset(torch.arange(11)), asked, CPU)


@pytest.mark.parametrize(
    ("asked", "queued", "expected"),
    [
        (5, 0, (5, 2)),
        (0, 0, (3, 2)),  # never fewer than 3
        (5, 4, (6, 5)),  # 2 workers x 2 ahead: five after the pause, one before
        (20, 4, (20, 5)),
    ],
)
def test_warm_up_drains_the_queues_after_the_pause(asked: int, queued: int, expected: tuple[int, int]) -> None:
    assert warmup_steps(asked, queued) == expected


def test_marks_become_parts_and_steps() -> None:
    durations = [1, 2, 3, 4, 5, 10, 20, 30, 40, 50]
    assert by_part(durations) == {"data_wait": [1, 10], "copy": [2, 20], "forward": [3, 30], "backward": [4, 40], "optimizer": [5, 50]}  # fmt: skip
    assert by_step(durations) == [15, 150]
    assert list(by_part(durations)) == list(PARTS)


def test_marks_of_micro_batches_are_summed_and_the_optimizers_is_one_a_step() -> None:
    durations = [1, 2, 3, 4, 10, 20, 30, 40, 5, 100, 200, 300, 400, 1000, 2000, 3000, 4000, 500]
    assert by_part(durations, 2) == {
        "data_wait": [11, 1100],
        "copy": [22, 2200],
        "forward": [33, 3300],
        "backward": [44, 4400],
        "optimizer": [5, 500],
    }
    assert by_step(durations, 2) == [115, 11500]
    assert list(by_part(durations, 2)) == list(PARTS)


@pytest.mark.parametrize(("micro_batches", "marks"), [(1, 5), (2, 9), (3, 13), (10, 41)])
def test_a_step_has_four_marks_a_micro_batch_and_one_more(micro_batches: int, marks: int) -> None:
    assert marks_a_step(micro_batches) == marks
    ones = [1] * (3 * marks)
    assert by_step(ones, micro_batches) == [marks] * 3
    parts = by_part(ones, micro_batches)
    assert parts == {**dict.fromkeys(PARTS[:-1], [micro_batches] * 3), "optimizer": [1] * 3}
    assert by_part([], micro_batches) == {part: [] for part in PARTS}
    assert by_step([], micro_batches) == []
    with pytest.raises(AssertionError, match=f"{3 * marks - 1} marks do not fill steps of {marks} marks"):
        by_step(ones[1:], micro_batches)


def test_the_host_clock_is_a_chain_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100, 103, 110, 111])
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(ticks))
    clock = HostClock()
    clock.start()
    for _ in range(3):
        clock.mark()
    assert clock.parts_ns() == clock.host_ns() == [3, 7, 1]
    clock.close()
    assert (clock.window_ns(), clock.waited_ns()) == (11, 0)  # no reading after the last step's end


def test_the_cuda_clock_reads_the_devices_timeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host enqueues in 1 µs what the device takes milliseconds to run."""

    class Event:
        device_ms = iter([0.0, 0.5, 0.75, 4.75])

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(self.device_ms)

        def elapsed_time(self, end: Event) -> float:
            return end.at - self.at

    host_ns, delays_ns = iter([0, 1000, 2000, 3000, 5_275_000]), iter([7, 10, 500, 25_500])
    monkeypatch.setattr("torch.cuda.Event", Event)
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(host_ns))
    monkeypatch.setattr("bench.rank.clock.run_delay_ns", lambda: next(delays_ns))
    clock = AcceleratorClock(torch.device("cuda"))
    clock.start()
    for _ in range(3):
        clock.mark()
    assert clock.parts_ns() == [500_000, 250_000, 4_000_000]
    assert clock.host_ns() == [1000, 1000, 1000]
    clock.close()
    assert clock.window_ns() == 5_275_000
    assert clock.waited_ns() == 3 + 25_000  # at its start and at its end; a wait in between is part of a step


@pytest.mark.launch
def test_a_process_that_shares_a_processor_waits_for_it() -> None:
    """Two busy processes on one processor: each waits about as long as the other runs."""
    allowed = os.sched_getaffinity(0)
    processor = min(allowed)
    code = f"import os; os.sched_setaffinity(0, {{{processor}}})\nwhile True: pass"
    hog = subprocess.Popen([sys.executable, "-S", "-c", code])
    try:
        os.sched_setaffinity(0, {processor})
        waited, began, ran = run_delay_ns(), time.perf_counter_ns(), time.thread_time_ns()
        while time.perf_counter_ns() - began < 300_000_000:
            pass
        waited, ran = run_delay_ns() - waited, time.thread_time_ns() - ran
    finally:
        os.sched_setaffinity(0, allowed)
        hog.kill()
        hog.wait()
    assert waited == pytest.approx(300_000_000 - ran, abs=30_000_000)


class MuteError(Exception):
    def __str__(self) -> str:
        raise self.args[0]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("a\nb"), "crashed", "ValueError: a\nb"),
        (MuteError(TypeError("x")), "crashed", "MuteError (its text is unavailable: TypeError)"),
        (MuteError(SystemExit()), "crashed", "MuteError (its text is unavailable: SystemExit)"),
        (MuteError(RecursionError()), "crashed", "MuteError (its text is unavailable: RecursionError)"),
        (MemoryError(), "oom", "MemoryError: "),
        (
            type("NoRoomError", (MuteError, MemoryError), {})(MemoryError()),
            "oom",
            "NoRoomError (its text is unavailable: ",
        ),
        (RuntimeError("CUDA error: out of memory"), "oom", "RuntimeError: CUDA error: out of memory"),
    ],
)
def test_what_is_told_of_an_exception(error: BaseException, kind: str, message: str) -> None:
    failure = failure_of(error)
    assert failure.kind == kind
    assert failure.message.startswith(message)


def test_a_rank_ends_itself_long_after_its_time(tmp_path: Path) -> None:
    alone = Spec(case(), "net:Net", {}, "resident", 5, 30, 0.0, 600.5, str(tmp_path), str(tmp_path))
    assert last_seconds(alone) == 661
    in_turn = dataclasses.replace(alone, turns=Turns("127.0.0.1", 1, "A", 1, 0.1))
    assert last_seconds(in_turn) == 1261


def test_a_heartbeat_is_read_by_another_process(tmp_path: Path) -> None:
    assert Heartbeat.read(tmp_path, "launch", 0) is None
    beat = Heartbeat(tmp_path, "launch", 0)
    beat.beat(3, 35, 123456789)
    assert Heartbeat.read(tmp_path, "launch", 0) == (3, 35, 123456789, 0, 0, "starting")
    beat.enter(STAGE["backward"])
    beat.synced(2, 500)
    assert Heartbeat.read(tmp_path, "launch", 0) == (3, 35, 123456789, 2, 500, "backward")


@pytest.mark.parametrize(
    "axes",
    [
        {"strategy": "fsdp", "batch_size": 3},
        {"strategy": "fsdp:reshard=2:reduce=bf16", "gpus": 4, "max_grad_norm": 1.0, "env": "A= 'B=it'\"'\"'s é'"},
        {"device": "cuda", "strategy": "dp", "deterministic": True, "numa_binding": "node", "compile": "default"},
        {"workload": "net:Net", "channels_last": True, "grad_accum_steps": 2, "optimizer": "sgd"},
    ],
)
def test_a_case_travels_whole(tmp_path: Path, axes: dict[str, object]) -> None:
    there = case(**axes)
    assert Case(**json.loads(json.dumps(dataclasses.asdict(there)))) == there
    sent = Spec(there, "net:Net", {"depth": 3}, "resident", 5, 30, 0.0, 600.0, str(tmp_path), str(tmp_path / "scratch"))
    here = Spec.read(sent.write())
    assert here == sent
    assert here.case.case_id == there.case_id
    assert {name: type(value) for name, value in vars(here.case).items()} == {
        name: type(value) for name, value in vars(there).items()
    }


# -- strategies, as far as one process can see them ---------------------------------------------------------------


@pytest.fixture
def four_ranks() -> Iterator[None]:
    """Make this process rank 0 of four without the others.

    torch's fake process group has collectives that do nothing.
    """
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("four_ranks")
@pytest.mark.parametrize(
    ("strategy", "rows"),
    [
        ("fsdp", 64),  # 256 / 4 ranks
        ("fsdp:reshard=off:reduce=bf16", 64),
        ("fsdp:reshard=2", 64),
        ("fsdp:replicate=2", 128),  # 256 / 2: two replicas
    ],
)
def test_a_rank_holds_its_share_of_every_parameter(tmp_path: Path, strategy: str, rows: int) -> None:
    spread = case(strategy=strategy, gpus=4)
    workload = load(spread.spec.target, spread.spec.options)
    model = parallelize(Way(workload, spread, fsdp, CPU, mesh_of(spread, CPU), str(tmp_path))).model
    weight = next(model.parameters())
    assert tuple(weight.shape) == (256, 256)
    assert tuple(weight.to_local().shape) == (rows, 256)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["none", "full", "selective", "every=1"])
def test_a_replica_of_data_parallel_computes_with_its_own_parameters(mode: str) -> None:
    layer = nn.Linear(1, 1)
    checkpoint_layers([layer], mode)
    replica = layer._replicate_for_data_parallel()  # as nn.DataParallel makes one for each GPU
    replica.weight, replica.bias = torch.tensor([[5.0]], requires_grad=True), torch.tensor([2.0], requires_grad=True)
    loss = replica(torch.tensor([[3.0]]))
    assert loss.item() == 17.0  # 5 x 3 + 2
    loss.backward()
    assert replica.weight.grad is not None
    assert replica.weight.grad.item() == 3.0
    assert layer.weight.grad is None
