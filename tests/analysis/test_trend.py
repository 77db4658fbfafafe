"""Trends over sessions: medians and intervals, gaps, environments, what changed, and change points."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from made_up_rows import session

from bench.analysis.trend import Series, Trend, trend
from bench.stats.intervals import of_median_log
from bench.store.columns import LaunchRow

SOFTWARE = {
    **{"torch": "2.11.0", "python": "3.12.1", "cpu_model": "EPYC", "settings": "{}", "tool_version": "0.3.0"},
    "work_commit": "abcdef0123456789",
}
RATES = [100.0, 104.0, 99.0]


def silent(text: str) -> None:
    raise AssertionError(text)


def run_id(day: int) -> str:
    return f"202601{day:02}-030000-00aa"


def of_day(day: int, rates: Sequence[float] = RATES, **known: Any) -> list[LaunchRow]:
    began = {"run_id": run_id(day), "started_at": f"2026-01-{day:02}T03:00:01Z"}
    return session(rates, **{**began, **SOFTWARE, **known})


def found(*sessions: Sequence[LaunchRow], metrics: Sequence[str] | None = ("samples_per_s",)) -> Trend:
    return trend([row for one in sessions for row in one], metrics, silent)


def only(of: Trend) -> Series:
    [one] = of.series
    return one


def values(series: Series) -> list[float | None]:
    return [None if math.isnan(point.value) else point.value for point in series.points]


# -- points --------------------------------------------------------------------------------------------------------


def test_a_point_is_the_median_with_the_interval_of_a_report() -> None:
    """Of 99, 100 and 104 the median is 100; three launches reach 0.85 of their log range beyond both ends."""
    [point] = only(found(of_day(1))).points
    reach = 0.85 * math.log(104 / 99)
    assert point.value == 100
    assert (point.low, point.high) == pytest.approx((99 / math.exp(reach), 104 * math.exp(reach)))
    assert (point.low, point.high) == pytest.approx(tuple(map(math.exp, of_median_log([math.log(x) for x in RATES]))))
    assert (point.launches, point.status, point.session) == (3, "ok", 0)


def test_one_launch_has_no_interval() -> None:
    [point] = only(found(of_day(1, [100]))).points
    assert (point.value, math.isnan(point.low), math.isnan(point.high)) == (100, True, True)


def test_sessions_are_in_the_order_in_which_they_began() -> None:
    """By their launches; a run of an old version has only the time of its id."""
    old = of_day(2, [102.0], started_at=None)
    series = only(found(of_day(3, [103.0]), of_day(1, [101.0]), old))
    assert values(series) == [101, 102, 103]


def test_a_session_without_a_figure_is_a_gap_with_its_reason() -> None:
    failed = [row.but(status="oom", reason="rank 1: out of memory", samples_per_s=None) for row in of_day(2)]
    partly = [*of_day(3)[:2], of_day(3)[2].but(status="crashed", reason="rank 0 raised", samples_per_s=None)]
    series = only(found(of_day(1), failed, partly))
    assert values(series) == [100, None, 102]
    assert [(p.launches, p.status, p.reason) for p in series.points] == [
        (3, "ok", ""),
        (0, "oom", "rank 1: out of memory"),
        (2, "crashed", "rank 0 raised"),
    ]


def test_a_session_that_did_not_measure_a_column_is_no_gap_in_it() -> None:
    """A comparison counts no work, for example."""
    series = only(found(of_day(1, operations=9), of_day(2), of_day(3, operations=9), metrics=["operations"]))
    assert [point.session for point in series.points] == [0, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_number_is_none(value: float) -> None:
    broken = [row.but(samples_per_s=value) for row in of_day(2)]
    series = only(found(of_day(1), broken))
    assert values(series) == [100, None]
    assert series.points[1].reason == "no samples_per_s"


def test_a_case_without_any_figure_has_no_trend() -> None:
    failed = [row.but(status="crashed", samples_per_s=None) for row in of_day(1)]
    of = found(failed)
    assert (of.series, list(of.labels), of.sessions[0].statuses) == ([], ["a"], "3 crashed")


def test_cases_have_the_labels_and_the_order_of_a_report() -> None:
    of = found(of_day(1, strategy="fsdp"), of_day(1, strategy="single"), of_day(2, strategy="ddp"))
    assert list(of.labels.values()) == ["single ×2 fp32", "ddp ×2 fp32", "fsdp ×2 fp32"]
    assert [[point.session for point in series.points] for series in of.series] == [[0], [1], [0]]


def test_figures_are_throughput_step_time_memory_and_counts_unless_others_are_named() -> None:
    on_cpu = {"device": "cpu", "step_ms": 8.0, "peak_rss_mib": 500.0, "peak_allocated_mib": 1.0}
    assert [one.metric for one in found(of_day(1, **on_cpu), metrics=None).series] == [
        "samples_per_s",
        "step_ms",
        "peak_rss_mib",
    ]
    on_gpu = {"device": "cuda", "step_ms": 8.0, "peak_rss_mib": 500.0, "peak_allocated_mib": 1.0}
    counts = {"operations": 700, "collective_bytes": 0, "activation_bytes": 4096}
    assert [one.metric for one in found(of_day(1, **on_gpu, **counts), metrics=None).series][2:] == [
        "peak_allocated_mib",
        "operations",
        "activation_bytes",
    ]


@pytest.mark.parametrize("count", [0, 7])
def test_counts_have_a_trend(count: int) -> None:
    """A count may be 0, which has no logarithm; a change of it needs no test."""
    days = [of_day(day, recompilations=count if day < 3 else 9) for day in (1, 2, 3, 4)]
    series = only(found(*days, metrics=["recompilations"]))
    assert values(series) == [count, count, 9, 9]
    [change] = series.changes
    assert (change.session, change.before, change.after, change.kind, change.p) == (2, count, 9, "exact", None)


# -- what changed --------------------------------------------------------------------------------------------------


def marks(of: Trend) -> list[tuple[int, str, str]]:
    return [dataclasses.astuple(mark) for mark in of.marks["a"]]


def test_a_change_of_environment_names_the_columns() -> None:
    new = {"torch": "2.12.0", "env_key": "other", "settings": json.dumps({"NCCL_ALGO": "Ring"})}
    of = found(of_day(1), of_day(2, **new), of_day(3, **new), of_day(4))
    assert [point.environment for point in only(of).points] == ["A", "B", "B", "A"]
    assert marks(of) == [
        (1, "environment", "environment B: torch: 2.11.0 before, 2.12.0 now; NCCL_ALGO: not set before, Ring now"),
        (3, "back", "back to environment A"),
    ]


def test_changes_of_code_and_stepbench_are_marked() -> None:
    code = {"code_key": "c2", "work_commit": "fedcba9876543210", "work_dirty": True}
    of = found(
        of_day(1, code_key="c1"),
        of_day(2, **code),
        of_day(3, **code, tool_version="0.4.0"),
        of_day(4, **code, tool_version="0.4.0", work_key="other"),
        of_day(5, **{**code, "code_key": "c3"}, tool_version="0.4.0", work_key="other", packages="timm 1.0"),
    )
    assert marks(of) == [
        (1, "code", "your code: abcdef012 before, fedcba987 with changes now"),
        (2, "tool", "stepbench: 0.3.0 before, 0.4.0 now"),
        (3, "work", "other data, or stepbench measures differently (work_key)"),
        (
            4,
            "code",
            "your code: fedcba987 with changes before, fedcba987 with changes now; packages: none before, timm 1.0 now",
        ),
    ]


def test_nothing_changed_is_no_mark() -> None:
    """Neither another host of the same kind nor a session that failed is a change."""
    failed = [row.but(status="crashed", torch=None, samples_per_s=None) for row in of_day(2)]
    of = found(of_day(1), failed, of_day(3, hostname="another"))
    assert marks(of) == []
    assert [session.hostname for session in of.sessions] == ["here", "here", "another"]


def test_launches_of_one_session_that_are_unlike_are_not_put_together() -> None:
    told: list[str] = []
    rows = [*of_day(1)[:2], of_day(1, [50.0, 50.0, 50.0], torch="2.12.0")[2]]
    [point] = only(trend(rows, ["samples_per_s"], told.append)).points
    assert (point.value, point.launches) == (50, 1)
    assert told == ["launches are left out (2): they differ from later ones of their session in environment or code"]


# -- change points -------------------------------------------------------------------------------------------------


def days(levels: Sequence[float], **known: Any) -> list[list[LaunchRow]]:
    random = np.random.default_rng(3)
    return [
        of_day(day, [level * math.exp(random.normal(0, 0.01)) for _ in range(3)], **known)
        for day, level in enumerate(levels, 1)
    ]


def test_a_step_has_its_session_and_the_medians_of_both_sides() -> None:
    series = only(found(*days([100.0] * 14 + [90.0] * 12)))
    [change] = series.changes
    medians = [point.value for point in series.points]
    assert (change.session, change.kind) == (14, "step")
    assert change.before == pytest.approx(statistics.median(medians[:14]), rel=1e-3)  # of logs: 14 is even
    assert change.after == pytest.approx(statistics.median(medians[14:]), rel=1e-3)
    assert change.ratio == pytest.approx(0.9, abs=0.01)


def test_a_step_between_environments_or_works_is_no_change_point() -> None:
    before = days([100.0] * 14 + [90.0] * 12)
    after = {"env": {"torch": "2.12.0"}, "work": {"work_key": "other"}}
    for known in after.values():
        of = found(*(rows if day < 14 else [row.but(**known) for row in rows] for day, rows in enumerate(before)))
        assert only(of).changes == []
        assert of.tested == 2


def test_machines_that_take_turns_are_searched_apart() -> None:
    """A pool of two machines, of which one is twice as fast and the other gets slower."""
    levels = [level for day in range(14) for level in (100.0, 200.0 if day < 8 else 180.0)]
    rows = [
        [row.but(cpu_model="Xeon") for row in of_one] if place % 2 else of_one
        for place, of_one in enumerate(days(levels))
    ]
    series = only(found(*rows))
    assert [(change.session, round(change.after / change.before, 1)) for change in series.changes] == [(17, 0.9)]


def test_a_gap_is_no_change() -> None:
    rows = days([100.0] * 24)
    rows[9] = [row.but(status="crashed", samples_per_s=None) for row in rows[9]]
    assert only(found(*rows)).changes == []


def test_rows_of_an_older_schema_go_on_in_the_same_trend() -> None:
    """Version 5 had no `cpus_allowed`, and its env_key covers fewer columns: what is known of both is equal."""
    old = [row.but(schema=5, env_key="old", cpus_allowed=None) for row in of_day(1)]
    of = found(old, of_day(2, cpus_allowed=8), of_day(3, cpus_allowed=8))
    assert {point.environment for point in only(of).points} == {"A"}
    assert marks(of) == []


def test_hostile_texts_are_texts() -> None:
    hostile = {"tool_version": "<script>", "work_commit": "\ud800", "code_key": "=1+1", "hostname": "\x1b[2J"}
    of = found(of_day(1), of_day(2, **hostile))
    assert [mark.kind for mark in of.marks["a"]] == ["code", "tool"]
