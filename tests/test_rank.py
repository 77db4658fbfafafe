"""What runs inside a rank, in this process: batches, clocks, warm-up."""

from __future__ import annotations

import dataclasses
import functools
import operator
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from bench.case import Case
from bench.devices import Machine
from bench.messages import PARTS, Heartbeat
from bench.options import AXES
from bench.rank.clock import CudaClock, HostClock, by_part, by_step
from bench.rank.loader import GlobalBatches, batches
from bench.rank.measure import warmup_steps
from bench.suite import make_case


def case(**axes: object) -> Case:
    values = {name: option.default for name, option in AXES.items()} | {"workload": "mlp", "device": "cpu"}
    return make_case({**values, **axes}, Machine())


def split(ranks: int, length: int = 50, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    """The global batches of 12 samples, put together again from every rank's slice."""
    spread = case(strategy="ddp", gpus=ranks, batch_size=12 // ranks, seed=seed)
    samplers = [GlobalBatches(length, spread, rank) for rank in range(ranks)]
    for sampler in samplers:
        sampler.epoch = epoch
    return [functools.reduce(operator.iadd, slices, []) for slices in zip(*samplers, strict=True)]


def test_however_a_global_batch_is_split_each_step_sees_the_same_samples() -> None:
    whole = split(1)
    assert whole == split(2) == split(4)
    assert [len(batch) for batch in whole] == [12] * 4  # 50 samples: four batches, a ragged tail of 2
    assert len({i for batch in whole for i in batch}) == 48


def test_the_order_depends_on_seed_and_epoch() -> None:
    assert split(2) != split(2, seed=1)
    assert split(2) != split(2, epoch=1)
    assert split(2, epoch=1) == split(4, epoch=1)


def test_epochs_follow_each_other_without_end() -> None:
    data = TensorDataset(torch.arange(10))
    feed = batches(data, case(batch_size=5, data="synthetic", num_workers=0, strategy="single"), torch.device("cpu"))
    assert feed.steps_per_epoch == 2
    seen = [next(feed)[0].tolist() for _ in range(5)]
    feed.close()
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == list(range(10))
    assert seen[:2] != seen[2:4]


def test_resident_data_is_the_first_samples_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    data = TensorDataset(torch.arange(5))
    feed = batches(data, case(batch_size=3, strategy="ddp", gpus=2), torch.device("cpu"))
    assert next(feed)[0].tolist() == [3, 4, 0]  # the second rank's three, from the start again where there are no more
    assert next(feed)[0] is next(feed)[0]
    assert (feed.steps_per_epoch, feed.queued) == (None, 0)


def test_too_few_samples_for_a_global_batch_are_told() -> None:
    asked = case(batch_size=6, strategy="ddp", gpus=2, data="synthetic", num_workers=0)
    with pytest.raises(ValueError, match="10 samples do not fill one global batch of 12"):
        batches(TensorDataset(torch.arange(10)), asked, torch.device("cpu"))


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


def test_the_host_clock_is_a_chain_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100, 103, 110, 111])
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(ticks))
    clock = HostClock()
    clock.start()
    for _ in range(3):
        clock.mark()
    assert clock.parts_ns() == clock.host_ns() == [3, 7, 1]


def test_the_cuda_clock_reads_the_devices_timeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host enqueues in 1 µs what the device takes milliseconds for."""

    class Event:
        device_ms = iter([0.0, 0.5, 0.75, 4.75])

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(self.device_ms)

        def elapsed_time(self, end: Event) -> float:
            return end.at - self.at

    host_ns = iter([0, 1000, 2000, 3000])
    monkeypatch.setattr("torch.cuda.Event", Event)
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(host_ns))
    clock = CudaClock()
    clock.start()
    for _ in range(3):
        clock.mark()
    assert clock.parts_ns() == [500_000, 250_000, 4_000_000]
    assert clock.host_ns() == [1000, 1000, 1000]


def test_a_heartbeat_is_read_by_another_process(tmp_path: Path) -> None:
    assert Heartbeat.read(tmp_path, "launch", 0) is None
    beat = Heartbeat(tmp_path, "launch", 0)
    beat.beat(3, 35, 123456789)
    assert Heartbeat.read(tmp_path, "launch", 0) == (3, 35, 123456789)


def test_a_case_travels_whole() -> None:
    there = case(strategy="fsdp", batch_size=3)
    assert Case(**dataclasses.asdict(there)) == there
