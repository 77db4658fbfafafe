"""What a report says of saving: the table and the chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.patches import Rectangle

from bench.analysis.answers import Answers, answer
from bench.analysis.frames import steps
from bench.report.charts import charts
from bench.report.tables import tables
from bench.store.columns import LaunchRow

AXES = {"workload": "mlp", "strategy": "ddp", "gpus": 2, "device": "cpu", "precision": "fp32", "data": "resident"}
SAID = {"schema": 13, "run_id": "r", "role": "measure", "order": 0, "status": "ok", "samples_per_s": 90.0}
COSTS = {"save_bytes": 12_000_000, "save_mb_per_s": 3.0, "save_peak_rss_mib": 900.0, "goodput": 0.98}


def row(**changes: Any) -> LaunchRow:
    return LaunchRow.of({**AXES, **SAID, "env_key": "e", "block": 0, **changes})


def answered(*rows: LaunchRow) -> Answers:
    return answer(rows, steps(Path("of no run"), pytest.fail), [24])


def saved(way: str, blocked: float, total: float, load: float | None = 2.0, block: int = 0) -> LaunchRow:
    times = {"save_blocked_s": blocked, "save_total_s": total, "load_s": load}
    return row(save_checkpoint=way, case_id=way, block=block, **{**COSTS, **times})


ROWS = [
    row(save_checkpoint="none", case_id="none"),
    *(saved("full", 4.0, 4.0, block=block) for block in range(2)),
    saved("dcp-async", 0.5, 3.0),
    saved("dcp-async", 1.5, 5.0, block=1),
]


def test_the_table_has_the_cases_that_save() -> None:
    (table,) = [one for one in tables(answered(*ROWS)) if one.name == "saving"]
    titles = [column.title for column in table.columns]
    cells = [dict(zip(titles, one, strict=True)) for one in table.cells()]
    assert [one["case"].rpartition("save ")[2] for one in cells] == ["full", "dcp-async"]
    assert [one["stands still s"] for one in cells] == ["4", "1"]  # the median of 0.5 and 1.5
    assert [one["written after s"] for one in cells] == ["4", "4"]
    assert {(one["MB"], one["MB/s"], one["goodput"]) for one in cells} == {("12", "3", "98.0%")}
    assert "memory MiB while saving" not in titles  # on the CPU it is unknown


def test_the_chart_has_a_standstill_what_is_written_beside_and_loading() -> None:
    (chart,) = [one for one in charts(answered(*ROWS)) if one.name.startswith("saving-")]
    drawn = chart.data.set_index(chart.data["case"].str.rpartition("save ")[2])
    assert list(drawn.index) == ["full", "dcp-async"]
    assert drawn["training stands still, s"].to_list() == [4.0, 1.0]
    assert drawn["written while it trains, s"].to_list() == [0.0, 3.0]
    assert drawn["loading, s"].to_list() == [2.0, 2.0]
    assert "Longest standstill: ddp fp32 save full with 4 s." in chart.alt
    assert "Shortest: ddp fp32 save dcp-async with 1 s." in chart.alt
    widths = [round(bar.get_width(), 6) for bar in chart.figure().axes[1].patches if isinstance(bar, Rectangle)]
    assert {4.0, 2.0, 1.0, 3.0} <= set(widths)


def test_launches_that_saved_to_several_folders_are_not_put_together() -> None:
    both = [saved("full", 1.0, 1.0).but(save_dir="/a"), saved("full", 3.0, 3.0, block=1).but(save_dir="/b")]
    assert "saving" not in [table.name for table in tables(answered(*both))]
    assert "saving" in [table.name for table in tables(answered(*[one.but(save_dir="/a") for one in both]))]


def test_the_goodput_is_of_one_interval() -> None:
    both = [saved("full", 1.0, 1.0).but(save_interval=10), saved("full", 3.0, 3.0, block=1).but(save_interval=20)]
    (table,) = [one for one in tables(answered(*both)) if one.name == "saving"]
    assert "goodput" not in [column.title for column in table.columns]
    assert table.frame["save_blocked_s"].to_list() == [2.0]


@pytest.mark.parametrize("rows", [ROWS[:1], [saved("full", 1.0, 1.0).but(save_blocked_s=None)]])
def test_without_a_save_there_is_neither(rows: list[LaunchRow]) -> None:
    answers = answered(*rows)
    assert "saving" not in [table.name for table in tables(answers)]
    assert [chart.name for chart in charts(answers) if chart.name.startswith("saving")] == []


def test_a_state_that_was_not_loaded_has_no_such_bar() -> None:
    (chart,) = [one for one in charts(answered(saved("full", 1.0, 1.0, load=None))) if one.name.startswith("saving")]
    assert chart.data["loading, s"].isna().all()
    assert chart.figure()
