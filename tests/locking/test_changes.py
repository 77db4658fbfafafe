"""What changed between a lock and the present counts, in words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from plain_case import PLAIN

from bench.locking.changes import changes, comparable_anyway, in_words
from bench.locking.counted_cases import locked
from bench.locking.lock_file import TOLERANCES, LockedCase, Path, Range
from bench.messages.counts import CountLine
from bench.plan.case import Case

NONE = dict.fromkeys(TOLERANCES, 0.0)
GATHERS, ITEM = ("backward", "collectives", "all-gather ×8 float32"), ("forward", "waits", "item")
GATHERED = ("backward", "collective_bytes", "all-gather ×8 float32")
MLP, PEAK = ("step", "activations", "blocks.3.mlp"), ("step", "memory", "peak of live tensors")
MIB = 1 << 20


def told(before: dict[Path, Range], now: dict[Path, Range], **tolerance: float) -> tuple[bool, list[str]]:
    found = changes(LockedCase({}, before), LockedCase({}, now), {**NONE, **tolerance})
    return any(change.more for change in found), in_words(found)


def test_more_collectives_and_their_bytes() -> None:
    before: dict[Path, Range] = {GATHERS: (4, 4), GATHERED: (4 * MIB, 4 * MIB), ITEM: (1, 1)}
    now: dict[Path, Range] = {GATHERS: (6, 6), GATHERED: (6 * MIB, 6 * MIB), ITEM: (1, 1)}
    assert told(before, now) == (
        True,
        [
            "+2 all-gather ×8 float32 in backward",
            "bytes of all-gather ×8 float32 4 MiB → 6 MiB in backward",
        ],
    )


def test_less_is_told_and_is_not_more() -> None:
    assert told({ITEM: (3, 3)}, {ITEM: (1, 1)}) == (False, ["-2 wait for item in forward"])
    assert told({ITEM: (3, 3)}, {}) == (False, ["-3 wait for item in forward"])


def test_what_grew_comes_first() -> None:
    before: dict[Path, Range] = {MLP: (310 * MIB, 310 * MIB), ITEM: (1, 1)}
    now: dict[Path, Range] = {MLP: (420 * MIB, 420 * MIB)}
    assert told(before, now) == (
        True,
        ["activations: blocks.3.mlp 310 MiB → 420 MiB", "-1 wait for item in forward"],
    )


@pytest.mark.parametrize(
    ("now", "more"), [((5, 5), False), ((7, 7), False), ((5, 7), False), ((8, 8), True), ((6, 8), True), ((4, 4), None)]
)
def test_a_range_is_no_change_inside(now: Range, more: bool | None) -> None:
    found = changes(LockedCase({}, {ITEM: (5, 7)}), LockedCase({}, {ITEM: now}), NONE)
    assert [change.more for change in found] == ([True] if more else [False] if more is None else [])


def test_a_tolerance_is_of_its_kind() -> None:
    before: dict[Path, Range] = {PEAK: (1000, 1000), ITEM: (1, 1)}
    now: dict[Path, Range] = {PEAK: (1020, 1020), ITEM: (2, 2)}
    assert told(before, now, memory=0.02) == (True, ["+1 wait for item in forward"])
    assert told(before, {**now, PEAK: (1021, 1021)}, memory=0.02)[1] == [
        "+1 wait for item in forward",
        "memory: peak of live tensors 1000 B → 1021 B",
    ]


def test_a_difference_below_the_last_digit_is_told_in_full() -> None:
    path = ("forward", "bytes", "read")
    assert told({path: (74465, 74465)}, {path: (74469, 74469)})[1] == ["bytes read 74,465 → 74,469 in forward"]


def test_many_changes_of_a_kind_are_cut() -> None:
    now: dict[Path, Range] = {("forward", "operations", f"op{n} float32"): (1, 1) for n in range(9)}
    [line] = told({}, now)[1]
    assert line.endswith("+1 op5 float32 and 3 more in forward")


def test_what_does_not_depend_on_torch() -> None:
    assert comparable_anyway(GATHERS)
    assert comparable_anyway(ITEM)
    assert comparable_anyway(("step", "memory", "parameters"))
    assert not comparable_anyway(PEAK)
    assert not comparable_anyway(MLP)
    assert not comparable_anyway(("forward", "operations", "mm float32"))


# -- from a run to a lock ----------------------------------------------------------------------------------------------


def case(strategy: str = "ddp", **fields: Any) -> Case:
    return dataclasses.replace(PLAIN, strategy=strategy, gpus=2, device="cpu", batch_size=None, **fields)


def test_counts_of_two_launches_become_ranges() -> None:
    first = [
        CountLine("forward", "operation", "mm", "float32", calls=3, bytes_read=10, bytes_written=4),
        CountLine("forward", "operation", "add", "float32", calls=1, bytes_read=8, bytes_written=4),
        CountLine("step", "memory", "buffers", bytes=0),
    ]
    second = [CountLine("forward", "operation", "mm", "float32", calls=5, bytes_read=20, bytes_written=4)]
    found = locked(case(), [first, second])
    assert found.axes == {"workload": PLAIN.workload, "strategy": "ddp", "gpus": 2, "device": "cpu"}
    assert found.counts == {
        ("forward", "operations", "mm float32"): (3, 5),
        ("forward", "operations", "add float32"): (0, 1),
        ("forward", "bytes", "read"): (18, 20),
        ("forward", "bytes", "written"): (4, 8),
    }


def test_fake_ranks_are_their_own_axis() -> None:
    found = locked(case(fake_ranks=True), [[]])
    assert found.axes == {"workload": PLAIN.workload, "strategy": "ddp", "fake_ranks": 2}


def test_peaks_that_depend_on_time_are_left_out() -> None:
    lines = [[CountLine("step", "memory", "peak of live tensors", bytes=5)]]
    assert locked(case(), lines).counts == {PEAK: (5, 5)}
    assert locked(case("fsdp:reshard=off"), lines).counts == {}
    assert locked(case("fsdp", fake_ranks=True), lines).counts == {PEAK: (5, 5)}
    allocator = [[CountLine("step", "memory", "peak of the device's allocator", bytes=5)]]
    assert locked(case(), allocator).counts == {}


def test_what_only_a_gpu_shows() -> None:
    lines = [
        [CountLine("forward", "sync", "the device", calls=1), CountLine("step", "kernel", "kernel launches", calls=9)]
    ]
    counts = locked(case(), lines).counts
    assert told({}, counts) == (True, ["+1 wait for the device in forward", "+9 kernel launches"])


def test_what_changed_in_compiled_code() -> None:
    before: dict[Path, Range] = {
        ("step", "compile", "graphs"): (1, 1),
        ("step", "compile", "generated kernels"): (9, 9),
    }
    now: dict[Path, Range] = {("step", "compile", "graphs"): (2, 2), ("step", "compile", "graph break: print"): (1, 1)}
    assert told(before, now) == (True, ["+1 graph break: print, graphs 1 → 2, generated kernels 9 → 0"])
