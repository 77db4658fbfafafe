"""From the ranks' measurements to the columns of rows, with numbers made by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
from made_up_measurements import MS, NO_MEMORY, rank

from bench.messages.rank_record import Failure, Measurement, RankRecord
from bench.plan.description import Description
from bench.runner.metrics import (
    achieved,
    bursts_ns,
    efficiency,
    faults,
    launch_metrics,
    rank_rows,
    step_rows,
    window_of,
)
from bench.store.columns import FILES

# Two ranks, of which one or the other is slower in each step. The slowest: 20, 20, 30, 40.
RANKS = [
    rank(  # 80 ms in all; wait and copy 6 ms, with the forward pass 7 ms
        [10, 20, 30, 20],
        parts_ms={"data_wait": 5, "copy": 1, "forward": 1, "backward": 10, "optimizer": 2},
        losses=[4.0, 3.0, 2.0, 2.0, 1.0],
        first_step_ns=150 * MS,
        steps_per_epoch=16,
        memory={**NO_MEMORY, "peak_rss_mib": 300.0, "rss_growth_mib": 20.0},
        compile_ns=3_000 * MS,
        recompilations=0,
        window_compilations=1,
        optimizer_steps_skipped=2,
    ),
    rank(  # 90 ms in all; wait and copy 5 ms, with the forward pass 13 ms
        [20, 10, 20, 40],
        parts_ms={"data_wait": 3, "copy": 2, "forward": 8, "backward": 6, "optimizer": 3},
        losses=[6.0, 3.0, 2.0, 2.0, 2.0],
        first_step_at_ns=3_500 * MS,
        steps_per_epoch=16,
        memory={**NO_MEMORY, "peak_rss_mib": 280.0, "rss_growth_mib": 50.0},
        compile_ns=2_500 * MS,
        recompilations=4,
        window_compilations=0,
        optimizer_steps_skipped=2,
    ),
]


def test_every_column_of_a_launch() -> None:
    found = launch_metrics(RANKS, requested_at_ns=1_000 * MS, tokens_per_sample=100)
    assert found == pytest.approx(
        {
            "samples_per_s": 64 / 0.090,  # 2 ranks x 4 steps x 8 samples in the window of the slower rank
            "samples_per_s_per_device": 32 / 0.090,
            "tokens_per_s": 6400 / 0.090,
            "tokens_per_s_per_device": 3200 / 0.090,
            "samples": 64,
            "window_s": 0.090,
            "window_steps": 4,
            "warmup_steps_done": 1,
            "steps_per_epoch": 16,
            "step_ms": 25.0,  # of 20, 20, 30, 40: (20 + 30) / 2
            "step_mean_ms": 27.5,  # 110 / 4
            "step_p05_ms": 20.0,  # at 0.05 x 3 = 0.15, between 20 and 20
            "step_p95_ms": 38.5,  # at 0.95 x 3 = 2.85, between 30 and 40
            "step_cv": math.sqrt(275 / 3) / 27.5,  # 7.5² + 7.5² + 2.5² + 12.5² = 275
            "step_drift": 0.75,  # median of 30, 40 over median of 20, 20: 35 / 20 - 1
            "steady": False,
            "critical_rank": 1,  # 13 ms of its own against 7 ms
            "data_wait_ms": 3.0,  # of rank 1, as all parts
            "data_wait_share": 3.0 / 22.5,  # rank 1's steps: 90 / 4
            "device_gap_ms": None,
            "copy_ms": 2.0,
            "forward_ms": 8.0,
            "backward_ms": 6.0,
            "optimizer_ms": 3.0,
            "startup_s": 2.5,  # 3.5 - 1.0: the last rank
            "first_step_ms": 150.0,
            "compile_s": 3.0,  # of the slowest rank
            "recompilations": 4,
            "window_compilations": 1,
            "compile_cache_hits": None,
            "optimizer_steps_skipped": 2,
            "loss_first": 5.0,  # (4 + 6) / 2
            "loss_last": 1.5,  # (1 + 2) / 2
            **NO_MEMORY,
            "peak_rss_mib": 300.0,
            "rss_growth_mib": 50.0,
        }
    )


def test_ranks_that_train_the_same_samples_count_them_once() -> None:
    apart = launch_metrics(RANKS, requested_at_ns=0, tokens_per_sample=100)
    alike = launch_metrics(RANKS, requested_at_ns=0, tokens_per_sample=100, alike=2)
    assert apart["samples"] == sum(one.samples for one in RANKS) == 2 * alike["samples"]
    for name in ("samples_per_s", "samples_per_s_per_device", "tokens_per_s", "tokens_per_s_per_device"):
        assert alike[name] == pytest.approx(apart[name] / 2)
    assert alike["step_ms"] == apart["step_ms"]


def test_throughput_of_a_device_where_a_rank_has_several() -> None:
    found = launch_metrics(RANKS, requested_at_ns=0, tokens_per_sample=100, devices=4)
    assert found["samples_per_s_per_device"] == pytest.approx(64 / 0.090 / 4)
    assert found["tokens_per_s_per_device"] == pytest.approx(6400 / 0.090 / 4)


def test_columns_are_all_known_to_the_file() -> None:
    found = launch_metrics(RANKS, 0, None)
    assert set(found | efficiency(found, None, None)) <= set(FILES["launches.csv"])
    assert all(set(row) <= set(FILES["steps.csv"]) for row in step_rows(RANKS))


def test_without_tokens_there_is_no_token_rate() -> None:
    found = launch_metrics(RANKS, 0, None)
    assert (found["tokens_per_s"], found["tokens_per_s_per_device"]) == (None, None)


@pytest.mark.parametrize(
    ("steps", "drift", "steady"),
    [
        ([20, 20, 20, 20], 0.0, True),
        ([100, 100, 104, 104], 0.04, True),
        ([200, 200, 211, 211], 0.055, False),
        ([100, 100, 106, 106], 0.06, False),
        ([100, 100, 94, 94], -0.06, False),
        ([10, 20, 30, 20, 10], -0.25, False),  # the odd step falls to the first half: 15 / 20 - 1
        ([25, 24], -0.04, True),  # 24 / 25 - 1
    ],
)
def test_drift_compares_the_halves(steps: list[int], drift: float, steady: bool) -> None:
    found = launch_metrics([rank(steps)], 0, None)
    assert found["step_drift"] == pytest.approx(drift)
    assert found["steady"] is steady


@pytest.mark.parametrize(
    ("gap_ms", "host_ms", "share"),
    [
        (1, [4, 6], 1 / 20),
        (0, [19, 19], 0.0),  # the host waits for the loader, but runs a step ahead: the device always has work
        (8, [8, 8], 8 / 20),  # the device has no work while its host waits
    ],
)
def test_on_a_device_the_wait_is_the_hosts_and_the_share_what_the_device_starved(
    gap_ms: int, host_ms: list[int], share: float
) -> None:
    waits_ns = [ms * MS for ms in host_ms]
    memory = {**NO_MEMORY, "device_used_mib": 900.0}
    on_cuda = rank([10, 30], parts_ms={"data_wait": gap_ms}, data_wait_host_ns=waits_ns, memory=memory)
    found = launch_metrics([on_cuda], 0, None)
    assert (found["data_wait_ms"], found["device_gap_ms"]) == (sum(host_ms) / 2, gap_ms)
    assert found["data_wait_share"] == pytest.approx(share)
    assert [row["data_wait_ms"] for row in step_rows([on_cuda])] == host_ms


def test_steps_are_of_the_slowest_and_fastest_rank() -> None:
    waits = dataclasses.replace(RANKS[0], data_wait_host_ns=[5 * MS, 1 * MS, 5 * MS, 2 * MS])
    # losses of the window: 3, 2, 2, 1 and 3, 2, 2, 2
    expected = [(0, 20, 10, 5, 3.0), (1, 20, 10, 3, 2.0), (2, 30, 20, 5, 2.0), (3, 40, 20, 3, 1.5)]
    assert step_rows([waits, RANKS[1]]) == [
        {
            "step": step,
            "step_ms": pytest.approx(slowest),
            "step_min_ms": pytest.approx(fastest),
            "data_wait_ms": pytest.approx(wait),
            "critical_rank": 1,
            "loss": loss,
        }
        for step, slowest, fastest, wait, loss in expected
    ]


def test_critical_rank_is_told_for_each_step() -> None:
    parts = {**RANKS[0].parts_ns, "forward": [1 * MS, 20 * MS, 1 * MS, 20 * MS]}  # 7 or 26 ms against 13 ms
    turns = dataclasses.replace(RANKS[0], parts_ns=parts)
    assert [row["critical_rank"] for row in step_rows([turns, RANKS[1]])] == [1, 0, 1, 0]


def test_ranks_each_with_their_own_numbers_or_last_words() -> None:
    measured = RankRecord(rank=0, local_rank=0, host="a", pid=11, preloaded=True, device="cpu", measurement=RANKS[0])
    failed = RankRecord(
        rank=1, local_rank=1, host="a", pid=12, preloaded=True, failure=Failure("crashed", "ValueError: no", 5)
    )
    first, second = rank_rows({1: failed, 0: measured}, {1: 1})
    assert first == {
        "rank": 0,
        "local_rank": 0,
        "host": "a",
        "device_name": "cpu",
        "device_uuids": "",
        "pid": 11,
        "exit_code": None,
        "failure": None,
        "window_s": 0.08,
        "step_ms": 20.0,  # of 10, 20, 20, 30
        "data_wait_ms": 5.0,
        "device_gap_ms": None,
        "copy_ms": 1.0,
        "forward_ms": 1.0,
        "backward_ms": 10.0,
        "optimizer_ms": 2.0,
        **NO_MEMORY,
        "peak_rss_mib": 300.0,
        "rss_growth_mib": 20.0,
    }
    assert second == {
        "rank": 1,
        "local_rank": 1,
        "host": "a",
        "device_name": "",
        "device_uuids": "",
        "pid": 12,
        "exit_code": 1,
        "failure": "ValueError: no",
    }
    assert set(first) <= set(FILES["ranks.csv"])


# -- checks -----------------------------------------------------------------------------------------------------


def test_what_was_to_be_compiled_and_was_not_is_a_fault() -> None:
    """With certain variables torch.compile returns its argument without a message."""
    known, unknown = (dataclasses.replace(RANKS[0], compile_ns=ns) for ns in (10**9, None))
    assert faults([known, unknown], 8) == []
    assert faults([known, dataclasses.replace(RANKS[1], compile_ns=0)], 8) == [
        "nothing was compiled in rank 1; see whether TORCHDYNAMO_DISABLE or TORCH_COMPILE_DISABLE is set"
    ]


def test_good_launch_has_no_faults() -> None:
    assert faults(RANKS, rank_samples=8) == []


@pytest.mark.parametrize(("loss", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_loss_that_is_no_number(loss: float, shown: str) -> None:
    bad = dataclasses.replace(RANKS[1], losses=[6.0, 3.0, loss, loss, 2.0])
    assert faults([RANKS[0], bad], 8) == [f"the loss of rank 1 is {shown} in step 3"]


def test_earliest_bad_loss_is_named() -> None:
    late = dataclasses.replace(RANKS[0], losses=[4.0, 3.0, 2.0, math.nan, math.nan])
    early = dataclasses.replace(RANKS[1], losses=[6.0, 3.0, math.nan, math.nan, math.nan])
    assert faults([late, early], 8) == ["the loss of rank 1 is nan in step 3"]


def test_samples_that_do_not_add_up() -> None:
    short = dataclasses.replace(RANKS[0], samples=31)
    assert faults([short, RANKS[1]], 8) == ["rank 0 trained 31 samples where 4 steps have 32"]  # 4 x 8


@pytest.mark.parametrize(
    ("window_ms", "found"),
    [
        (2000, []),
        (1975, ["the steps of rank 0 differ from its window by +1.3%"]),  # 2000 / 1975 = 1.0127
        (1985, []),  # 2000 / 1985 = 1.0076: 15 ms, within 19.85
        (2018, []),
        (2500, ["the steps of rank 0 differ from its window by -20.0%"]),  # -500 / 2500
        (1960, ["the steps of rank 0 differ from its window by +2.0%"]),  # 40 / 1960 = 0.0204
    ],
)
def test_steps_must_sum_to_the_window_within_one_percent(window_ms: float, found: list[str]) -> None:
    off = rank([1000, 1000], window_ns=int(window_ms * MS))
    assert faults([off], 8) == found


@pytest.mark.parametrize(("window_ms", "faulty"), [(210, False), (211, True), (190, False), (189, True)])
def test_ten_milliseconds_off_a_short_window_are_the_schedulers(window_ms: int, faulty: bool) -> None:
    assert bool(faults([rank([100, 100], window_ns=window_ms * MS)], 8)) == faulty


@pytest.mark.parametrize(("waited_ms", "faulty"), [(0, True), (24, True), (25, False)])
def test_what_the_kernel_took_of_a_window_is_no_fault_of_ours(waited_ms: int, faulty: bool) -> None:
    """2 x 100 ms of steps in a window of 235: 10 ms are tolerated, the other 25 must be waits counted by the kernel."""
    off = rank([100, 100], window_ns=235 * MS, waited_ns=waited_ms * MS)
    assert bool(faults([off], 8)) == faulty


def test_a_step_that_was_not_counted_is_a_fault_however_busy_the_machine() -> None:
    lost = rank([100, 100, 100], window_ns=400 * MS, waited_ns=30 * MS, samples=32)
    assert faults([lost], 8) == [
        "rank 0 trained 32 samples where 3 steps have 24",
        "the steps of rank 0 differ from its window by -25.0%",
    ]


def test_all_faults_are_told() -> None:
    bad = dataclasses.replace(RANKS[0], losses=[math.nan] * 5, samples=0, window_ns=160 * MS)
    assert faults([bad, RANKS[1]], 8) == [
        "the loss of rank 0 is nan in step 1",
        "rank 0 trained 0 samples where 4 steps have 32",
        "the steps of rank 0 differ from its window by -50.0%",  # 80 / 160 - 1
    ]


# -- efficiency -------------------------------------------------------------------------------------------------


def description(flops: float | None, hardware_flops: float | None) -> Description:
    how, why = (None, "nobody knows") if flops is None else ("by hand", None)
    return Description("samples", 8, ("resident",), None, 10, 2, flops, hardware_flops, how, why)


def test_utilisation_against_a_known_peak() -> None:
    # 200 samples/s x 3e11 = 60 TFLOP/s; with recomputation 200 x 4e11 = 80; of 400
    assert efficiency(
        {"samples_per_s_per_device": 200.0}, description(3e11, 4e11), (400.0, "a sheet")
    ) == pytest.approx(
        {
            "flops_per_sample": 3e11,
            "hardware_flops_per_sample": 4e11,
            "flops_convention": "by hand",
            "flops_note": None,
            "tflops_per_device": 60.0,
            "peak_tflops": 400.0,
            "peak_source": "a sheet",
            "mfu": 0.15,
            "hfu": 0.2,
        }
    )


def test_unknown_peak_leaves_the_utilisation_empty() -> None:
    assert efficiency({"samples_per_s_per_device": 200.0}, description(3e11, 4e11), None) == pytest.approx(
        {
            "flops_per_sample": 3e11,
            "hardware_flops_per_sample": 4e11,
            "flops_convention": "by hand",
            "flops_note": None,
            "tflops_per_device": 60.0,
            "peak_tflops": None,
            "peak_source": None,
            "mfu": None,
            "hfu": None,
        }
    )


@pytest.mark.parametrize(("unknown", "note"), [(None, None), (description(None, None), "nobody knows")])
def test_unknown_flops_leave_all_but_the_peak_empty(unknown: Description | None, note: str | None) -> None:
    assert efficiency({"samples_per_s_per_device": 200.0}, unknown, (400.0, "a sheet")) == {
        "flops_per_sample": None,
        "hardware_flops_per_sample": None,
        "flops_convention": None,
        "flops_note": note,
        "tflops_per_device": None,
        "peak_tflops": 400.0,
        "peak_source": "a sheet",
        "mfu": None,
        "hfu": None,
    }


@pytest.mark.parametrize(
    ("flops", "hardware_flops", "left", "note"),
    [
        # at 200 samples/s and 400 TFLOP/s, 2e12 a sample is all that the device can do
        (2e12, 2e12, {"mfu": 1.0, "hfu": 1.0}, None),
        (2.5e12, 2.5e12, {"mfu": None, "hfu": None}, "mfu would be 1.250, hfu would be 1.250; check FLOPs and peak"),
        (1e12, 3e12, {"mfu": 0.5, "hfu": None}, "hfu would be 1.500; check FLOPs and peak"),
        (0.0, 0.0, {"mfu": None, "hfu": None}, "no operation of the model has FLOPs"),
    ],
)
def test_a_utilisation_that_cannot_be_is_left_empty_and_said(
    flops: float, hardware_flops: float, left: dict[str, float | None], note: str | None
) -> None:
    row = efficiency({"samples_per_s_per_device": 200.0}, description(flops, hardware_flops), (400.0, "a sheet"))
    assert {name: row[name] for name in left} == left
    assert (row["flops_note"], row["flops_per_sample"]) == (note, flops)


# -- the share of a measured peak -----------------------------------------------------------------------------------


def with_flops(tflops: float | None, note: str | None = None) -> dict[str, float | str | None]:
    return {"tflops_per_device": tflops, "flops_note": note}


@pytest.mark.parametrize(
    ("row", "peak", "why", "share", "note"),
    [
        (with_flops(60.0), 80.0, "", 0.75, None),
        (with_flops(60.0, "the workload says so"), 80.0, "", 0.75, "the workload says so"),
        (with_flops(80.0), 80.0, "", 1.0, None),
        (
            with_flops(100.0, "known"),
            80.0,
            "",
            None,
            "known; mfu_achievable would be 1.250; check FLOPs, and measure the peak again",
        ),
        (with_flops(0.0, "no operation of the model has FLOPs"), 80.0, "", None, "no operation of the model has FLOPs"),
        (with_flops(60.0), None, "no matmul peak: it failed", None, "no matmul peak: it failed"),
        (with_flops(60.0), None, "", None, None),
        (with_flops(None, "nobody knows"), 80.0, "", None, "nobody knows"),
    ],
)
def test_share_of_the_fastest_products(
    row: dict[str, float | str | None], peak: float | None, why: str, share: float | None, note: str | None
) -> None:
    assert achieved(row, peak, why) == {
        "matmul_peak_tflops": peak,
        "mfu_achievable": share,
        "flops_note": note,
    }


def test_what_is_not_compiled_or_scaled_has_no_such_figures() -> None:
    found = launch_metrics([rank([10, 10])], 0, None)
    names = ("compile_s", "recompilations", "window_compilations", "optimizer_steps_skipped")
    assert [found[name] for name in names] == [None] * 4


# -- a side of a duet ----------------------------------------------------------------------------------------------

# Two bursts of two steps, with the other side's between them. The window is the time of the bursts.
BURSTS = [
    rank([10, 20, 30, 20], bursts_ns=[30 * MS, 50 * MS], bursts_at_ns=[3_200 * MS, 3_400 * MS]),
    rank([20, 20, 20, 25], bursts_ns=[40 * MS, 45 * MS], bursts_at_ns=[3_210 * MS, 3_410 * MS]),
]


def test_a_burst_takes_as_long_as_its_slowest_rank() -> None:
    assert bursts_ns(BURSTS) == [40 * MS, 50 * MS]
    assert bursts_ns(RANKS) == []


def test_the_window_of_a_duet_ends_with_its_last_burst() -> None:
    def records(ranks: list[Measurement]) -> dict[int, RankRecord]:
        return {r: RankRecord(r, r, "node1", 1, True, measurement=m) for r, m in enumerate(ranks)}

    assert window_of(records(BURSTS)) == (3_200 * MS, 3_455 * MS)
    assert window_of(records(RANKS)) == (3_200 * MS, 3_290 * MS)


def test_each_burst_may_be_off_by_a_slice_of_the_schedulers() -> None:
    for window_ms, found in ((100, 0), (101, 1)):  # its steps take 80 ms, and 10 ms more in each burst are tolerated
        assert len(faults([dataclasses.replace(BURSTS[0], window_ns=window_ms * MS)], 8)) == found


def test_losses_are_of_the_ranks_that_have_the_last_stage_of_a_pipeline() -> None:
    parts = {"bubble": 5}
    without = rank([10, 20], parts_ms=parts, losses=[], has_loss=False, forward_is_local=False)
    last = [rank([10, 20], parts_ms=parts, losses=[3.0, 2.0, one], forward_is_local=False) for one in (1.0, 2.0)]
    ranks = [without, without, *last]
    assert [m.odd() for m in ranks] == [""] * 4
    found = launch_metrics(ranks, requested_at_ns=0, tokens_per_sample=None, alike=2)
    assert (found["loss_first"], found["loss_last"], found["samples"]) == (3.0, 1.5, 32)  # 2 of 4 ranks x 2 steps x 8
    assert [row["loss"] for row in step_rows(ranks)] == [2.0, 1.5]
    assert faults(ranks, 8) == []
    assert "has 0 losses of 1 + 2 steps" in dataclasses.replace(without, has_loss=True).odd()
