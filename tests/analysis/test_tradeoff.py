"""Throughput against memory: the front, and the recommendations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from bench.analysis.frames import launches
from bench.analysis.summary import summarise
from bench.analysis.tradeoff import COLUMNS, tradeoff, with_memory
from bench.store.columns import LaunchRow
from bench.store.environments import with_environments


def row(
    case_id: str, samples_per_s: float | None, gib: float | None = None, block: int = 0, **changes: Any
) -> LaunchRow:
    """A launch of a case on two GPUs, and the GiB used on the fuller one."""
    axes = {"workload": "mlp", "strategy": "ddp", "gpus": 2, "device": "cuda", "data": "resident", "seed": 0}
    said = {"case_id": case_id, "work_key": "w", "run_id": "r", "role": "measure", "status": "ok", "block": block}
    used = {"device_used_mib": None if gib is None else 1024 * gib}
    return LaunchRow.of({**axes, **said, "order": block, "samples_per_s": samples_per_s, **used, **changes})


FAILED = {"status": "crashed", "reason": "no"}


def traded(rows: Sequence[LaunchRow], within_gib: Sequence[float] = ()) -> list[dict[str, Any]]:
    frame = with_environments(launches(rows))
    found = tradeoff(with_memory(summarise(frame)), frame, within_gib)
    assert list(found.columns) == list(COLUMNS)
    return [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in found.to_dict("records")]


def column(rows: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    return {row["case_id"]: row[name] for row in rows}


def memory(*rows: LaunchRow) -> dict[str, tuple[str | None, float | None]]:
    found = with_memory(summarise(with_environments(launches(rows))))
    return {
        row["case_id"]: tuple(None if pd.isna(row[n]) else row[n] for n in ("memory_measure", "memory_mib"))
        for row in found.to_dict("records")
    }


# -- the front -----------------------------------------------------------------------------------------------------


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    """b has more memory than a and is slower; e has as much as d."""
    rows = traded([row("a", 100.0, 8), row("b", 90.0, 9), row("c", 80.0, 6), row("d", 70.0, 2), row("e", 60.0, 2)])
    assert column(rows, "on_front") == {"a": True, "b": False, "c": True, "d": True, "e": False}
    assert [row["case_id"] for row in rows] == ["a", "b", "c", "d", "e"]


def test_of_equal_speeds_the_smaller_is_on_the_front() -> None:
    rows = traded([row("a", 100.0, 8), row("b", 100.0, 7), row("c", 50.0, 7.5)])
    assert column(rows, "on_front") == {"b": True, "a": False, "c": False}
    assert column(rows, "choice") == {"b": "fastest; smallest", "a": None, "c": None}


def test_of_equal_memories_the_faster_is_on_the_front() -> None:
    rows = traded([row("a", 90.0, 8), row("b", 100.0, 8)])
    assert column(rows, "on_front") == {"b": True, "a": False}


def test_cases_that_are_equal_in_both_beat_each_other_in_neither() -> None:
    rows = traded([row("a", 100.0, 8), row("b", 100.0, 8), row("c", 90.0, 9)])
    assert column(rows, "on_front") == {"a": True, "b": True, "c": False}


def test_a_case_with_a_failed_launch_is_not_on_the_front() -> None:
    rows = traded(
        [
            row("a", 100.0, 4),
            row("a", None, None, 1, **FAILED),
            row("b", 90.0, 6),
            row("b", 90.0, 6, 1),
            row("c", 10.0, 7),
        ]
    )
    assert column(rows, "on_front") == {"a": False, "b": True, "c": False}
    assert column(rows, "choice") == {"a": None, "b": "fastest; smallest", "c": None}
    # and it is not the case to compare with: 1 - 100 / 90 = -1 / 9
    assert column(rows, "loss") == {"a": pytest.approx(-1 / 9), "b": 0.0, "c": pytest.approx(8 / 9)}


def test_where_no_case_had_all_its_launches_ok_none_is_on_the_front() -> None:
    rows = [row(c, 100.0, 4) for c in "ab"] + [row(c, None, None, 1, **FAILED) for c in "ab"]
    found = traded(rows, [40])
    assert [(r["on_front"], r["choice"], r["loss"]) for r in found] == [(False, None, None)] * 2


def test_a_case_without_a_number_stands_last() -> None:
    found = traded([row("a", None, None, **FAILED), row("b", 90.0, 6), row("c", 100.0, 7)])
    assert [(r["case_id"], r["on_front"], r["loss"]) for r in found] == [
        ("c", True, 0.0),
        ("b", True, pytest.approx(0.1)),
        ("a", False, None),
    ]


def test_one_case_with_a_number_is_no_trade_off() -> None:
    assert traded([row("a", 100.0, 8), row("b", None, None, **FAILED)]) == []


def test_workload_data_device_devices_and_machine_make_a_question() -> None:
    other = [{"workload": "gpt"}, {"data": "synthetic"}, {"device": "cpu"}, {"gpus": 4}, {"torch": "2", "run_id": "s"}]
    rows = [row("a", 100.0, 8), *(row(f"b{i}", 50.0, 8, **axes) for i, axes in enumerate(other))]
    assert traded(rows) == []
    assert {
        r["case_id"] for r in traded([*rows, row("c", 90.0, 1, batch_size=4, strategy="fsdp", precision="tf32")])
    } == {
        *("a", "c"),
    }


def test_other_work_is_no_alternative() -> None:
    """The global batch is equal, so the keys differ by the data or by the way of measuring."""
    assert traded([row("a", 100.0, 8, work_key="before"), row("a", 90.0, 4, work_key="after")]) == []


# -- what fits -----------------------------------------------------------------------------------------------------


def test_the_fastest_within_each_amount_of_memory_is_named() -> None:
    rows = [row("a", 100.0, 60), row("b", 90.0, 24), row("c", 80.0, 23.9), row("d", 20.0, 16)]
    assert column(traded(rows, [80, 24, 23.95, 15.5]), "choice") == {
        "a": "fastest; fastest within 80 GiB",
        "b": "fastest within 24 GiB",  # 24 GiB fit into 24 GiB
        "c": "fastest within 23.95 GiB",
        "d": "smallest",  # nothing fits into 15.5 GiB
    }


def test_one_case_may_be_all_of_them() -> None:
    rows = [row("a", 100.0, 8), row("b", 90.0, 9)]
    assert (
        column(traded(rows, [8, 10]), "choice")["a"] == "fastest; smallest; fastest within 8 GiB; fastest within 10 GiB"
    )


def test_what_fits_but_failed_once_is_not_named() -> None:
    rows = [row("a", 100.0, 4), row("a", None, None, 1, **FAILED), row("b", 50.0, 6), row("c", 70.0, 9)]
    assert column(traded(rows, [8]), "choice") == {"a": None, "c": "fastest", "b": "smallest; fastest within 8 GiB"}


# -- memory --------------------------------------------------------------------------------------------------------


def test_memory_is_the_median_of_what_is_used_of_the_device() -> None:
    assert memory(row("a", 1.0, 4), row("a", 1.0, 10, 1), row("a", 1.0, 5, 2)) == {"a": ("device_used_mib", 5 * 1024)}


def test_all_cases_of_a_question_have_the_first_measure_that_all_know() -> None:
    known = {"peak_reserved_mib": 3000.0, "peak_allocated_mib": 2000.0, "peak_rss_mib": 10.0}
    assert memory(row("a", 1.0, 4, **known), row("b", 1.0, None, **known)) == {
        "a": ("peak_reserved_mib", 3000.0),
        "b": ("peak_reserved_mib", 3000.0),
    }
    assert memory(row("a", 1.0, 4, **known), row("b", 1.0, None, peak_allocated_mib=1.0)) == {
        "a": ("peak_allocated_mib", 2000.0),
        "b": ("peak_allocated_mib", 1.0),
    }
    assert memory(row("a", 1.0, 4, **known), row("b", 1.0)) == {"a": (None, None), "b": (None, None)}


def test_each_question_has_a_measure_of_its_own_and_failed_cases_have_no_say() -> None:
    known = {"peak_reserved_mib": 3000.0}
    found = memory(row("a", 1.0, 4), row("b", None, None, **FAILED), row("c", 1.0, None, gpus=4, **known))
    assert found == {"a": ("device_used_mib", 4096), "b": (None, None), "c": ("peak_reserved_mib", 3000)}


def test_on_the_cpu_memory_is_the_resident_set() -> None:
    assert memory(row("a", 1.0, None, device="cpu", peak_rss_mib=700.0)) == {"a": ("peak_rss_mib", 700.0)}


def test_where_the_number_of_workers_varies_their_memory_counts() -> None:
    def loads(case_id: str, workers: int | None, host: float | None, rss: float = 400.0) -> LaunchRow:
        return row(case_id, 1.0, device="cpu", num_workers=workers, peak_host_mib=host, peak_rss_mib=rss)

    assert memory(loads("a", 0, 300.0), loads("b", 2, 1100.0)) == {
        "a": ("peak_host_mib", 300.0),
        "b": ("peak_host_mib", 1100.0),
    }
    assert memory(loads("a", 2, 300.0), loads("b", 2, 1100.0)) == {
        "a": ("peak_rss_mib", 400.0),
        "b": ("peak_rss_mib", 400.0),
    }
    of_an_older_run = memory(loads("a", None, 300.0), loads("b", 2, None))
    assert of_an_older_run == {"a": ("peak_rss_mib", 400.0), "b": ("peak_rss_mib", 400.0)}


def test_unknown_memory_leaves_the_speeds_and_names_nothing() -> None:
    found = traded([row("a", 100.0), row("b", 90.0)], [24])
    assert [(r["case_id"], r["on_front"], r["choice"], round(r["loss"], 6)) for r in found] == [
        ("a", False, None, 0.0),
        ("b", False, None, 0.1),
    ]


# -- losses --------------------------------------------------------------------------------------------------------


def test_a_loss_is_bounded_by_the_paired_ratios() -> None:
    """Ratios 0.9 and 0.8: mean log -0.1642520, half the difference of the logs 0.0588915 x 12.706205 = 0.7482878;
    exp(-0.164252 -+ 0.748288) = 0.401503, 1.793261. Slower by 1 - 170 / 200 = 15 %, from
    1 - 1.793261 to 1 - 0.401503."""
    rows = [row("a", 200.0, 8), row("a", 200.0, 8, 1), row("b", 180.0, 7), row("b", 160.0, 7, 1)]
    [fastest, found] = traded(rows)
    assert (found["loss"], found["interval"]) == (pytest.approx(0.15), "paired")
    assert (found["loss_low"], found["loss_high"]) == (
        pytest.approx(-0.793261, abs=1e-5),
        pytest.approx(0.598497, abs=1e-5),
    )
    assert [fastest[name] for name in ("loss", "loss_low", "loss_high", "interval")] == [0.0, None, None, None]
