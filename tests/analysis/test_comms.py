"""Answers about collectives, from made-up rows whose figures are worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from made_up_rows import RUN, launch, session

from bench.analysis.answers import answer
from bench.analysis.comms import CommsAnswers, comms_answers
from bench.analysis.frames import launches, no_steps
from bench.report.charts.bandwidth import bandwidth
from bench.report.comms import comms_sentences, comms_tables
from bench.stats.comparison import compare
from bench.stats.verdict import Rules
from bench.store.code_versions import with_codes
from bench.store.columns import COMMS, LaunchRow
from bench.store.comms_rates import with_rates
from bench.store.environments import with_environments

K = 1024
OF_COMMS = {"workload": "comms", "strategy": "none", "samples_per_s": None, "gpus": 4, "nproc_per_node": "2(x2)"}


def rows(block: int, time_us: dict[int, float], run: str = RUN, **known: Any) -> list[dict[str, Any]]:
    """Rows of comms.csv: an all-reduce over two ranks, of which the whole message passes the link."""
    own = {"run_id": run, "launch_id": f"{block:04}-a", "block": block, "status": "ok", "collective": "all_reduce"}
    own |= {"group": "all", "group_ranks": "0-1", "group_size": 2, "dtype": "float32", "gpus": 4, "device": "cpu"}
    own |= {"nproc_per_node": "2(x2)", "backend": "gloo", "correct": True, "iterations": 20, "time_cv": 0.1}
    return [
        {
            **dict.fromkeys(COMMS),
            **own,
            **{"size_bytes": size, "message_bytes": size, "time_us": time},
            **{"algbw_gb_per_s": size / time / 1e3, "busbw_gb_per_s": size / time / 1e3},
            **known,
        }
        for size, time in time_us.items()
    ]


def of_launches(blocks: int, **known: Any) -> list[LaunchRow]:
    return [launch(**OF_COMMS, block=n, order=n, launch_id=f"{n:04}-a", **known) for n in range(blocks)]


def answers(found: list[dict[str, Any]], blocks: int) -> CommsAnswers:
    return comms_answers(with_codes(with_environments(launches(of_launches(blocks)))), found)


def test_sizes_are_medians_over_launches() -> None:
    times = [{K: 10.0, 2 * K: 30.0}, {K: 12.0, 2 * K: 20.0}, {K: 20.0, 2 * K: 25.0}]
    found = answers([row for n, one in enumerate(times) for row in rows(n, one)], 3)
    first, second = found.sizes.to_dict("records")
    assert (first["size_bytes"], first["time_us"], first["ok"], first["correct"]) == (K, 12, 3, True)
    assert first["spread"] == pytest.approx(10 / 12)
    assert first["busbw_gb_per_s"] == pytest.approx(K / 12e-6 / 1e9)
    assert first["time_us_low"] < 10 < 20 < first["time_us_high"]
    assert (second["size_bytes"], second["time_us"]) == (2 * K, 25)


def test_the_model_is_fitted_to_each_launch() -> None:
    sizes = (K, 64 * K, 1024 * K)
    found = answers(
        [row for n, us in enumerate((10, 40)) for row in rows(n, {size: us + size / 100 for size in sizes})], 2
    )
    [model] = found.models.to_dict("records")
    assert (model["alpha_us"], model["beta"]) == (pytest.approx(20), pytest.approx(100))  # geometric means
    assert (model["least_bytes"], model["best_bytes"]) == (K, 1024 * K)
    assert model["latency_us"] == pytest.approx((20.24 + 50.24) / 2)
    [sentence] = comms_sentences(found)
    assert sentence.startswith("all_reduce over 2 ranks (all 0-1, gloo, float32): 35.24 µs at 1K, ")
    assert "t = 20 µs + bytes / (0.1 GB/s)" in sentence


def test_slow_groups_are_named() -> None:
    pairs = {"0-1": 100.0, "0,2": 101.0, "1-2": 150.0}
    found = answers(
        [row for ranks, us in pairs.items() for row in rows(0, {K: us}, group="pairs", group_ranks=ranks)], 1
    )
    slow = [sentence for sentence in comms_sentences(found) if "longer" in sentence]
    assert slow == ["all_reduce of 1K over ranks 1-2 takes 49% longer than the median of 3 groups (pairs)."]


def test_what_failed_is_in_the_table_and_in_a_sentence() -> None:
    bad = {"status": "skipped", "reason": "too large", "time_us": None, "algbw_gb_per_s": None, "busbw_gb_per_s": None}
    failed = [{**row, **bad} for row in rows(0, {2 * K: 1.0}, correct=None)]
    found = answers([*rows(0, {K: 10.0}), *failed], 1)
    assert [(row["status"], row["ok"]) for row in found.sizes.to_dict("records")] == [("ok", 1), ("skipped", 0)]
    assert comms_sentences(found)[-1] == "skipped: all_reduce (all), 1 rows: too large."
    tables = {table.name: list(table.cells()) for table in comms_tables(found)}
    assert tables["sizes"][1][-1] == "skipped: too large"
    assert [len(chart.data) for chart in bandwidth(found)] == [1]


def test_launches_of_collectives_are_no_cases_of_training() -> None:
    both = answer([*of_launches(2), *session([100, 101])], no_steps())
    assert list(both.summary["case_id"]) == ["a"]
    assert len(both.launches) == 4
    alone = answer(of_launches(2), no_steps())
    assert (len(alone.summary), len(alone.failures)) == (0, 0)


def test_comparisons_pair_collectives_by_size_and_group() -> None:
    """Twice as many calls per second at 1K in each of two runs a side, and one size that only A has."""
    sides = []
    for side, us in (("a", 10.0), ("b", 5.0)):
        found: list[LaunchRow] = []
        for n in range(2):
            run = f"2026010{n + 1}-120000-00{side}{side}"
            times = {K: us * (1 + n / 1000), **({2 * K: 20.0} if side == "a" else {})}
            found += with_rates(of_launches(1, run_id=run), rows(0, times, run))
        sides.append(found)
    gate = compare(sides[0], sides[1], Rules())
    first, second = gate.verdicts
    assert (first.case, first.unit) == ("all_reduce-1K-float32-all-0-1-x4-cpu", "calls/s")
    assert first.ratio == pytest.approx(2, rel=1e-3)
    assert first.samples_per_s_a == pytest.approx(1e5, rel=1e-3)
    assert (second.case, second.verdict) == ("all_reduce-2K-float32-all-0-1-x4-cpu", "missing")


def test_a_launch_without_rows_stays_as_it_is() -> None:
    [row] = with_rates(of_launches(1, status="crashed"), [])
    assert (row.workload, row.status) == ("comms", "crashed")
