"""Speed-up and efficiency, and which cases may be compared for them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bench.analysis.frames import launches
from bench.analysis.scaling import COLUMNS, scaling
from bench.analysis.summary import summarise
from bench.store.columns import LaunchRow
from bench.store.environments import with_environments


def row(strategy: str, gpus: int, samples_per_s: float | None, block: int = 0, **changes: Any) -> LaunchRow:
    """A launch of a case whose id has its strategy and devices, with 8 samples on each device."""
    of_the_case = {"strategy": strategy, "gpus": gpus, "workload": "mlp", "device": "cuda", "precision": "fp32"}
    made = {**of_the_case, "batch_size": 8, "data": "resident", "omp_num_threads": 1, "torch": "2.11.0", **changes}
    batch = (made["batch_size"] or 0) * gpus
    said = {"case_id": f"{strategy}-{gpus}", "run_id": "r", "role": "measure", "order": block, "status": "ok"}
    more = {"block": block, "global_batch": batch, "work_key": str(batch), "samples_per_s": samples_per_s}
    return LaunchRow.of({**said, **more, **made})


def scaled(*rows: LaunchRow) -> list[dict[str, Any]]:
    frame = with_environments(launches(rows))
    found = scaling(summarise(frame), frame)
    assert list(found.columns) == list(COLUMNS)
    return [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in found.to_dict("records")]


def of(rows: list[dict[str, Any]], case_id: str) -> dict[str, Any]:
    [found] = [row for row in rows if row["case_id"] == case_id]
    return found


def test_weak_efficiency_is_throughput_a_device_over_that_of_the_base() -> None:
    """X(4) / (4 / 1 X(1)) = 360 / 400 = 0.9."""
    base, case = scaled(row("ddp", 1, 100.0), row("ddp", 4, 360.0))
    assert (case["mode"], case["base_case_id"], case["base_gpus"], case["base_samples_per_s"]) == (
        "weak",
        "ddp-1",
        1,
        100,
    )
    assert (case["speedup"], case["efficiency"], case["flag"], case["refused"]) == (3.6, 0.9, None, None)
    assert (base["case_id"], base["mode"], base["base_case_id"], base["speedup"], base["efficiency"]) == (
        *("ddp-1", "weak", "ddp-1"),
        *(1.0, 1.0),
    )


def test_strong_efficiency_is_the_time_of_a_global_batch_over_that_of_the_base() -> None:
    """A batch of 8 takes 8 / 100 = 80 ms, and on 4 devices 8 / 320 = 25 ms: 80 / (4 x 25) = 0.8."""
    _, case = scaled(row("ddp", 1, 100.0), row("ddp", 4, 320.0, batch_size=2))
    assert (case["mode"], case["batch_size"], case["global_batch"]) == ("strong", 2, 8)
    assert (case["speedup"], case["efficiency"]) == (3.2, 0.8)


def test_a_case_may_scale_both_ways() -> None:
    """2 devices of 8: weak from 1 of 8, and strong from 1 of 16."""
    rows = scaled(row("ddp", 1, 100.0), row("ddp", 1, 110.0, batch_size=16, case_id="ddp-1-b16"), row("ddp", 2, 190.0))
    assert {(r["case_id"], r["mode"], r["base_case_id"]): r["efficiency"] for r in rows} == {
        ("ddp-1", "weak", "ddp-1"): 1.0,
        ("ddp-2", "weak", "ddp-1"): 0.95,  # 190 / 200
        ("ddp-1-b16", "strong", "ddp-1-b16"): 1.0,
        ("ddp-2", "strong", "ddp-1-b16"): pytest.approx(0.863636, abs=1e-6),  # 190 / 220
    }
    assert [row["mode"] for row in rows] == ["weak", "weak", "strong", "strong"]


def test_the_base_has_the_fewest_devices() -> None:
    rows = scaled(row("ddp", 8, 560.0), row("ddp", 4, 300.0), row("ddp", 2, 160.0))
    assert {r["case_id"]: (r["base_gpus"], r["efficiency"]) for r in rows} == {
        "ddp-2": (2, 1.0),
        "ddp-4": (2, 0.9375),  # 300 / (2 x 160)
        "ddp-8": (2, 0.875),  # 560 / (4 x 160)
    }
    assert [row["gpus"] for row in rows] == [2, 4, 8]


def test_single_is_the_base_where_the_strategy_ran_on_no_fewer() -> None:
    rows = scaled(row("single", 1, 110.0), row("ddp", 2, 176.0))
    assert of(rows, "ddp-2")["base_case_id"] == "single-1"
    assert of(rows, "ddp-2")["efficiency"] == 0.8  # 176 / 220
    assert of(rows, "single-1")["strategy"] == "ddp"  # it represents one device of the strategy


def test_the_own_case_of_one_device_comes_before_single() -> None:
    rows = scaled(row("single", 1, 110.0), row("ddp", 1, 100.0), row("ddp", 2, 180.0))
    assert {r["case_id"]: r["efficiency"] for r in rows} == {"ddp-1": 1.0, "ddp-2": 0.9}


def test_where_single_is_the_base_it_is_that_of_all_larger_cases() -> None:
    """180 / (2 x 100) = 0.9 and 320 / (4 x 100) = 0.8: the strategy ran on no fewer than 2."""
    rows = scaled(row("single", 1, 100.0), row("ddp", 2, 180.0), row("ddp", 4, 320.0))
    found = [(r["case_id"], r["base_case_id"], round(r["efficiency"], 6)) for r in rows]
    of_two = ("ddp-4", "ddp-2", 0.888889)  # 320 / (2 x 180)
    assert ("ddp-2", "single-1", 0.9) in found
    # one of both, but whole: a base that is another's case is a row as well
    assert ("ddp-4", "single-1", 0.8) in found or {of_two, ("ddp-2", "ddp-2", 1.0)} <= set(found)


def test_strategies_with_options_have_curves_of_their_own() -> None:
    rows = scaled(row("ddp", 1, 100.0), row("ddp:hook=fp16", 1, 90.0), row("ddp:hook=fp16", 2, 162.0))
    assert {r["case_id"]: r["efficiency"] for r in rows} == {"ddp:hook=fp16-1": 1.0, "ddp:hook=fp16-2": 0.9}


def test_strategies_that_share_single_as_a_base_are_compared_each_with_it() -> None:
    rows = scaled(row("single", 1, 100.0), row("ddp", 2, 180.0), row("fsdp", 2, 160.0))
    assert {r["case_id"]: r["efficiency"] for r in rows} == {"single-1": 1.0, "ddp-2": 0.9, "fsdp-2": 0.8}


def test_one_rank_is_the_base_of_every_placement_and_old_rows_are_packed() -> None:
    rows = scaled(
        row("ddp", 1, 100.0),
        row("ddp", 2, 180.0, placement="pack"),
        row("ddp", 4, 300.0, placement="even", case_id="e"),
    )
    assert {r["case_id"]: r["efficiency"] for r in rows} == {"ddp-1": 1.0, "ddp-2": 0.9, "e": 0.75}


@pytest.mark.parametrize(
    ("axis", "there", "here", "words"),
    [
        ("precision", "fp32", "tf32", "precision fp32 there, tf32 here"),
        ("seed", 0, 1, "seed 0 there, 1 here"),
        ("num_workers", None, 3, "num_workers unset there, 3 here"),
        ("pin_memory", True, False, "pin_memory on there, off here"),
        ("oversubscribe", False, True, "oversubscribe False there, True here"),
        ("omp_num_threads", 1, 4, "omp_num_threads 1 there, 4 here"),
        ("env", None, "A=1", "env unset there, A=1 here"),
    ],
)
def test_a_case_is_refused_with_what_differs(axis: str, there: Any, here: Any, words: str) -> None:
    words = words.replace("False there, True here", "off there, on here")
    [refused] = scaled(row("ddp", 1, 100.0, **{axis: there, "batch_size": 16}), row("ddp", 2, 200.0, **{axis: here}))
    assert refused["case_id"] == "ddp-2"
    assert refused["refused"] == f"no case of fewer devices is equal but for them; it differs from ddp-1: {words}"
    assert [refused[n] for n in ("mode", "base_case_id", "base_gpus", "speedup", "efficiency")] == [None] * 5


def test_neither_batch_equal_is_refused() -> None:
    """8 on each device there and 6 here, 8 in all there and 12 here."""
    [refused] = scaled(row("ddp", 1, 100.0), row("ddp", 2, 200.0, batch_size=6))
    assert refused["refused"].endswith("it differs from ddp-1: global_batch 8 there, 12 here")


def test_a_refusal_names_the_case_that_is_most_alike() -> None:
    rows = scaled(
        row("ddp", 1, 100.0, precision="tf32", seed=1),
        row("ddp", 2, 100.0, precision="tf32", batch_size=4, case_id="near"),
        row("ddp", 4, 200.0, batch_size=2),
    )
    assert of(rows, "ddp-4")["refused"].endswith("it differs from near: precision tf32 there, fp32 here")


def test_machines_and_software_that_differ_are_never_compared() -> None:
    [refused] = scaled(row("ddp", 1, 100.0, batch_size=16), row("ddp", 2, 190.0, torch="2.12.0", run_id="s"))
    assert (refused["environment"], refused["refused"]) == (
        "B",
        "no case of fewer devices is equal but for them; it differs from ddp-1: environment A there, B here",
    )


def test_other_work_is_never_compared() -> None:
    """The global batch is equal, so the keys differ by the data or by the way of measuring."""
    rows = scaled(row("ddp", 1, 100.0, work_key="before"), row("ddp", 2, 190.0, batch_size=4, work_key="after"))
    assert [row["efficiency"] for row in rows] == [None]


def test_no_question_where_no_other_has_fewer_devices_or_a_number() -> None:
    assert scaled(row("ddp", 2, 100.0), row("fsdp", 4, 100.0), row("ddp", 2, 90.0, workload="gpt", case_id="g")) == []
    failed = {"status": "oom", "reason": "no"}
    assert scaled(row("ddp", 1, None, **failed), row("ddp", 2, 100.0)) == []


@pytest.mark.parametrize(("rate", "flag"), [(204.0, None), (204.1, "above 1.02: suspicious"), (196.0, None)])
def test_an_efficiency_above_1_02_is_flagged(rate: float, flag: str | None) -> None:
    """204 / 200 is 1.02 itself; 204.1 / 200 = 1.0205."""
    assert of(scaled(row("ddp", 1, 100.0), row("ddp", 2, rate)), "ddp-2")["flag"] == flag


def test_a_failed_case_is_a_row_with_its_reason() -> None:
    failed = {"status": "oom", "reason": "rank 1: out of memory"}
    rows = scaled(row("ddp", 1, 100.0), row("ddp", 2, 190.0), row("ddp", 4, None, **failed))
    case = of(rows, "ddp-4")
    assert (case["mode"], case["refused"], case["launches"]) == ("weak", "oom: rank 1: out of memory", 0)
    assert case["efficiency"] is None


def test_a_case_with_one_good_launch_has_a_number_of_it() -> None:
    failed = {"status": "timeout", "reason": "no step"}
    case = of(scaled(row("ddp", 1, 100.0), row("ddp", 2, 180.0), row("ddp", 2, None, 1, **failed)), "ddp-2")
    assert (case["efficiency"], case["launches"], case["refused"]) == (0.9, 1, None)


def test_the_interval_is_paired_where_blocks_are_shared() -> None:
    """Ratios 2 x 0.9 and 2 x 0.8 in blocks 0 and 1: logs 0.587787, 0.470004; mean 0.528895, half their difference
    0.0588915 is s / sqrt(2); x t(0.975, 1) = 12.706205 is 0.748288; exp(0.528895 -+ 0.748288) = 0.80301, 3.58645; over
    2 devices 0.40150 and 1.79322. Medians: 178 / 105 / 2 = 0.847619."""
    rows = scaled(
        *(row("ddp", 1, 100.0), row("ddp", 1, 110.0, 1)),
        *(row("ddp", 2, 180.0), row("ddp", 2, 176.0, 1)),
    )
    case = of(rows, "ddp-2")
    assert case["interval"] == "paired"
    assert case["efficiency"] == pytest.approx(0.847619, abs=1e-6)
    assert (case["speedup_low"], case["speedup_high"]) == (
        pytest.approx(0.80301, abs=1e-4),
        pytest.approx(3.58645, abs=1e-4),
    )
    assert case["efficiency_low"] == pytest.approx(0.40150, abs=1e-4)
    assert case["efficiency_high"] == pytest.approx(1.79322, abs=1e-4)


def test_one_launch_each_has_no_interval() -> None:
    case = of(scaled(row("ddp", 1, 100.0), row("ddp", 2, 180.0)), "ddp-2")
    assert [case[n] for n in ("interval", "speedup_low", "speedup_high", "efficiency_low", "efficiency_high")] == [
        None
    ] * 5


def test_of_launches_in_runs_alike_none_is_paired_with_another_run() -> None:
    """Block 0 of r and block 0 of s are different blocks: two launches each, and Welch's interval."""
    rows = [row("ddp", n, r * n, run_id=run) for n, run in ((1, "r"), (2, "s")) for r in (100.0,)]
    rows += [row("ddp", n, r * n, 1, run_id=run) for n, run in ((1, "r"), (2, "s")) for r in (101.0,)]
    assert of(scaled(*rows), "ddp-2")["interval"] == "unpaired"


def test_dp_scales_by_its_devices_though_it_is_one_rank() -> None:
    rows = scaled(row("dp", 1, 100.0, world_size=1), row("dp", 4, 300.0, world_size=1))
    assert of(rows, "dp-4")["efficiency"] == 0.75


@pytest.mark.parametrize("rate", [0.0, None])
def test_a_base_without_a_throughput_is_no_base(rate: float | None) -> None:
    assert all(row["efficiency"] is None for row in scaled(row("ddp", 1, rate), row("ddp", 2, 100.0)))


def test_a_run_where_every_launch_failed_scales_nothing() -> None:
    failed = {"status": "oom", "reason": "no"}
    assert scaled(row("ddp", 1, None, **failed), row("ddp", 2, None, **failed)) == []
