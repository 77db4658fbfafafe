"""The ordinary steps of a script: worked-out examples of records of its ranks."""

from __future__ import annotations

from typing import Any

import pytest

from bench.messages.rank_record import MEMORY, SCRIPT_PARTS, Measurement, RankRecord, ScriptFlops, ScriptRecord
from bench.runner.script_steps import ScriptSteps, description, metrics, script_steps, united, verdict

MS = 10**6


def measurement(*steps_ms: int) -> Measurement:
    """Half of each step is the backward pass, the other half the rest."""
    half = [ms * MS // 2 for ms in steps_ms]
    parts: dict[str, list[int]] = {part: [0] * len(half) for part in SCRIPT_PARTS}
    return Measurement(
        first_step_at_ns=2 * 10**9,
        window_at_ns=3 * 10**9,
        first_step_ns=50 * MS,
        warmup_steps=5,
        window_ns=sum(steps_ms) * MS,
        steps_ns=[2 * ns for ns in half],
        parts_ns=parts | {"rest": half, "backward": half},
        data_wait_host_ns=[0] * len(half),
        samples=0,
        losses=[],
        forward_is_local=None,
        steps_per_epoch=None,
        memory=dict.fromkeys(MEMORY),
    )


def record(rank: int, measured: Measurement, apart: list[str], samples: list[int] | None, **more: Any) -> RankRecord:
    script = ScriptRecord(step="AdamW", apart=apart, samples=samples, batches=99, **more)
    return RankRecord(rank, rank, "host", 1, True, measurement=measured, script=script)


def of(*ranks: RankRecord, a_step: int | None = None, batch_size: int | None = None) -> ScriptSteps:
    assert not [record.odd() for record in ranks if record.odd()]
    return script_steps(dict(enumerate(ranks)), a_step, batch_size)


TWO = (
    record(0, measurement(10, 40, 10, 20), ["", "save", "", ""], [8, 8, 8, 4]),
    record(1, measurement(12, 38, 10, 16), ["", "", "", "new epoch"], [8, 8, 8, 8]),
)


def test_a_step_counts_only_if_it_is_ordinary_on_all_ranks() -> None:
    steps = of(*TWO)
    assert steps.apart == ["", "save", "", "new epoch"]
    assert [rank.steps_ns for rank in steps.ranks] == [[10 * MS, 10 * MS], [12 * MS, 10 * MS]]
    assert [(rank.samples, rank.window_ns) for rank in steps.ranks] == [(16, 20 * MS), (16, 22 * MS)]
    assert steps.columns == {
        "script_step": "AdamW",
        "script_seen": None,
        "apart_steps": 2,
        "apart_s": 0.060,  # 40 and 20 ms, on the slower rank each
        "apart_why": "save 1, new epoch 1",
        "global_batch": 16,
        "parameters": None,
    }
    assert (steps.faults, steps.marks) == ([], [])


def test_throughput_is_that_of_the_ordinary_steps() -> None:
    row = metrics(of(*TWO), [rank.script for rank in TWO if rank.script], 10**9, 2, None)
    assert row["samples_per_s"] == pytest.approx(32 / 0.022)
    assert row["samples_per_s_per_device"] == pytest.approx(16 / 0.022)
    assert (row["samples"], row["window_steps"], row["window_s"]) == (32, 2, pytest.approx(0.022))
    assert (row["step_ms"], row["step_mean_ms"]) == (11.0, 11.0)
    assert (row["rest_ms"], row["backward_ms"], row["optimizer_ms"]) == (5.0, 5.0, 0.0)
    assert row["startup_s"] == pytest.approx(1.0)
    assert (row["loss_first"], row["flops_per_sample"]) == (None, None)


def test_reasons_of_ranks_are_united_once() -> None:
    assert united([["save", "", "save, new epoch"], ["save", "", "validation"]]) == [
        "save",
        "",
        "save, new epoch, validation",
    ]


def test_a_dispatcher_reads_for_all_ranks() -> None:
    """As accelerate's: rank 0 reads 64, the others nothing."""
    steps = of(record(0, measurement(10, 10), ["", ""], [64, 64]), record(1, measurement(10, 10), ["", ""], [0, 0]))
    assert steps.columns["global_batch"] == 64
    assert sum(rank.samples for rank in steps.ranks) == 128


@pytest.mark.parametrize("samples", [None, [0, 0]])
def test_unknown_samples_are_a_fault_and_not_a_zero(samples: list[int] | None) -> None:
    steps = of(record(0, measurement(10, 10), ["", ""], samples))
    assert verdict(steps.faults) == {
        "status": "invalid",
        "reason": "samples unknown: no DataLoader; give --samples-per-step",
    }
    row = metrics(steps, [], 10**9, 1, None)
    assert (row["samples_per_s"], row["samples"], row["step_ms"]) == (None, None, 10.0)


def test_the_user_may_say_the_samples() -> None:
    ranks = [record(rank, measurement(10, 10), ["", ""], None) for rank in range(2)]
    steps = of(*ranks, a_step=24)
    assert sum(rank.samples for rank in steps.ranks) == 48
    assert (steps.columns["global_batch"], steps.faults) == (24, [])


@pytest.mark.parametrize(
    ("apart", "fault"),
    [
        (["", "", "save", "save"], ""),
        (["", "save", "save", "save"], "3 of 4 steps held validation, saves or a new epoch; raise the script's"),
        (["save"] * 4, "4 of 4 steps held"),
    ],
)
def test_too_few_ordinary_steps_are_a_fault(apart: list[str], fault: str) -> None:
    steps = of(record(0, measurement(10, 10, 10, 10), apart, [8] * 4))
    assert bool(steps.faults) == bool(fault)
    assert not fault or steps.faults[0].startswith(fault)
    assert metrics(steps, [], 10**9, 1, None)["apart_steps"] == sum(map(bool, apart))


def test_a_batch_size_that_the_script_did_not_take_is_told() -> None:
    one = record(0, measurement(10, 10, 10), ["", "", ""], [8, 8, 3])
    assert of(one, batch_size=16).marks == ["batch size: a rank reads 8 samples in a step, no multiple of 16"]
    assert of(one, batch_size=4).marks == []  # two micro-batches


def test_variables_that_come_too_late_are_told_with_the_way_out() -> None:
    one = record(
        0, measurement(10, 10), ["", ""], [8, 8], ignored=["OMP_NUM_THREADS=2"], late=["SGD was updated 2 times"]
    )
    first, second = of(one).marks
    assert first.startswith("the script sets OMP_NUM_THREADS=2 before it imports torch")
    assert "--launcher torchrun" in first
    assert second == "the script's SGD was updated 2 times"


@pytest.mark.parametrize(
    ("flops", "seen", "model", "hardware", "note"),
    [
        (None, [], None, None, "not counted: --count-flops on counts them"),
        (ScriptFlops(4000, []), [], 500.0, 500.0, None),
        (ScriptFlops(4000, []), ["checkpointing"], None, 500.0, "of checkpointing only the sum is known"),
        (ScriptFlops(4000, ["mine::op"]), [], None, None, "unknown operations: mine::op"),
    ],
)
def test_flops_are_those_of_a_step_over_its_samples(
    flops: ScriptFlops | None, seen: list[str], model: float | None, hardware: float | None, note: str | None
) -> None:
    one = record(0, measurement(10, 10), ["", ""], [8, 8], flops=flops, seen=seen)
    assert one.script
    found = description(of(one), [one.script])
    assert (found.flops_per_sample, found.hardware_flops_per_sample) == (model, hardware)
    assert (found.flops_note or "").startswith(note or "")
    assert bool(found.flops_note) == bool(note)


def test_a_record_with_other_numbers_of_steps_is_nonsense() -> None:
    assert record(0, measurement(10, 10), ["", "", ""], None).odd() == "tells of more or fewer than its 2 steps"
    assert record(0, measurement(10, 10), ["", ""], [8]).odd() == "tells of more or fewer than its 2 steps"
