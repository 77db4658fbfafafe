"""Which rank or node is slow, from rows whose figures are worked out by hand; and what is said and drawn of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from made_up_rows import RUN, launch

from bench.analysis.answers import Answers, answer
from bench.analysis.frames import no_steps
from bench.analysis.slow_ranks import READ
from bench.report.charts import charts
from bench.report.headline import headline
from bench.report.tables import tables
from bench.store.columns import IN_WINDOW

STEPS = 10


def ranks(number: int, own_ms: Sequence[float], hosts: Sequence[int] = (), **known: Any) -> list[dict[str, Any]]:
    """Rows of ranks.csv of a launch, in which a rank takes as long in every step."""
    return [
        {
            **dict.fromkeys(READ),
            **{"run_id": RUN, "launch_id": f"{number:04}-a", "rank": rank, "local_rank": 0, "device_name": "cpu"},
            **{"node": (hosts or [0] * 99)[rank], "host": f"n{(hosts or [0] * 99)[rank]}", "own_method": IN_WINDOW},
            **{"own_ms": ms, "own_cv": 0.0, "last_share": float(ms == max(own_ms))},
            "own_steps_ms": ";".join([str(ms)] * STEPS),
            **known,
        }
        for rank, ms in enumerate(own_ms)
    ]


def answers(rows: list[list[dict[str, Any]]], **known: Any) -> Answers:
    of_launches = [
        launch(**{"launch_id": f"{n:04}-a", "order": n, "block": n, "gpus": 4, "world_size": len(of), **known})
        for n, of in enumerate(rows)
    ]
    return answer(of_launches, no_steps(), ranks=[row for of in rows for row in of])


def said(found: Answers) -> list[str]:
    return [sentence for sentence in headline(found) if "last in" in sentence or "Slow ranks" in sentence]


def test_a_slow_rank_is_named() -> None:
    found = answers([ranks(n, [10, 10, 12, 11]) for n in range(3)])
    frame = found.slow_ranks
    assert frame["excess"].tolist() == pytest.approx([10 / 11 - 1, 10 / 11 - 1, 0.2, 0.1])
    assert frame["slow"].isna().tolist() == [True, True, False, False]
    assert said(found) == [
        "resnet18, ddp ×4 fp32: rank 2 (n0) is 20.0% slower than the median of the other ranks (at least 20.0%), "
        "and is the last in 100% of steps.",
        "resnet18, ddp ×4 fp32: rank 3 (n0) is 10.0% slower than the median of the other ranks (at least 10.0%), "
        "and is the last in 0% of steps.",
    ]
    [table] = [table for table in tables(found) if table.name == "slow_ranks"]
    assert [cells[1] for cells in table.cells()] == ["0", "1", "2", "3"]


def test_of_a_gpu_its_number_on_the_host_is_told() -> None:
    found = answers([ranks(n, [10, 30]) for n in range(3)], device="cuda")
    assert said(found) == [
        "resnet18, ddp ×4 fp32: rank 1 (n0, GPU 0) takes 3 times as long as the median of the other ranks (at least 3 times), "
        "and is the last in 100% of steps."
    ]


def test_a_node_is_named_if_all_its_ranks_are_slow() -> None:
    hosts = [0, 0, 1, 1, 2, 2]
    found = answers([ranks(n, [10, 10, 13, 14, 10, 10], hosts) for n in range(3)])
    assert found.slow_ranks["slow"].tolist()[2:4] == ["node", "node"]
    assert said(found) == [
        "resnet18, ddp ×4 fp32: node 1 (n1) is 35.0% slower than the median of the other nodes (at least 35.0%), "
        "and is the last in 100% of steps."
    ]
    one = answers([ranks(n, [10, 10, 13, 10, 10, 10], hosts) for n in range(3)])
    assert [sentence.partition(" is")[0] for sentence in said(one)] == ["resnet18, ddp ×4 fp32: rank 2 (n1)"]


def test_nobody_is_named_where_nobody_is_slow_or_little_is_known() -> None:
    assert said(answers([ranks(n, [10, 10.3]) for n in range(3)])) == []
    assert said(answers([ranks(0, [10, 12])])) == []  # one launch
    assert len(said(answers([ranks(0, [10, 13])]))) == 1


def test_launches_on_other_hosts_are_not_mixed() -> None:
    here, there = [0, 1], [1, 0]
    rows = [ranks(0, [10, 15], here), ranks(1, [15, 10], there), ranks(2, [10, 15], here), ranks(3, [15, 10], there)]
    frame = answers(rows).slow_ranks
    assert list(zip(frame["rank"], frame["host"], frame["launches"], strict=True)) == [
        *((0, "n0", 2), (1, "n1", 2), (0, "n1", 2), (1, "n0", 2)),
    ]
    assert frame["excess"].tolist() == pytest.approx([-1 / 3, 0.5, 0.5, -1 / 3])


@pytest.mark.parametrize("cell", ["", "x", "1;2", "0;1;1;1;1;1;1;1;1;1", "inf;1;1;1;1;1;1;1;1;1"])
def test_what_are_no_own_times_is_left_out(cell: str) -> None:
    broken = ranks(0, [10, 20])
    broken[0]["own_steps_ms"] = cell
    assert answers([broken]).slow_ranks.empty


def test_launches_that_failed_or_were_replaced_do_not_count() -> None:
    assert answers([ranks(0, [10, 20])], status="crashed").slow_ranks.empty


def test_the_heat_map_has_a_row_for_each_rank() -> None:
    found = answers([ranks(n, [10, 20 + n]) for n in range(3)])
    [chart] = [chart for chart in charts(found) if chart.name.startswith("ranks")]
    assert "Rank 1 has the most: 21 ms, +109.8% to the others" in chart.alt  # (20 x 21 x 22)^(1/3) / 10
    assert chart.data["rank 1 n0"].tolist() == [20.0] * STEPS + [21.0] * STEPS + [22.0] * STEPS
    assert len(chart.figure().axes) == 1


def test_of_many_launches_and_ranks_a_part_is_drawn() -> None:
    found = answers([ranks(n, [10.0 + rank for rank in range(40)]) for n in range(30)])
    [chart, *_] = [chart for chart in charts(found) if chart.name.startswith("ranks")]
    assert "Of 40 ranks these are the 32 with the most own time" in chart.note
    assert len(chart.data) <= 60
