"""What there is to say about two sides, from rows made by hand: splits, links, scaling and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from made_up_rows import launch

from bench.analysis.case_splits import step_of
from bench.analysis.two_sides import Side, TwoSides, two_sides
from bench.stats.comparison import compare
from bench.stats.step_split import PARTS, Step
from bench.stats.verdict import Rules
from bench.store.columns import COMMS, LaunchRow
from bench.store.comms_rates import with_rates

# A step of 100 ms of four ranks: 2 % wait for data, 10 % for communication.
PROFILED = {"world_size": 4, "gpus": 4, "step_mean_ms": 100.0, "data_wait_share": 0.02}
PROFILED |= {"comm_method": "profile", "exposed_comm_share": 0.1}


def sessions(name: str, rates: Sequence[float], **known: Any) -> list[LaunchRow]:
    """A session of two launches for each throughput, 0.1 % apart."""
    return [
        launch(
            run_id=f"{name}{n}",
            launch_id=f"{name}{n}{turn}",
            block=turn,
            samples_per_s=rate * (1 + turn / 1e3),
            **known,
        )
        for n, rate in enumerate(rates)
        for turn in range(2)
    ]


def found(a: Sequence[LaunchRow], b: Sequence[LaunchRow], **more: Any) -> TwoSides:
    return two_sides(compare(a, b, Rules()), Side(a), Side(b), **more)


# -- parts of a step -----------------------------------------------------------------------------------------------


def test_the_parts_of_a_launch() -> None:
    assert step_of(launch(**PROFILED)) == Step(2, 10, 88)


def test_one_rank_has_no_communication() -> None:
    row = launch(world_size=1, step_mean_ms=50.0, data_wait_share=0.1)
    assert step_of(row) == Step(5, 0, 45)


@pytest.mark.parametrize("name", ["step_mean_ms", "data_wait_share", "exposed_comm_share"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_launch_without_a_number_has_no_parts(name: str, value: float | None) -> None:
    assert step_of(launch(**{**PROFILED, name: value})) is None


def test_a_case_is_split_by_the_launches_of_one_method() -> None:
    """B has one launch by ablation as well, which does not count."""
    slow = {**PROFILED, "step_mean_ms": 150.0, "exposed_comm_share": 0.4}
    ablated = launch(**{**slow, "comm_method": "ablation", "exposed_comm_share": 0.9}, run_id="b", block=7)
    [case] = found(sessions("a", [40.0] * 2, **PROFILED), [*sessions("b", [26.7] * 2, **slow), ablated]).splits
    assert case.split is not None
    assert (case.method, case.split.units) == ("profile", "sessions")
    assert [part.change_ms for part in case.split.parts] == pytest.approx([1, 50, -1])
    assert case.split.cause is case.split.parts[1]


NONE: dict[str, Any] = {"comm_method": None, "exposed_comm_share": None}


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        (NONE, NONE, "neither side was profiled; measure both with bench run --profile on"),
        ({}, NONE, "B was not profiled; measure both with bench run --profile on"),
        (NONE, {}, "A was not profiled; measure both with bench run --profile on"),
        (
            {"comm_method": "ablation"},
            {},
            "A was profiled by ablation and B by profile; measure both with bench run --profile on",
        ),
        ({}, {**NONE, "comm_note": "dp has no collectives"}, "B: dp has no collectives"),
        (
            {"data_wait_share": None},
            {},
            "rows without step_mean_ms or data_wait_share; measure both with this version of stepbench",
        ),
    ],
)
def test_why_a_case_has_no_split(a: dict[str, Any], b: dict[str, Any], why: str) -> None:
    [case] = found(sessions("a", [40.0], **PROFILED | a), sessions("b", [30.0], **PROFILED | b)).splits
    assert (case.split, case.why) == (None, why)


def test_only_cases_that_can_be_compared_are_looked_at() -> None:
    """Another batch size on each side, other work, and a failure of B."""
    a = [
        *sessions("a", [40.0], batch_size=1),
        *sessions("a", [40.0], batch_size=3),
        *sessions("a", [40.0], batch_size=4),
    ]
    b = [*sessions("b", [40.0], batch_size=2), *sessions("b", [40.0], batch_size=3, work_key="other")]
    b += [row.but(status="oom", samples_per_s=None) for row in sessions("b", [40.0], batch_size=4)]
    both = found(a, b, prices=(1.0, 1.0))
    assert (both.labels, both.splits, len(both.costs), len(both.scaling)) == ({}, [], 0, 0)
    assert {one.verdict for one in both.gate.verdicts} == {"missing", "new", "incomparable", "broken"}


def test_the_frame_has_a_row_for_each_part() -> None:
    slow = {**PROFILED, "step_mean_ms": 150.0, "exposed_comm_share": 0.4}
    both = found(sessions("a", [40.0] * 2, **PROFILED), sessions("b", [26.7] * 2, **slow))
    frame = both.split
    assert frame["part"].tolist() == [*PARTS, "step"]
    assert frame["label"].unique().tolist() == ["resnet18 ddp ×4"]
    assert frame["change_ms"].tolist() == pytest.approx([1, 50, -1, 50])
    assert frame["share"].tolist() == pytest.approx([0.02, 1, -0.02, 1])


# -- costs ---------------------------------------------------------------------------------------------------------


def test_costs_of_a_million() -> None:
    """Two devices at $1.80 an hour are $0.001 a second. A million samples at 100 a second take 10,000 s: $10; of 20 tokens
    each a million tokens are a twentieth. B costs twice as much an hour and is four times as fast."""
    a = sessions("a", [100.0] * 2, gpus=2, tokens_per_s=2000.0, joules_per_sample=3.0)
    b = sessions("b", [400.0] * 2, gpus=2, tokens_per_s=8000.0, joules_per_sample=1.5)
    [row] = found(a, b, prices=(1.8, 3.6)).costs.to_dict("records")
    assert row["per_million_samples_a"] == pytest.approx(10, rel=1e-3)
    assert row["per_million_tokens_a"] == pytest.approx(0.5, rel=2e-3)
    assert row["per_million_samples_b"] == pytest.approx(5, rel=1e-3)
    assert row["per_million_samples_low_a"] < 10 < row["per_million_samples_high_a"] * 1.001
    assert (row["ratio"], row["cheaper"]) == (pytest.approx(0.5), "B")
    assert [row["ratio_low"], row["ratio_high"]] == pytest.approx([0.5, 0.5])  # The sessions do not differ.
    assert (row["joules_per_sample_a"], row["joules_per_sample_b"], row["joules_ratio"]) == (3.0, 1.5, 0.5)
    assert row["joules_per_token_a"] == pytest.approx(0.15, rel=1e-3)


def test_which_costs_less_is_decided_by_the_bounds_of_the_verdict() -> None:
    """Sessions 1 % apart on each side: log ratio 0, with bounds far beyond. A single session has none."""
    a, b = sessions("a", [100.0, 101.0]), sessions("b", [101.0, 100.0])
    assert found(a, b, prices=(1.0, 1.0)).costs["cheaper"].tolist() == [""]
    assert found(a, b, prices=(1.0, 2.0)).costs["cheaper"].tolist() == ["A"]
    [row] = found(a[:2], b[:2], prices=(1.0, 2.0)).costs.to_dict("records")
    assert (row["ratio"], row["cheaper"]) == (pytest.approx(2 * 100 / 101), "")
    assert math.isnan(row["ratio_low"])


def test_without_prices_only_cases_with_joules_have_a_row() -> None:
    rows = [*sessions("a", [100.0], joules_per_sample=2.0), *sessions("a", [100.0], batch_size=7)]
    [row] = found(rows, rows).costs.to_dict("records")
    assert row["joules_per_sample_a"] == 2.0
    assert math.isnan(row["per_million_samples_a"])
    assert math.isnan(row["ratio"])


# -- collectives ---------------------------------------------------------------------------------------------------


def comms(name: str, times_us: dict[int, Sequence[float]], collective: str = "all_reduce", **known: Any) -> Side:
    """A run of a launch for each time of a size; the bus bandwidth is that of 4 ranks."""
    count = max(map(len, times_us.values()))
    launches = [
        launch(
            **{"run_id": name, "launch_id": f"{name}{n}", "block": n, "order": n, "gpus": 4, "workload": "comms"},
            **{"samples_per_s": None, "strategy": None, "device": "cpu", "world_size": 4, **known},
        )
        for n in range(count)
    ]
    rows = [
        dict.fromkeys(COMMS)
        | {column: getattr(of, column) for column in COMMS if column in LaunchRow._fields}
        | {"status": "ok", "collective": collective, "group": "all", "group_ranks": "0-3", "group_size": 4}
        | {"dtype": "float32", "size_bytes": size, "message_bytes": size, "time_us": times[n], "backend": "gloo"}
        | {"busbw_gb_per_s": 1.5 * size / times[n] / 1e3}
        for size, times in times_us.items()
        for n, of in enumerate(launches[: len(times)])
    ]
    return Side(with_rates(launches, rows), rows)


def test_links_by_the_largest_and_the_smallest_common_size() -> None:
    """A: 1 KiB in 400 µs and 64 MiB in 100 ms, of which the bus moves one and a half times. B takes 5 and 4 times as
    long, in every launch alike; B alone has 128 MiB."""
    small, large = 1024, 64 << 20
    a = comms("a", {small: [400.0, 410.0], large: [1e5, 1.1e5]})
    b = comms("b", {small: [2000.0, 2050.0], large: [4e5, 4.4e5], 2 * large: [8e5, 8e5]})
    [row] = two_sides(compare(a.rows, b.rows, Rules()), a, b).links.to_dict("records")
    assert (row["smallest_bytes"], row["largest_bytes"]) == (small, large)
    medians = [1.5 * large * (1 / 1e5 + 1 / 1.1e5) / 2 / 1e3 / times for times in (1, 4)]
    assert [row["busbw_a"], row["busbw_b"]] == pytest.approx(medians)
    assert (row["busbw_ratio"], row["time_ratio"]) == (pytest.approx(0.25), pytest.approx(5.0))
    assert row["busbw_low"] < 0.25 < row["busbw_high"]
    assert (row["time_us_a"], row["time_us_b"], row["launches_a"]) == (405.0, 2025.0, 2)


def test_links_without_a_common_size_or_group_have_no_row() -> None:
    a = comms("a", {1024: [400.0, 410.0]})
    for b in (comms("b", {2048: [400.0, 410.0]}), comms("b", {1024: [400.0]}, "all_gather"), Side([])):
        assert two_sides(compare(a.rows, b.rows, Rules()), a, b).links.empty


# -- scaling -------------------------------------------------------------------------------------------------------


def test_scaling_where_both_sides_have_it() -> None:
    """Weak scaling from 1 device to 4: 3 and 2 times the throughput of one, 75 % and 50 %."""
    sides = []
    for name, most in (("a", 300.0), ("b", 200.0)):
        few = sessions(name, [100.0], gpus=1, world_size=1, batch_size=8, global_batch=8)
        many = sessions(name, [most], gpus=4, world_size=4, batch_size=8, global_batch=32)
        sides.append([*few, *many])
    both = found(*sides)
    [row] = both.scaling.to_dict("records")
    assert (row["mode"], row["gpus"], row["base_gpus"]) == ("weak", 4, 1)
    assert (row["efficiency_a"], row["efficiency_b"]) == (pytest.approx(0.75), pytest.approx(0.5))
    assert len(both.answers) == 2
    alone = found(sides[0], sides[1][2:])
    assert (alone.scaling.empty, alone.answers) == (True, [])
